"""The measuring process: one job as JSON on stdin, one result as JSON on stdout.

Run as ``python -m compressor.benchmark.worker``; ``process.py`` starts it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.benchmark.engines import Engine, Skipped, open_engine
from compressor.benchmark.inputs import IDS, Cell, read_cells
from compressor.benchmark.load import chosen, keep_to_cores, thinned, under_load
from compressor.benchmark.plan import Budget
from compressor.benchmark.timing import time_cell
from compressor.errors import CompressorError


def main() -> int:
    """Carry out the job on stdin and write its result to stdout."""
    # Libraries print; stdout carries the result alone.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.load(sys.stdin)
    try:
        result = carry_out(job)
    except Skipped as reason:
        result = {"skipped": str(reason)}
    except CompressorError as error:
        result = {"error": {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}}
    with answer:
        json.dump(result, answer)
    return 0


def carry_out(job: Mapping[str, Any]) -> dict[str, Any]:
    """Load the job's model, time it in every cell, and then under load.

    Args:
        job: ``kind``, ``path``, ``precision``, ``task``, ``provider``, ``threads``, ``cells`` (a file of
            ``write_cells``), ``clients`` (callers at once, several numbers) and ``budget`` (the fields
            of ``Budget``).

    Returns:
        ``pid``, ``threads``, ``provider``, ``inputs``, ``nodes`` (by execution provider), ``import_ms``,
        ``load_ms``, ``first_ms``, ``peak_rss_bytes``, ``cpu_seconds``, ``modules`` (frameworks that were
        imported), ``cells``: ``samples``, ``warmup_calls``, ``steady`` and ``digest`` of each, and
        ``load``: ``clients``, ``rate``, ``samples`` and ``tokens`` of each number of callers.
    """
    parent = os.getppid()
    found = read_cells(Path(job["cells"]))
    fed = tuple(found[0].feeds[0])
    precision, task = job.get("precision", "fp32"), job.get("task", "single-label")
    engine = open_engine(job["kind"], Path(job["path"]), job["provider"], job["threads"], fed, precision, task)
    before = time.perf_counter_ns()
    engine.call(engine.prepare(found[0].feeds[0]))
    first_ms = (time.perf_counter_ns() - before) / 1e6

    budget = Budget(**job["budget"])
    cells = []
    for cell in found:
        # A parent killed outright cannot stop its worker; nobody would read the rest.
        if os.getppid() != parent:
            sys.exit(1)
        feeds = [engine.prepare(feed) for feed in cell.feeds]
        timing = time_cell(engine.call, feeds, budget, lambda feed: int(feed[IDS].size))
        cells.append(
            {
                "samples": [round(sample, 6) for sample in timing.samples],
                "warmup_calls": timing.warmup_calls,
                "steady": timing.steady,
                "digest": cell.digest,
            }
        )
    # The memory is that of the grid: callers at once need more of it.
    peak = peak_rss_bytes()
    return {
        "pid": os.getpid(),
        "threads": engine.threads,
        "provider": engine.provider,
        "inputs": list(engine.inputs),
        "nodes": dict(engine.nodes),
        "import_ms": engine.import_ms,
        "load_ms": engine.load_ms,
        "first_ms": first_ms,
        "peak_rss_bytes": peak,
        "cpu_seconds": time.process_time(),
        "modules": [name for name in ("torch", "transformers", "onnx", "onnxruntime") if name in sys.modules],
        "cells": cells,
        "load": _load(engine, found[0], job.get("clients", ()), budget),
    }


def _load(engine: Engine, texts: Cell, clients: Sequence[int], budget: Budget) -> list[dict[str, Any]]:
    """Measure single texts of the data's own lengths with several numbers of callers."""
    if not clients:
        return []
    keep_to_cores(engine.threads)
    some = chosen(texts.feeds, budget.load_texts, lambda feed: feed[IDS].size)
    feeds = [engine.prepare(feed) for feed in some]
    told = []
    for count in clients:
        found = under_load(engine.call, feeds, count, budget.load_seconds, engine.join)
        told.append(
            {
                "clients": count,
                "rate": found.rate,
                "samples": [round(sample, 6) for sample in thinned(found.samples, budget.max_calls)],
                "tokens": sum(feed[IDS].size for feed in some) / len(some),
            }
        )
    return told


def peak_rss_bytes() -> int:
    """Read the largest resident memory of this process so far.

    ``ru_maxrss`` would count the parent's memory too: Linux carries it over from the moment
    between fork and exec.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else 1024 * largest


if __name__ == "__main__":
    sys.exit(main())
