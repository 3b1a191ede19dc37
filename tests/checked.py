"""A whole run folder with config and report around the classifier of ``deployed``, and clocks that are told the time."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressor.artifacts import Benchmark, LatencyRow, ModelCost
from compressor.benchmark import MeasuredModel
from compressor.report import document
from compressor.runtime import read_manifest
from compressor.runtime.machine import detect_target
from compressor.runtime.manifest import describe_file, write_manifest
from compressor.tasks import TASKS, Kind
from tests import deployed, lookup
from tests.report_inputs import findings
from tests.tiny import NEGATIVE, NEUTRAL, POSITIVE

INT8 = "onnx/model_quantized.onnx"
FP32 = "onnx/model.onnx"


@functools.cache
def _document() -> str:
    return json.dumps(document(findings(rows=300, slow_at=None)))


def report(**parts: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a made-up run, with some keys of its parts changed."""
    found = json.loads(_document())
    for name, changes in parts.items():
        found[name].update(changes)
    return found


def write(folder: Path, score: float = 0.925, speedup: float = 3.2) -> Path:
    """Write a run folder whose int8 file ships."""
    deployed.write(folder, default_model=INT8)
    names = dict(enumerate(deployed.LABELS))
    config = {"model_type": "bert", "id2label": names, "label2id": {name: index for index, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    told = report(
        data={"labels": list(deployed.LABELS), "max_length": read_manifest(folder).max_length},
        teacher={"fingerprint": "0" * 64},
        headline={"speedup": speedup, "speedup_ci95": [speedup * 0.98, speedup * 1.02]},
    )
    told["environment"]["cpu"]["instruction_set"] = detect_target()
    model_row(told, "teacher")["score"] = 0.93
    model_row(told, "student_int8").update(score=score, size_bytes=(folder / INT8).stat().st_size, temperature=1.5)
    (folder / "report").mkdir()
    (folder / "report/report.json").write_text(json.dumps(told), encoding="utf-8")
    return seal(folder, temperature=1.5)


def write_kind(folder: Path, kind: Kind, score: float = 0.9, shift: int = 0) -> Path:
    """Write a run folder of one kind of task, without an int8 file; its report says that it is as good as the teacher."""
    lookup.write(folder, kind, shift)
    task = TASKS[kind]
    told = report(
        data={"labels": list(lookup.LABELS.get(kind, ())), "max_length": read_manifest(folder).max_length},
        teacher={"fingerprint": "0" * 64},
        verdict={"model": "student_onnx"},
        metric={"name": task.metric, "title": task.metric_title},
    )
    told |= {"task": task.name, "kind": kind}
    model_row(told, "teacher")["score"] = score
    size, thresholds = (folder / FP32).stat().st_size, read_manifest(folder).settings.get("thresholds")
    model_row(told, "student_onnx").update(score=score, size_bytes=size, temperature=None, thresholds=thresholds)
    (folder / "report").mkdir()
    (folder / "report/report.json").write_text(json.dumps(told), encoding="utf-8")
    return seal(folder)


def seal(folder: Path, temperature: float | None = None, precision: str | None = None, **changes: Any) -> Path:
    """Give the manifest the files as they are now: a change that no checksum betrays.

    Args:
        folder: Of a run.
        temperature: Of the file that the manifest runs; otherwise as it was.
        precision: Likewise.
        changes: Other keys of the manifest.
    """
    manifest = read_manifest(folder)
    default = manifest.files.get(manifest.default_model)
    temperature = temperature or (default.temperature if default else None)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    known = {name: entry.precision for name, entry in manifest.files.items()}
    known |= {manifest.default_model: precision} if precision else {}
    files = {name: describe_file(folder / name, known.get(name)) for name in names if name != "manifest.json"}
    if manifest.default_model in files:
        files[manifest.default_model] = replace(files[manifest.default_model], temperature=temperature)
    write_manifest(folder, replace(manifest, files=files, **changes))
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def model_row(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Find a model in the table of a report."""
    return next(row for row in told["models"] if row["name"] == name)


def write_texts(path: Path, rows: int = 60) -> Path:
    """Write labelled texts that the classifier has all right."""
    kinds = list(zip(deployed.LABELS, (NEGATIVE, NEUTRAL, POSITIVE), strict=True))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in range(rows):
            name, words = kinds[index % 3]
            writer.writerow([" ".join(words[(index + step) % len(words)] for step in range(1 + index % 4)), name])
    return path


def clock(rounds: Mapping[str, Sequence[float]], floor: float | None = 0.02) -> Any:
    """Stand in for ``benchmark.measure``: milliseconds of each model's process in each round, by the end of its name."""

    def measure(models: Sequence[MeasuredModel], recipe: Any, tokens: Any, **_: Any) -> Benchmark:
        latency = []
        for model in models:
            told = next(taken for name, taken in rounds.items() if model.name.endswith(name))
            for length in (None, *recipe.sequence_lengths):
                samples = tuple(value for value in told for _ in range(3))
                latency.append(LatencyRow(model.name, "cpu", 1, 1, length, samples, len(told), (3,) * len(told)))
        costs = tuple(ModelCost(model.name, "cpu", 1.0, 1.0, 10_000_000, 1.0) for model in models)
        return Benchmark(tuple(latency), costs, (), floor)

    return measure
