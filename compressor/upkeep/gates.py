"""The rules of ``compress check``: each a pure function from what was found to one row, PASS, FAIL or SKIP.

A rule that was asked for and finds no evidence fails; one that does not apply is skipped, with the reason. Those of
speed are in ``pace``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from compressor import folder
from compressor.artifacts import ParityRow
from compressor.graph.parity import TOLERANCE
from compressor.runtime import Manifest
from compressor.tasks import TASKS, Task
from compressor.upkeep import past

Status = Literal["PASS", "FAIL", "SKIP"]
Report = Mapping[str, Any]

TOKENIZER_CONFIG = "tokenizer_config.json"
_NO_SHARES = ("spearman", "similarity_spearman")
"""Metrics that are shown as plain numbers; ``evaluation.metrics.TITLES`` knows it too, but not on the base install."""


@dataclass(frozen=True)
class Gate:
    """One row of the table: what was checked, how it went, why."""

    name: str
    status: Status
    reason: str


def markdown(rows: Sequence[Gate]) -> str:
    """Draw the rows as a Markdown table."""
    lines = ["| check | | why |", "| --- | --- | --- |"]
    lines += [f"| {row.name} | {_MARKS[row.status]} {row.status} | {_escape(row.reason)} |" for row in rows]
    return "\n".join(lines) + "\n"


_MARKS: Mapping[Status, str] = {"PASS": "✅", "FAIL": "❌", "SKIP": "➖"}


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def labels(manifest: Manifest, config: Mapping[str, Any] | None, names: tuple[str, ...], report: Report | None) -> Gate:
    """Compare the label maps of manifest, config and report.

    Args:
        manifest: What the runtime reads.
        config: ``config.json``, what transformers reads; ``None`` where it cannot be read.
        names: Its ``id2label`` in the order of the ids.
        report: Where there is one.
    """
    if config is None:
        return Gate("labels", "FAIL", "config.json cannot be read")
    if not manifest.labels:
        return Gate("labels", "SKIP", f"the outputs of {manifest.kind} have no names")
    for where, found in (("config.json", names), ("the report", tuple(report["data"]["labels"]) if report else None)):
        if found is not None and found != manifest.labels:
            return Gate("labels", "FAIL", _first_difference(where, found, manifest.labels))
    backwards = config.get("label2id") or {}
    if backwards and backwards != {name: index for index, name in enumerate(manifest.labels)}:
        return Gate("labels", "FAIL", "label2id of config.json is not the reverse of its id2label")
    places = "manifest, config.json" + (" and report" if report else "")
    return Gate("labels", "PASS", f"the same {len(manifest.labels)} in {places}")


def _first_difference(where: str, found: Sequence[str], expected: Sequence[str]) -> str:
    if len(found) != len(expected):
        return f"{where} has {len(found)} labels, manifest.json {len(expected)}"
    at = next(index for index, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    return f"label {at} is {found[at]!r} in {where}, {expected[at]!r} in manifest.json"


def consistent(manifest: Manifest, report: Report | None, why: str, tokenizer: Mapping[str, Any]) -> Gate:
    """Make sure that the report is about the files beside it, and that the manifest runs them as they were judged.

    Args:
        manifest: Of the folder; the one file without a checksum.
        report: Where there is one.
        why: Why there is none.
        tokenizer: ``tokenizer_config.json``; empty where there is none.
    """
    if report is None:
        return Gate("report", "FAIL", why)
    wrong = next(_contradictions(manifest, report, tokenizer), None)
    if wrong:
        return Gate("report", "FAIL", wrong)
    return Gate("report", "PASS", f"about these files; its own verdict: {report['verdict']['decision']}")


def _contradictions(manifest: Manifest, report: Report, tokenizer: Mapping[str, Any]) -> Iterator[str]:
    name = past.shipped(report)
    row = past.model_row(report, name)
    if folder.FILES.get(name) != manifest.default_model or row is None:
        yield f"its verdict is about {name}, the manifest runs {manifest.default_model}"
        return
    found = shipped_bytes(manifest)
    if row["size_bytes"] != found:
        said = f"{found:,} bytes where it says {row['size_bytes']:,}"
        yield f"{manifest.default_model} has {said}: it is of another run"
    if report["kind"] != manifest.kind:
        yield f"it is about {report['kind']}, the manifest about {manifest.kind}"
    if report["teacher"]["fingerprint"] != manifest.teacher.fingerprint:
        yield "its teacher is not the manifest's: it is of another run"
    for what, ours, theirs, where in _stated_twice(manifest, report, row, tokenizer):
        if ours != theirs:
            yield f"{what} is {ours} in manifest.json, {theirs} in {where}"


def _stated_twice(
    manifest: Manifest, report: Report, row: Mapping[str, Any], tokenizer: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any, str]]:
    """What decides an answer and stands in two places: what, as the manifest has it, as the other one has it, where."""
    data, there, said = report["data"], manifest.settings, "the report"
    task = next(task for task in TASKS.values() if task.kind == manifest.kind)
    yield "outputs", manifest.outputs, task.outputs, f"every model for {task.name}"
    yield "truncation_side", manifest.truncation_side, tokenizer.get("truncation_side", "right"), TOKENIZER_CONFIG
    if "max_length" in data:
        yield "max_length", manifest.max_length, data["max_length"], said
    if "pairs" in data and "pairs" in there:
        yield "pairs", there["pairs"], data["pairs"], said
    if "temperature" in row:
        yield "temperature", manifest.files[manifest.default_model].temperature, row["temperature"], said
    if "thresholds" in row:
        yield "thresholds", there.get("thresholds"), row["thresholds"], said


def shipped_bytes(manifest: Manifest) -> int:
    """Add up the file that the manifest runs and the weights beside it."""
    name = manifest.default_model
    return sum(entry.size_bytes for other, entry in manifest.files.items() if other in (name, f"{name}.data"))


def parity(rows: Sequence[ParityRow], task: Task = TASKS["single-label"]) -> Gate:
    """Hold the fp32 file to what torch computes from the safetensors."""
    worst = max(rows, key=lambda row: (np.nan_to_num(row.max_abs_difference, nan=np.inf), row.changed_labels))
    changed = sum(row.changed_labels for row in rows)
    passed = worst.max_abs_difference <= TOLERANCE and not changed
    what, decided = ("logits", "labels") if task.kind == "single-label" else ("outputs", "decisions")
    said = (
        f"{what} within {worst.max_abs_difference:.1g} of torch (tolerance {TOLERANCE:g}), {changed} {decided} changed"
    )
    return Gate("parity", "PASS" if passed else "FAIL", f"{said}, {len(rows)} shapes")


def score(
    task: Task,
    found: float | None,
    rows: str,
    references: Sequence[tuple[str, float]],
    max_drop: float,
    remark: str = "",
) -> Gate:
    """Hold the deciding metric of a task to the largest drop allowed; the row is named after the metric.

    Args:
        task: What the model does.
        found: What the model scores; ``None`` where nobody knows it.
        rows: What it was measured on, in words.
        references: What it must not fall behind: name and score.
        max_drop: In points: hundredths of the metric.
        remark: What limits the comparison.
    """
    if found is None or not references:
        return Gate(task.metric_title, "FAIL", "neither --data nor a report tells it")
    drops = [(100 * (value - found), name, value) for name, value in references]
    worst, name, value = max(drops, key=lambda drop: drop[0])
    change = f"{-worst:+.1f}".replace("-", "−") if abs(worst) >= 0.05 else "0.0"
    form = ".3f" if task.metric in _NO_SHARES else ".1%"
    ours, other = (f"{number:{form}}".replace("-", "−") for number in (found, value))
    said = f"{ours} on {rows}; {name} {other}: {change} points, {max_drop:g} may be lost{remark}"
    # Decimal margins are no exact binary numbers; written so that no number (NaN) never passes.
    return Gate(task.metric_title, "PASS" if all(drop <= max_drop + 1e-9 for drop, _, _ in drops) else "FAIL", said)


def size(found: int, baseline: Report | None, max_growth: float) -> Gate:
    """Hold the size of the shipped file to the baseline's.

    Args:
        found: Bytes of the shipped file.
        baseline: The report to compare with.
        max_growth: In per cent.
    """
    if baseline is None:
        return Gate("size", "SKIP", f"{found / 1e6:.1f} MB; no --baseline to compare with")
    row = past.model_row(baseline, past.shipped(baseline))
    if row is None:
        return Gate("size", "FAIL", "the baseline does not tell the size of its model")
    growth = 100 * (found / row["size_bytes"] - 1)
    said = (
        f"{found / 1e6:.1f} MB, the baseline {row['size_bytes'] / 1e6:.1f} MB: {growth:+.1f}%, {max_growth:g}% allowed"
    )
    return Gate("size", "PASS" if growth <= max_growth else "FAIL", said)
