"""A benchmark as values that JSON can hold, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from compressor.artifacts import Benchmark, LatencyRow, LoadRow, MachineBounds, ModelCost


def to_record(benchmark: Benchmark) -> dict[str, Any]:
    """Turn a benchmark into nested mappings, lists, numbers and texts."""
    return dataclasses.asdict(benchmark)


def from_record(record: Mapping[str, Any]) -> Benchmark:
    """Rebuild the benchmark that ``to_record`` made, also after a turn through JSON."""
    bounds = record.get("bounds")
    return Benchmark(
        latency=tuple(LatencyRow(**_frozen(row)) for row in record["latency"]),
        costs=tuple(ModelCost(**_frozen(row)) for row in record["costs"]),
        notes=tuple(record["notes"]),
        noise_floor=record.get("noise_floor"),
        bounds=MachineBounds(**bounds) if bounds else None,
        load=tuple(LoadRow(**_frozen(row)) for row in record.get("load", ())),
    )


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
