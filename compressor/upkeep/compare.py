"""What changed between two runs: ``compare(first, second) -> Changes``, from their reports alone.

Times of different runs come from different hours and often machines, so that no millisecond is compared: only
each run's ratio to its own teacher, which was measured beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressor.upkeep import past

Report = Mapping[str, Any]

# Where things are put is no part of what was made.
_PLACES = ("output_dir", "overwrite", "cache_dir", "distill.checkpoint_minutes")


@dataclass(frozen=True)
class Change:
    """One line: what it is, before, after, and what to make of it."""

    what: str
    before: str
    after: str
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """Changes of one kind.

    Attributes:
        changes: Empty where nothing of the kind changed.
        notes: How far the lines can be compared.
    """

    title: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def compare(first: Report, second: Report) -> tuple[Section, ...]:
    """Compare two runs.

    Args:
        first: The content of report.json of the earlier run.
        second: That of the later one.
    """
    return (
        Section("Verdict", tuple(_verdict(first, second))),
        Section("Recipe", tuple(_recipe(first, second))),
        Section("Data and teacher", tuple(_data(first, second))),
        Section("Accuracy", tuple(_accuracy(first, second)), tuple(_accuracy_notes(first, second))),
        Section("Speed over the own teacher", tuple(_speed(first, second)), tuple(_speed_notes(first, second))),
        Section("Size", tuple(_size(first, second))),
        Section("What was built", tuple(_built(first, second))),
        Section("Machine and versions", tuple(_machine(first, second))),
        Section("Warnings", tuple(_texts(first, second, "warnings"))),
    )


def markdown(sections: Sequence[Section], first: str, second: str) -> str:
    """Draw the changes as Markdown, short enough for a pull-request comment.

    Args:
        sections: As ``compare`` gives them.
        first: What the earlier run is called.
        second: What the later one is called.
    """
    lines = [f"# {escape(first)} → {escape(second)}"]
    for section in sections:
        if section.changes:
            lines += ["", f"### {section.title}", "", "| | before | after | |", "| --- | --- | --- | --- |"]
            for item in section.changes:
                lines.append(f"| {' | '.join(map(escape, (item.what, item.before, item.after, item.remark)))} |")
            lines += [line for note in section.notes for line in ("", escape(note))]
    same = [section.title.lower() for section in sections if not section.changes]
    return "\n".join([*lines, *(["", f"Unchanged: {', '.join(same)}."] if same else [])]) + "\n"


def escape(text: str) -> str:
    """Keep a text from being read as Markdown or HTML, as the report does; the report's needs the training install."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _verdict(first: Report, second: Report) -> Iterator[Change]:
    yield from _different(
        ("verdict", first["verdict"]["decision"], second["verdict"]["decision"]),
        ("model that ships", past.shipped(first), past.shipped(second)),
        ("task", first["task"], second["task"]),
    )


def _recipe(first: Report, second: Report) -> Iterator[Change]:
    before, after = dict(past.flat(first["recipe"])), dict(past.flat(second["recipe"]))
    names = [name for name in dict.fromkeys([*before, *after]) if name not in _PLACES]
    yield from _different(*((name, before.get(name, "not there"), after.get(name, "not there")) for name in names))


def _data(first: Report, second: Report) -> Iterator[Change]:
    before, after = first["data"], second["data"]
    yield from _different(
        ("source", before["source"], after["source"]),
        ("fingerprint", before["fingerprint"][:12], after["fingerprint"][:12]),
        *((f"{name} rows", before["rows"].get(name), after["rows"].get(name)) for name in before["rows"]),
        ("labels", before["labels"], after["labels"]),
        ("longest sequence", before["max_length"], after["max_length"]),
        ("teacher", first["teacher"]["name"], second["teacher"]["name"]),
        ("teacher's weights", first["teacher"]["fingerprint"][:12], second["teacher"]["fingerprint"][:12]),
    )


# --- accuracy -------------------------------------------------------------------------------


def _accuracy(first: Report, second: Report) -> Iterator[Change]:
    for name, before, after in _models(first, second):
        overlap = before["ci95"][0] <= after["ci95"][1] and after["ci95"][0] <= before["ci95"][1]
        remark = (
            f"{_points(after['accuracy'] - before['accuracy'])}; the intervals {'' if overlap else 'do not '}overlap"
        )
        yield Change(f"{name}: accuracy", _with_interval(before), _with_interval(after), remark)
        for key, title in (("macro_f1", "macro-F1"), ("agreement_with_teacher", "agreement with its teacher")):
            if before[key] != after[key]:
                yield Change(
                    f"{name}: {title}", _percent(before[key]), _percent(after[key]), _points(after[key] - before[key])
                )


def _accuracy_notes(first: Report, second: Report) -> Iterator[str]:
    if first["data"]["fingerprint"] != second["data"]["fingerprint"]:
        yield "The data differ, so the accuracies are of different test rows: a difference may be the data's."
    else:
        yield (
            "The same test rows. Reports hold no answers row by row, so that the intervals are not paired: "
            "compress bench A B --data ... compares both runs row by row."
        )


def _with_interval(row: Mapping[str, Any]) -> str:
    low, high = row["ci95"]
    return f"{_percent(row['accuracy'])} ({_percent(low)} to {_percent(high)})"


# --- speed ----------------------------------------------------------------------------------


def _speed(first: Report, second: Report) -> Iterator[Change]:
    before, after = _ratios(first), _ratios(second)
    noise = sum(math.log1p(report["machine"]["noise_floor"] or 0.0) for report in (first, second))
    for key in before:
        if key not in after:
            continue
        model, provider, batch_size, length = key
        cell = f"{batch_size} x {length or 'own lengths'}" + ("" if provider == "cpu" else f" on {provider}")
        yield Change(
            f"{model}, {cell}", _ratio(before[key]), _ratio(after[key]), _speed_word(before[key], after[key], noise)
        )


def _speed_word(before: Mapping[str, Any], after: Mapping[str, Any], noise: float) -> str:
    factor = after["speedup"] / before["speedup"]
    if not before["ci95"] or not after["ci95"]:
        return "no difference can be claimed: one round has no interval"
    apart = after["ci95"][0] > before["ci95"][1] or after["ci95"][1] < before["ci95"][0]
    if not apart or abs(math.log(factor)) <= noise:
        return "no difference"
    return f"{factor:.2f} times the ratio: {'faster' if factor > 1 else 'slower'}"


def _ratio(row: Mapping[str, Any]) -> str:
    interval = f" ({row['ci95'][0]:.2f} to {row['ci95'][1]:.2f})" if row["ci95"] else ""
    return f"{row['speedup']:.2f}x{interval}"


def _ratios(report: Report) -> dict[tuple[str, str, int, int | None], Mapping[str, Any]]:
    return {
        (row["model"], row["provider"], row["batch_size"], row["sequence_length"]): row for row in report["speedups"]
    }


def _speed_notes(first: Report, second: Report) -> Iterator[str]:
    lacking = [name for name, report in (("first", first), ("second", second)) if not report["speedups"]]
    if lacking:
        yield f"Nothing was timed in the {' and the '.join(lacking)} run."
        return
    yield (
        "Each ratio is to the run's own teacher in onnxruntime, measured beside it. Milliseconds are not compared: "
        "the runs were made at different times, perhaps on different machines."
    )
    if (
        first["teacher"]["layers"] != second["teacher"]["layers"]
        or first["teacher"]["name"] != second["teacher"]["name"]
    ):
        yield "The teachers differ, and so do the ratios to them, even for the same student."
    machines = [(_cpu(report).get("model"), report["latency"][0]["threads"]) for report in (first, second)]
    if machines[0] != machines[1]:
        yield "The processors or the threads differ: int8 gains more on some processors than on others."


# --- what was built -------------------------------------------------------------------------


def _size(first: Report, second: Report) -> Iterator[Change]:
    for name, before, after in _models(first, second):
        for key, title in (("size_bytes", "file"), ("compressed_bytes", "compressed")):
            if before[key] != after[key]:
                factor = f"{after[key] / before[key] - 1:+.1%}".replace("-", "−")
                yield Change(f"{name}: {title}", _megabytes(before[key]), _megabytes(after[key]), factor)
        yield from _different(
            *((f"{name}: {title}", f"{before[key]:,}", f"{after[key]:,}")
              for key, title in (("parameters", "weights"), ("zeros", "zeros among them")))
        )  # fmt: skip


def _built(first: Report, second: Report) -> Iterator[Change]:
    for part in ("layer_map", "quantization", "pruning"):
        before, after = (dict(past.flat(report[part] or {}, part)) for report in (first, second))
        for found in (before, after):  # sizes have a section of their own
            for key in [key for key in found if key.endswith("_bytes")]:
                del found[key]
        names = dict.fromkeys([*before, *after])
        yield from _different(
            *((name, before.get(name, "none"), after.get(name, "none")) for name in names if name != part)
        )
    counts = [
        {(row["model"], row["kind"]): f"{row['found']} of {row['expected']}" for row in report["fusions"]}
        for report in (first, second)
    ]
    yield from _different(
        *((f"fused {kind} in {model}", counts[0].get((model, kind), "none"), counts[1].get((model, kind), "none"))
          for model, kind in dict.fromkeys([*counts[0], *counts[1]]))
    )  # fmt: skip
    worst = [max((row["max_abs_difference"] for row in report["parity"]), default=0.0) for report in (first, second)]
    yield from _different(("largest difference from torch", f"{worst[0]:.1g}", f"{worst[1]:.1g}"))


def _machine(first: Report, second: Report) -> Iterator[Change]:
    before, after = first["environment"], second["environment"]
    versions = [environment.get("versions") or {} for environment in (before, after)]
    yield from _different(
        ("processor", _cpu(first).get("model"), _cpu(second).get("model")),
        ("instruction set", _cpu(first).get("instruction_set"), _cpu(second).get("instruction_set")),
        ("threads", *((report["latency"] or [{"threads": None}])[0]["threads"] for report in (first, second))),
        ("python", before.get("python"), after.get("python")),
        *((name, versions[0].get(name), versions[1].get(name)) for name in dict.fromkeys([*versions[0], *versions[1]])),
    )


def _texts(first: Report, second: Report, part: str) -> Iterator[Change]:
    yield from (Change(text, "there", "gone") for text in first[part] if text not in second[part])
    yield from (Change(text, "not there", "new") for text in second[part] if text not in first[part])


# --- words ----------------------------------------------------------------------------------


def _models(first: Report, second: Report) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for row in first["models"]:
        other = past.model_row(second, row["name"])
        if other is not None:
            yield row["name"], row, other


def _cpu(report: Report) -> Mapping[str, Any]:
    return report["environment"].get("cpu") or {}


def _different(*rows: tuple[str, Any, Any]) -> Iterator[Change]:
    yield from (Change(what, _shown(before), _shown(after)) for what, before, after in rows if before != after)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points".replace("-", "−")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
