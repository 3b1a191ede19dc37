"""The part of a page of the documentation that a benchmark writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compressor.benchmark.intervals import Logs, spread


def fill(path: Path, name: str, script: str, body: str) -> None:
    """Replace what stands between a page's marks.

    Args:
        path: The page, in Markdown.
        name: Of its part: between ``<!-- NAME: written by benchmarks/SCRIPT --render -->`` and ``<!-- /NAME -->``.
        script: File name of the benchmark.
        body: In Markdown.

    Raises:
        ValueError: The page does not have the marks.
    """
    start, end = f"<!-- {name}: written by benchmarks/{script} --render -->", f"<!-- /{name} -->"
    text = path.read_text(encoding="utf-8")
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path.name} has no {start} ... {end}")
    path.write_text(f"{before}{start}\n\n{body.strip()}\n\n{end}{after}", encoding="utf-8")


def ratio(logs: Logs) -> tuple[float, float, float]:
    """What rounds say about a ratio, from its logarithms: centre and 95% interval, which one round leaves open."""
    found = spread(logs)
    return found.ratio() if found else (float(np.exp(logs[0])), 0.0, float("inf"))


def int8_form(units: Iterable[Mapping[str, Any]]) -> str:
    """In words, what ``--quantize-mode`` wrote the int8 files of measured units."""
    # Units from before the key was kept are of this mode, the default of their day.
    modes = sorted({str(one.get("mode", "per-token")) for one in units})
    return f"int8 by `--quantize-mode {' and '.join(modes)}`"


def machines(units: Iterable[Mapping[str, Any]]) -> str:
    """In words, what measured units with ``threads`` and an ``environment`` ran on."""
    found = sorted(
        f"{one['threads']} thread{'s' if one['threads'] > 1 else ''} of {one['environment']['cpu']['model']} "
        f"({one['environment']['cpu']['instruction_set']})"
        for one in units
    )
    return " and ".join(dict.fromkeys(found))
