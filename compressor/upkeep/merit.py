"""What the shipped model is worth: its deciding metric, measured or recorded, held to the margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.answers import Answers
from compressor.artifacts import TEACHER
from compressor.errors import CompressorError, ManifestError
from compressor.runtime import Manifest, Predictor
from compressor.upkeep import gates, past
from compressor.upkeep.answers import Rows, ask, encode
from compressor.upkeep.evidence import DAMAGED, Folder
from compressor.upkeep.gates import Gate
from compressor.upkeep.lineup import Entrant

if TYPE_CHECKING:
    from compressor import data

Report = Mapping[str, Any]

_ALONE = "; recorded in the report, not measured here (embeddings are judged by the teacher's: --teacher)"


def score(found: Folder, baseline: Report | None, max_drop: float) -> Gate:
    """Measure what the shipped model scores, or take it from the report, and hold it to the margin.

    Args:
        found: The folder, with the rows to measure on where they were given.
        baseline: Report of the run that is out now, of the same task.
        max_drop: Largest drop, in points, against the teacher and the baseline.
    """
    references, remark = _references(found, baseline)
    alone = found.task.kind == "feature-extraction" and found.teacher is None
    if found.held is None or alone:
        row = past.model_row(found.report, past.shipped(found.report)) if found.report else None
        rows = f"{found.report['data']['rows'].get('test', 0):,} test rows" if found.report else ""
        said = _ALONE if found.held else "; recorded in the report, not measured here (--data)"
        return gates.score(found.task, row["score"] if row else None, rows, references, max_drop, said + remark)
    if not found.whole:
        return Gate(found.task.metric_title, "SKIP", DAMAGED)
    measure = _accuracies if found.task.kind == "single-label" else _scores
    try:
        ours, teachers = measure(found, found.held)
    except CompressorError as error:
        return Gate(found.task.metric_title, "FAIL", error.message)
    if teachers is not None:
        references = [("the teacher on the same rows", teachers), *references[1:]]
    elif found.report and found.held.fingerprint != found.report["data"]["fingerprint"]:
        remark += "; these are other rows than the report's, so the difference may be the rows'"
    rows = f"{len(found.held.split.texts):,} rows ({found.held.which})"
    return gates.score(found.task, ours, rows, references, max_drop, remark)


def _references(found: Folder, baseline: Report | None) -> tuple[list[tuple[str, float]], str]:
    """List what the score must not fall behind, the teacher first, and what limits the comparison."""
    references, remark = [], ""
    teacher = past.model_row(found.report, TEACHER) if found.report else None
    if teacher is not None and teacher["score"] is not None:
        references.append(("its teacher in the report", float(teacher["score"])))
    row = past.model_row(baseline, past.shipped(baseline)) if baseline else None
    if row is not None and row["score"] is not None and baseline is not None:
        references.append(("the baseline", float(row["score"])))
        if found.report and baseline["data"]["fingerprint"] != found.report["data"]["fingerprint"]:
            remark = "; the baseline was measured on other data"
    return references, remark


def _inputs(predictor: Predictor, held: data.HeldOut) -> list[Any]:
    """The rows as the runtime takes them."""
    texts, pairs = held.split.texts, held.split.pairs
    if bool(pairs) != (len(predictor.takes) == 2):
        given, taken = "pairs" if pairs else "single texts", " and ".join(predictor.takes)
        raise ManifestError(f"The data hold {given}; the model takes {taken}.", "Name data like those of the run.")
    return list(zip(texts, pairs, strict=True)) if pairs else list(texts)


def _in_order(teacher: Entrant, manifest: Manifest, found: Answers) -> Answers:
    """Put a teacher's answers about labels into the student's order of them."""
    theirs = teacher.home.labels
    if set(theirs) != set(manifest.labels):
        raise ManifestError("The teacher has other labels than the student.")
    return replace(found, values=found.values[:, [theirs.index(name) for name in manifest.labels]])


def _accuracies(found: Folder, held: data.HeldOut) -> tuple[float, float | None]:
    """Measure the accuracy of the shipped model and the teacher; the base install can do it."""

    def accuracy(values: Any) -> float:
        return float(np.mean(values.argmax(axis=1) == held.split.labels))

    predictor = Predictor(found.path)
    ours = accuracy(predictor.logits(_inputs(predictor, held)))
    if found.teacher is None:
        return ours, None
    rows = Rows(encode(found.teacher.home, held.split.texts, held.split.pairs))
    return ours, accuracy(_in_order(found.teacher, found.manifest, ask(found.teacher, rows)).values)


def _scores(found: Folder, held: data.HeldOut) -> tuple[float, float | None]:
    """Measure the deciding metric of the shipped model and the teacher."""
    from compressor.upkeep.exam import mark, prepare

    task, manifest = found.task, found.manifest
    ours = found.entrant(manifest.default_model)
    exam, reference, theirs = prepare(ours.home, held, found.seed), None, None
    if found.teacher is not None:
        # As long as the student's rows, as in the run.
        home = replace(found.teacher.home, max_length=manifest.max_length, settings=ours.home.settings)
        paper = prepare(home, held, found.seed)
        if task.unit == "masked token" and paper.rows != exam.rows:
            raise ManifestError("The teacher cuts the text into other pieces than the student.")
        reference = ask(found.teacher, paper.rows)
        if task.named and task.kind != "regression":
            reference = _in_order(found.teacher, manifest, reference)
        theirs = mark(paper.beside(reference), reference, _thresholds(found)).figures[0].value
    if task.unit == "masked token":  # asked about token ids: which are masked is part of the rows
        answers = ask(ours, exam.rows)
    else:
        predictor = Predictor(found.path)
        answers = Answers.of(predictor.raw(_inputs(predictor, held)))
    earned = mark(exam.beside(reference), answers, manifest.settings.get("thresholds") or ())
    return earned.figures[0].value, theirs


def _thresholds(found: Folder) -> tuple[float, ...]:
    """The teacher's own thresholds, as its run fitted them."""
    row = past.model_row(found.report, TEACHER) if found.report else None
    return tuple(row.get("thresholds") or ()) if row else ()
