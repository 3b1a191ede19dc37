"""The page that ``accuracy.py`` writes: one line for each student, with what its seeds gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from compressor.recipe.presets import PRESETS

_INTRODUCTION = """# Accuracy kept

Written by `python benchmarks/accuracy.py --render` from `benchmarks/results/accuracy.json`. Whole test splits; clinc150
with its 1,000 out-of-scope rows. Retained is the int8 student's accuracy over the fp32 teacher's, the mean over seeds
with their standard deviation; the difference is in points, with the 95% interval of the first seed's paired test rows.
int8 is of the default mode, as it comes: no finer form is tried where it loses accuracy. Its weights are for {};
trained in {}. On another kind of CPU the same seed gives another teacher, so each section says where it was measured,
and only students of one teacher are compared.
"""
_HEADER = (
    "| data | student | seeds | teacher | student fp32 | int8 | retained | difference | goal |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def render(parts: Sequence[Any], datasets: Sequence[Any], units: Iterable[Any], results: Mapping[str, Any]) -> str:
    """Lay the results out as Markdown, with how many units are still to come.

    Args:
        parts: As ``accuracy.py`` has them.
        datasets: Likewise, with the epochs that are shown.
        units: Every unit.
        results: Unit name to result.
    """
    every = list(units)
    lines = [_INTRODUCTION.format(*(_all(results, key) for key in ("target", "precision")))]
    for part in parts:
        mine = [unit for unit in every if unit.part is part]
        done = [unit for unit in mine if unit.name in results]
        lines += [f"## {part.title}", ""]
        if part.complete and len(done) < len(mine):
            lines += [f"{len(done)} of {len(mine)} runs are measured.", ""]
        if done:
            told = f"{_effort(part, datasets)} {_machines(done, results)}"
            lines += [told, "", *_known(done, results), _HEADER, *_rows(done, part, results), ""]
            lines += [*_means(mine, results), ""]
    return "\n".join(lines)


def _all(results: Mapping[str, Any], key: str) -> str:
    return " and ".join(sorted({str(row[key]) for row in results.values()}))


def _rows(done: Sequence[Any], part: Any, results: Mapping[str, Any]) -> list[str]:
    """One line for each student, in the order of the part: by data, depth and variant."""
    same: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for unit in done:
        same.setdefault((unit.dataset.name, unit.layers, unit.variant), []).append(results[unit.name])
    order = [(data, layers, variant) for data in part.datasets for layers in part.layers for variant in part.variants]
    return [
        _line(f"{key[0]}, {key[1]} layers", key[2], same[key], part.goals.get((key[1], key[0], key[2])))
        for key in order
        if key in same
    ]


def _effort(part: Any, datasets: Sequence[Any]) -> str:
    shown = []
    for data in datasets:
        if data.name in part.datasets:
            learnt = zip(part.efforts(data), part.rates(data), strict=True)
            told = " and ".join(f"{epochs} at {1e5 * rate:g}e-5" for epochs, rate in learnt)
            shown.append(f"{data.name} {told}")
    first = (
        f"; {name} has {PRESETS[name].values['intermediate_epochs']:g} of a first stage before them"
        for name in part.variants
        if name in PRESETS and "intermediate_epochs" in PRESETS[name].values
    )
    return f"Epochs of teacher and student, at learning rates: {', '.join(shown)}{''.join(first)}."


def _machines(done: Sequence[Any], results: Mapping[str, Any]) -> str:
    """Which CPU each dataset was measured on, or each depth where these differ."""
    cpus: dict[str, set[str]] = {}
    for unit in done:
        cpus.setdefault(unit.dataset.name, set()).add(_cpu(results[unit.name]))
    found: dict[str, dict[str, None]] = {}
    for unit in done:
        data, depth = unit.dataset.name, f" to {unit.layers} layers"
        found.setdefault(_cpu(results[unit.name]), {})[data + (depth if len(cpus[data]) > 1 else "")] = None
    shown = (f"{cpu} ({', '.join(names)})" for cpu, names in found.items())
    return f"Measured on {', '.join(shown)}."


def _cpu(row: Mapping[str, Any]) -> str:
    """Of the training; what multiplies bfloat16 in it decides the last bits."""
    cpu = row["environment"]["cpu"]
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in cpu["flags"]]
    return " with ".join([cpu["model"].replace("(R)", "").replace(" Processor", ""), *flags[-1:]])


def _known(done: Sequence[Any], results: Mapping[str, Any]) -> list[str]:
    """How well each teacher knows its training texts, where that decided how its student was taught."""
    ratios = {unit.dataset.name: ratio for unit in done if (ratio := results[unit.name].get("familiarity"))}
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    told = "Entropy of the teacher's answers about training texts over that about validation texts"
    return [f"{told} ([what it decides](training.md#other-texts-in-every-epoch)): {shown}.", ""] if shown else []


def _line(where: str, variant: str, found: Sequence[Mapping[str, Any]], goal: float | None) -> str:
    wanted = f">= {goal:.1f}%" if goal else ""
    kept = [_retained(row) for row in found]
    retained = f"{mean(kept):.2f}%" + (f" ± {stdev(kept):.2f}" if len(kept) > 1 else "")
    estimate, low, high = (100 * value for value in found[0]["difference"])
    if goal:
        wanted += ", met" if mean(kept) >= goal else f", missed by {goal - mean(kept):.2f}"
    scores = " | ".join(f"{100 * mean(row[name] for row in found):.2f}" for name in ("teacher", "student", "int8"))
    points = f"{estimate:+.2f} ({low:+.2f} to {high:+.2f})"
    return f"| {where} | {variant} | {len(found)} | {scores} | {retained} | {points} | {wanted} |"


def _means(units: Sequence[Any], results: Mapping[str, Any]) -> list[str]:
    """The first variant of a part against each other one, over the runs that both have finished."""
    kept: dict[str, dict[tuple[str, int, int, str], float]] = {}
    for unit in units:
        if unit.name in results:
            run = (unit.dataset.name, unit.layers, unit.seed, _cpu(results[unit.name]))
            kept.setdefault(unit.variant, {})[run] = _retained(results[unit.name])
    ours = units[0].variant
    lines = []
    for variant, runs in kept.items():
        shared = [run for run in runs if run in kept.get(ours, {})]
        if variant == ours or not shared:
            continue
        mine, other = (mean(kept[name][run] for run in shared) for name in (ours, variant))
        gains = [kept[ours][run] - runs[run] for run in shared]
        lines.append(
            f"| {variant} | {len(shared)} | {other:.2f}% | {mine:.2f}% | {mean(gains):+.2f} "
            f"({min(gains):+.2f} to {max(gains):+.2f}) |"
        )
    if not lines:
        return []
    told = f"Mean retained by each student, and by the first ({ours}), over the runs that both have; least to most."
    head = "| student | runs (data, depth, seed) | retained | by the first | gain of the first |"
    return [told, "", head, "|---|---|---|---|---|", *lines]


def _retained(row: Mapping[str, Any]) -> float:
    return 100 * float(row["int8"]) / float(row["teacher"])
