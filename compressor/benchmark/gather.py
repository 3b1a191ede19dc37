"""From the answers of measuring processes to rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compressor.artifacts import LatencyRow, LoadRow, ModelCost
from compressor.benchmark.inputs import Cell
from compressor.benchmark.intervals import Logs
from compressor.benchmark.plan import MeasuredModel, Provider

Contestant = tuple[MeasuredModel, Provider]
Answer = Mapping[str, Any]


def latency_rows(one: Contestant, told: Sequence[Answer], grid: Sequence[Cell], threads: int) -> list[LatencyRow]:
    """Gather a model's samples, cell by cell, process after process."""
    model, provider = one
    rows = []
    for index, cell in enumerate(grid):
        parts = [answer["cells"][index]["samples"] for answer in told]
        rows.append(
            LatencyRow(
                model=model.name,
                provider=provider,
                threads=threads,
                batch_size=cell.batch_size,
                sequence_length=cell.sequence_length,
                samples=tuple(sample for part in parts for sample in part),
                processes=len(parts),
                calls=tuple(len(part) for part in parts),
                tokens=cell.tokens,
            )
        )
    return rows


def load_rows(one: Contestant, told: Sequence[Answer], threads: int) -> list[LoadRow]:
    """Gather a model's throughput, one row for each number of callers."""
    model, provider = one
    rows = []
    for index, first in enumerate(told[0]["load"]):
        parts = [answer["load"][index] for answer in told]
        rows.append(
            LoadRow(
                model=model.name,
                provider=provider,
                threads=threads,
                clients=first["clients"],
                rates=tuple(part["rate"] for part in parts),
                samples=tuple(sample for part in parts for sample in part["samples"]),
                calls=tuple(len(part["samples"]) for part in parts),
                tokens=first["tokens"],
            )
        )
    return rows


def cost(one: Contestant, told: Sequence[Answer]) -> ModelCost:
    """Take the medians of what a model costs beside its latency."""
    model, provider = one
    middle = {
        name: statistics.median(answer[name] for answer in told)
        for name in ("load_ms", "first_ms", "import_ms", "peak_rss_bytes")
    }
    return ModelCost(
        model=model.name,
        provider=provider,
        load_ms=middle["load_ms"],
        first_ms=middle["first_ms"],
        peak_rss_bytes=int(middle["peak_rss_bytes"]),
        import_ms=middle["import_ms"],
        inputs=tuple(told[0]["inputs"]),
        nodes=dict(told[0]["nodes"]),
    )


def log_medians(told: Sequence[Answer], cell: int) -> Logs:
    """Take the logarithm of a cell's median in each process, in the order of the rounds."""
    return np.log([statistics.median(answer["cells"][cell]["samples"]) for answer in told])
