"""What the benchmark's raw samples say, as parts of report.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressor.artifacts import TEACHER, TEACHER_ONNX, Benchmark, EncoderShape, LatencyRow, LoadRow, MachineBounds
from compressor.benchmark import bounds, summary
from compressor.benchmark.plan import HALF_SUFFIX

# Four decimals are a tenth of a microsecond: below the clock, and half the file.
DECIMALS = 4


def latency_rows(benchmark: Benchmark | None, shapes: Mapping[str, EncoderShape] | None = None) -> list[dict[str, Any]]:
    """Percentiles and throughput of each measured cell, beside its raw samples and the machine's bound.

    Args:
        benchmark: ``None`` where nothing was timed.
        shapes: Model name to its sizes; without them a row has no bound.
    """
    if benchmark is None:
        return []
    return [
        {**_latency_row(row), **_bound(row, (shapes or {}).get(row.model), benchmark.bounds)}
        for row in benchmark.latency
    ]


def _bound(row: LatencyRow, shape: EncoderShape | None, machine: MachineBounds | None) -> dict[str, float | None]:
    """The least time of a call on this machine in fp32, and its share of the time that was measured."""
    tokens = row.tokens or row.batch_size * (row.sequence_length or 0)
    if shape is None or machine is None or not tokens or row.provider != "cpu":  # the bounds are the processor's
        return {"floor_ms": None, "share_of_bound": None}
    # The attention's work grows with the square of the length: the mean length bounds it from below.
    length = int(tokens / row.batch_size)
    flops = bounds.encoder_flops(
        shape.layers,
        shape.hidden,
        shape.intermediate,
        row.batch_size,
        length,
        attention=shape.attention,
        one_token=shape.one_token,
    )
    floor = bounds.floor_ms(flops, shape.weight_bytes, machine)
    return {"floor_ms": round(floor, DECIMALS), "share_of_bound": floor / summary.percentiles(row, (50,))[0]}


def _latency_row(row: LatencyRow) -> dict[str, Any]:
    names = (f"p{percentile}_ms" for percentile in summary.PERCENTILES)
    interval = summary.median_interval(row)
    return {
        "model": row.model,
        "provider": row.provider,
        "threads": row.threads,
        "batch_size": row.batch_size,
        "sequence_length": row.sequence_length,
        **{name: round(value, DECIMALS) for name, value in zip(names, summary.percentiles(row), strict=True)},
        "p50_ci95": [round(value, DECIMALS) for value in interval] if interval else None,
        "throughput": round(summary.throughput(row), 2),
        "processes": row.processes,
        "calls": list(row.calls),
        "samples": [round(sample, DECIMALS) for sample in row.samples],
    }


def speedups(benchmark: Benchmark | None, baseline: str = TEACHER_ONNX) -> list[dict[str, Any]]:
    """Every cell of every model against a baseline on the same provider: the teacher in onnxruntime."""
    if benchmark is None:
        return []
    cells = {_cell(row): row for row in benchmark.latency}
    found = []
    for row in benchmark.latency:
        base = cells.get((baseline, row.provider, row.batch_size, row.sequence_length))
        if base is None or row.model in (TEACHER, TEACHER + HALF_SUFFIX, baseline):
            continue
        ratio = summary.ratio(base, row)
        found.append(
            {
                "model": row.model,
                "provider": row.provider,
                "batch_size": row.batch_size,
                "sequence_length": row.sequence_length,
                "speedup": ratio.value,
                "ci95": None if ratio.low is None or ratio.high is None else [ratio.low, ratio.high],
                "verdict": summary.verdict(ratio, benchmark.noise_floor),
            }
        )
    return found


def load_rows(benchmark: Benchmark | None, baseline: str = TEACHER_ONNX) -> list[dict[str, Any]]:
    """Throughput and latency of every model under load, against a baseline with as many callers.

    Args:
        benchmark: ``None`` where nothing was timed.
        baseline: On the same provider; its own rows, and those that lack it, have no ratio.
    """
    if benchmark is None:
        return []
    bases = {(row.provider, row.clients): row for row in benchmark.load if row.model == baseline}
    return [_load_row(row, bases.get((row.provider, row.clients)), benchmark.noise_floor) for row in benchmark.load]


def _load_row(row: LoadRow, base: LoadRow | None, floor: float | None) -> dict[str, Any]:
    interval = summary.rate_interval(row)
    p50, _, p95, p99 = summary.sample_percentiles(row.samples)
    ratio = None if base is None or base.model == row.model else summary.rate_ratio(base, row)
    known = ratio is not None and ratio.low is not None and ratio.high is not None
    return {
        "model": row.model,
        "provider": row.provider,
        "threads": row.threads,
        "clients": row.clients,
        "tokens": row.tokens,
        "texts_per_second": round(summary.rate(row), 2),
        "texts_per_second_ci95": [round(value, 2) for value in interval] if interval else None,
        "rates": [round(rate, 2) for rate in row.rates],
        "p50_ms": round(p50, DECIMALS),
        "p95_ms": round(p95, DECIMALS),
        "p99_ms": round(p99, DECIMALS),
        "ratio": ratio.value if ratio else None,
        "ratio_ci95": [ratio.low, ratio.high] if ratio and known else None,
        "verdict": summary.verdict(ratio, floor) if ratio else None,
    }


def costs(benchmark: Benchmark | None) -> list[dict[str, Any]]:
    """Load time, first inference and memory of each model, and where its nodes run."""
    if benchmark is None:
        return []
    return [
        {
            "model": cost.model,
            "provider": cost.provider,
            "import_ms": cost.import_ms,
            "load_ms": cost.load_ms,
            "first_ms": cost.first_ms,
            "peak_rss_bytes": cost.peak_rss_bytes,
            "nodes": dict(cost.nodes),
        }
        for cost in benchmark.costs
    ]


def _cell(row: LatencyRow) -> tuple[str, str, int, int | None]:
    return row.model, row.provider, row.batch_size, row.sequence_length
