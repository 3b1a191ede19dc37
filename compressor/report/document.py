"""The content of report.json: what a run found, as one value that JSON can hold.

``schema.json`` beside this file describes it. Rates are shares from 0 to 1, times milliseconds or
seconds as their names say, sizes bytes. Every page of the report is drawn from this document alone,
so that old runs can be drawn and compared again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from compressor.artifacts import (
    STUDENT_INT8,
    STUDENT_ONNX,
    TEACHER,
    TEACHER_ONNX,
    Benchmark,
    Corpus,
    EncoderShape,
    ExportedModel,
    Ladder,
    ModelFacts,
    QuantizedModel,
    SplitName,
    TrainingCurve,
    Trimmed,
    Tuning,
)
from compressor.evaluation.evaluate import Evaluation, ModelScores
from compressor.evaluation.metrics import TITLES as TITLES_OF_METRICS
from compressor.report import layers, speed
from compressor.report.caveats import caveats

SCHEMA_VERSION = 2

TITLES = {
    TEACHER: "Teacher, torch fp32",
    TEACHER_ONNX: "Teacher, ONNX fp32",
    STUDENT_ONNX: "Student, ONNX fp32",
    STUDENT_INT8: "Student, ONNX int8",
}


@dataclass(frozen=True)
class Findings:
    """All that a run found out; the pipeline fills it.

    Attributes:
        recipe: The resolved recipe as JSON values.
        environment: From ``compressor.environment.fingerprint``.
        teacher: What the user called the teacher.
        teacher_fingerprint: sha256 of its weights and config.
        teacher_layers: Its number of layers.
        fine_tuned: True where this toolkit trained its head.
        layer_map: Teacher layer of each student layer; empty for a random start.
        student_layers: The student's number of layers.
        corpus: Where the data came from.
        max_length: Longest sequence in tokens after truncation.
        truncated: Rows per split that lost tokens.
        models: In the order of the table; the last is the one that ships.
        evaluation: On the test split.
        exported: Model name to its export: ``teacher_onnx`` and ``student_onnx``.
        distillation: Curve of the student's training.
        quantized: The smaller model, where one was kept.
        ladder: What was tried for it.
        benchmark: ``None`` where nothing was timed.
        fine_tuning: Curve of the teacher's fine-tuning, where there was one.
        stages: Seconds of each stage.
        notes: Decisions taken on the way.
        warnings: What the user should act on or know before deploying.
        teacher_hub_id: The teacher's name on the hub, where it came from there.
        teacher_commit: Commit of that hub model.
        data_hub_id: The dataset's name on the hub, where it came from there.
        shapes: Model name to the sizes that bound its latency.
        uneven: The student's layers have widths that plain transformers cannot load.
        trimmed: What was taken out of the vocabulary.
        tuning: Short trials of the training's parameters, where there were any.
        mask_token: As a text has it, of a masked language model.
    """

    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    teacher: str
    teacher_fingerprint: str
    teacher_layers: int
    fine_tuned: bool
    layer_map: tuple[int, ...]
    student_layers: int
    corpus: Corpus
    max_length: int
    truncated: Mapping[SplitName, int]
    models: tuple[ModelFacts, ...]
    evaluation: Evaluation
    exported: Mapping[str, ExportedModel]
    distillation: TrainingCurve
    quantized: QuantizedModel | None = None
    ladder: Ladder | None = None
    benchmark: Benchmark | None = None
    fine_tuning: TrainingCurve | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    teacher_hub_id: str | None = None
    teacher_commit: str | None = None
    data_hub_id: str | None = None
    shapes: Mapping[str, EncoderShape] = field(default_factory=dict)
    uneven: bool = False
    trimmed: Trimmed | None = None
    tuning: Tuning | None = None
    mask_token: str | None = None


def document(findings: Findings) -> dict[str, Any]:
    """Lay out report.json.

    Returns:
        Strings, numbers, booleans, ``None``, lists and dicts only; valid under ``schema.json``.
    """
    evaluation, benchmark = findings.evaluation, findings.benchmark
    written: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": findings.corpus.task.name,
        "kind": evaluation.task,
        "metric": {
            "name": evaluation.metric,
            "title": evaluation.metric_title,
            "share": evaluation.scores[0].metrics[0].share,
            "row_word": evaluation.row_word,
        },
        "title": f"{findings.teacher}, {findings.teacher_layers} to {findings.student_layers} layers",
        "headline": {},
        "verdict": {**asdict(evaluation.verdict), "model": evaluation.shipped},
        "models": [_model_row(facts, findings) for facts in findings.models],
        "latency": speed.latency_rows(benchmark, findings.shapes),
        "speedups": speed.speedups(benchmark),
        "load": speed.load_rows(benchmark),
        "costs": speed.costs(benchmark),
        "machine": {
            "noise_floor": benchmark.noise_floor if benchmark else None,
            "bounds": asdict(benchmark.bounds) if benchmark and benchmark.bounds else None,
        },
        "comparisons": [asdict(item) for item in evaluation.comparisons],
        "drift": [asdict(item) for item in evaluation.drifts],
        "company": [asdict(item) for item in evaluation.company],
        "parity": [
            {"model": model, **asdict(row)} for model, exported in findings.exported.items() for row in exported.parity
        ],
        "fusions": [
            {"model": model, **asdict(row)} for model, exported in findings.exported.items() for row in exported.fusions
        ],
        "quantization": layers.quantization(findings.quantized),
        "ladder": layers.ladder(findings.ladder),
        "pruning": layers.pruning(findings),
        "slimming": layers.slimming(findings),
        "vocabulary": asdict(findings.trimmed) if findings.trimmed else None,
        "layer_map": layers.layer_map(findings),
        "tuning": _tuning(findings.tuning),
        "training": {
            "teacher": _curve(findings.fine_tuning) if findings.fine_tuning else None,
            "student": _curve(findings.distillation),
        },
        "data": _data(findings),
        "teacher": {
            "name": findings.teacher,
            "hub_id": findings.teacher_hub_id,
            "commit": findings.teacher_commit,
            "fingerprint": findings.teacher_fingerprint,
            "layers": findings.teacher_layers,
            "fine_tuned": findings.fine_tuned,
        },
        "stages": dict(findings.stages),
        "notes": _unique(findings.corpus.notes, findings.notes, benchmark.notes if benchmark else ()),
        "warnings": _unique(
            findings.warnings,
            evaluation.warnings,
            *(exported.warnings for exported in findings.exported.values()),
            findings.quantized.warnings if findings.quantized else (),
        ),
        "environment": dict(findings.environment),
        "recipe": dict(findings.recipe),
    }
    written["headline"] = _headline(written)
    written["caveats"] = caveats(written)
    plain: dict[str, Any] = _plain(written)
    return plain


def _model_row(facts: ModelFacts, findings: Findings) -> dict[str, Any]:
    scores: ModelScores = next(item for item in findings.evaluation.scores if item.name == facts.name)
    return {
        "name": facts.name,
        "title": _title(facts.name, findings.quantized),
        "size_bytes": facts.size_bytes,
        "compressed_bytes": facts.compressed_bytes,
        "parameters": facts.parameters,
        "zeros": facts.zeros,
        "score": scores.deciding.estimate,
        "ci95": [scores.deciding.low, scores.deciding.high],
        "ci95_method": scores.deciding.method,
        "metrics": [
            {
                "name": item.name,
                "title": item.title,
                "estimate": item.interval.estimate,
                "low": item.interval.low,
                "high": item.interval.high,
                "share": item.share,
                "lower_is_better": item.lower_is_better,
            }
            for item in scores.metrics
        ],
        "agreement_with_teacher": scores.agreement_with_teacher,
        "ece": scores.ece,
        "temperature": scores.temperature,
        "ece_calibrated": scores.ece_calibrated,
        "thresholds": list(scores.thresholds) if scores.thresholds else None,
    }


def _title(name: str, quantized: QuantizedModel | None) -> str:
    if name == STUDENT_INT8 and quantized is not None:
        return f"Student, ONNX {quantized.precision}"
    return TITLES.get(name, name)


def _headline(written: Mapping[str, Any]) -> dict[str, Any]:
    models = {row["name"]: row for row in written["models"]}
    shipped = models[written["verdict"]["model"]]
    teacher = models[TEACHER]
    base = models.get(TEACHER_ONNX, teacher)
    wanted = (shipped["name"], "cpu", 1, None)
    fast = next((row for row in written["speedups"] if _place(row) == wanted), None)
    p50 = {row["model"]: row["p50_ms"] for row in written["latency"] if _place(row)[1:] == wanted[1:]}
    return {
        "model": shipped["name"],
        "verdict": written["verdict"]["decision"],
        "speedup": fast["speedup"] if fast else None,
        "speedup_ci95": fast["ci95"] if fast else None,
        "speedup_verdict": fast["verdict"] if fast else None,
        "p50_ms": p50.get(shipped["name"]),
        "baseline_p50_ms": p50.get(TEACHER_ONNX),
        "score_retained": shipped["score"] / teacher["score"] if teacher["score"] > 0 else None,
        "size_ratio": base["size_bytes"] / shipped["size_bytes"],
        "size_bytes": shipped["size_bytes"],
        "baseline_size_bytes": base["size_bytes"],
    }


def _place(row: Mapping[str, Any]) -> tuple[str, str, int, int | None]:
    return row["model"], row["provider"], row["batch_size"], row["sequence_length"]


def _curve(curve: TrainingCurve) -> dict[str, Any]:
    return {
        "steps": list(curve.steps),
        "losses": list(curve.losses),
        "evaluations": [dict(item) for item in curve.evaluations],
    }


def _tuning(tuning: Tuning | None) -> dict[str, Any] | None:
    if tuning is None:
        return None
    return {
        "metric": tuning.metric,
        "metric_title": TITLES_OF_METRICS[tuning.metric].text,
        "share": TITLES_OF_METRICS[tuning.metric].share,
        "rows": tuning.rows,
        "epochs": tuning.epochs,
        "chosen": tuning.chosen,
        "trials": [{**asdict(trial), "score": trial.score} for trial in tuning.trials],
    }


def _data(findings: Findings) -> dict[str, Any]:
    corpus = findings.corpus
    return {
        "source": corpus.source,
        "hub_id": findings.data_hub_id,
        "fingerprint": corpus.fingerprint,
        "labels": list(corpus.labels),
        "pairs": any(split.pairs for split in corpus.splits.values()),
        "mask_token": findings.mask_token,
        "rows": {name: len(split.texts) for name, split in corpus.splits.items()},
        "added": [asdict(part) for part in corpus.added.parts] if corpus.added else [],
        "majority": findings.evaluation.majority,
        "max_length": findings.max_length,
        "truncated": dict(findings.truncated),
    }


def _unique(*groups: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(text for group in groups for text in group))


def _plain(value: Any) -> Any:
    """Turn a value into what JSON can hold; a number that is not finite becomes ``None``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)
