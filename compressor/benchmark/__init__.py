"""Latency, throughput, memory and load time of several models, each in fresh processes of its own.

A measuring process imports modules of this package, and must not import onnxruntime with them before its
clock runs: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.benchmark.bounds import encoder_flops, floor_ms
    from compressor.benchmark.inputs import TokenRows
    from compressor.benchmark.plan import Budget, MeasuredModel
    from compressor.benchmark.rounds import check, measure
    from compressor.benchmark.summary import (
        Ratio,
        Verdict,
        percentiles,
        rate_ratio,
        ratio,
        speedup,
        throughput,
        verdict,
    )

__all__ = [
    "Budget",
    "MeasuredModel",
    "Ratio",
    "TokenRows",
    "Verdict",
    "check",
    "encoder_flops",
    "floor_ms",
    "measure",
    "percentiles",
    "rate_ratio",
    "ratio",
    "speedup",
    "throughput",
    "verdict",
]

_HOMES = {
    "bounds": ("encoder_flops", "floor_ms"),
    "inputs": ("TokenRows",),
    "plan": ("Budget", "MeasuredModel"),
    "rounds": ("check", "measure"),
    "summary": (
        "Ratio",
        "Verdict",
        "percentiles",
        "rate_ratio",
        "ratio",
        "speedup",
        "throughput",
        "verdict",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
