"""The section of ``docs/peers.md`` that ``export_cost.py`` has measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import finished, page

RESULTS = Path(__file__).resolve().parent / "results" / "export_cost.json"
SIDES: Mapping[str, tuple[str, ...]] = {
    "ours: load, export, fuse, prove, quantize (`per-token`)": ("ours",),
    "ours, and observe 512 rows of 16 tokens (`smooth`, the default)": ("ours, observing",),
    "optimum-cli export onnx, then quantize --avx2": ("optimum export", "optimum quantize"),
}
MOST_MEMORY = 4.0
INTRODUCTION = """## Cost of the export

A 12x768 BERT from its Hugging Face folder to a fused fp32 and an int8 file, `python benchmarks/export_cost.py`: whole
processes, in turn; seconds are of all processes of a side, memory is that of its largest, over the fp32 file
({size:.0f} MB). Medians, with the range over {rounds} rounds. optimum's int8 is made of the graph before fusion.
"""


def render() -> str:
    """Lay the rounds out as Markdown; empty where nothing was measured."""
    rounds = [*finished.read(RESULTS).values()]
    if not rounds:
        return ""
    lines = [
        INTRODUCTION.format(size=rounds[0]["fp32_bytes"] / 1e6, rounds=len(rounds)),
        "| side | seconds | peak memory over the fp32 file |",
        "|---|---:|---:|",
    ]
    for title, steps in SIDES.items():
        lines.append(f"| {title} | {_told(seconds(rounds, steps), '.1f')} | {_told(memory(rounds, steps), '.2f')} |")
    *ours, theirs = SIDES.values()
    most = max(float(memory(rounds, mine).max()) for mine in ours)
    told = [_ratio(np.log(seconds(rounds, mine) / seconds(rounds, theirs))) for mine in ours]
    memory_goal = "met" if most <= MOST_MEMORY else "missed"
    return "\n".join(
        [
            *lines,
            "",
            f"Without texts to observe, as optimum's int8, ours takes {told[0]} of the time of optimum-cli; the "
            f"default takes {told[1]}. Both take at most {most:.2f} times the fp32 file in memory (goal: at most "
            f"{MOST_MEMORY:g}, {memory_goal}).",
            "",
        ]
    )


def _ratio(logs: Any) -> str:
    value, low, high = page.ratio(logs)
    goal = "met" if high <= 1 else "met, interval holds more" if value <= 1 else "missed"
    return f"{value:.2f} (95% interval {low:.2f}–{high:.2f}, goal: at most 1, {goal})"


def seconds(rounds: list[dict[str, Any]], steps: tuple[str, ...]) -> Any:
    """Seconds of a side in each round."""
    return np.array([sum(one[step]["seconds"] for step in steps) for one in rounds])


def memory(rounds: list[dict[str, Any]], steps: tuple[str, ...]) -> Any:
    """Peak memory of a side over the fp32 file, in each round."""
    return np.array([max(one[step]["peak_bytes"] for step in steps) / one["fp32_bytes"] for one in rounds])


def _told(values: Any, form: str) -> str:
    return f"{np.median(values):{form}} ({values.min():{form}}–{values.max():{form}})"
