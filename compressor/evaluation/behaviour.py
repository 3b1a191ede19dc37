"""How a model behaves beside its teacher, row by row: flips, slices, labels, confusion.

Works on what both said about the same test rows; runs no model itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from compressor.artifacts import ModelFacts
from compressor.evaluation import statistics
from compressor.evaluation.figures import F1, Floats
from compressor.evaluation.metrics import METRICS, Gold, Marks
from compressor.evaluation.scores import MetricValue
from compressor.evaluation.slices import Bools, Changes, Slice, slices
from compressor.evaluation.verdict import Verdict

FlipKind = Literal["broken", "repaired", "moved"]

# Enough to read in a report; the counts beside them are always of all rows.
MOST_FLIPS = 200
MOST_CELLS = 300


@dataclass(frozen=True)
class Flip:
    """A test row about which a student decides otherwise than its teacher.

    Attributes:
        row: Its number; that of a question, or of a masked token, where the task has those.
        kind: ``broken``: only the teacher is right. ``repaired``: only the student is.
            ``moved``: both are wrong, both are right in their way, or nothing is right of itself.
        text: What it is about.
        label: What is right, in words: a label, labels, entities, answers, a piece, a number.
        teacher_label: What the teacher said.
        teacher_score: Probability that the teacher gives to it, or its similarity; ``None`` where there is none.
        student_label: What the student said.
        student_score: Probability that the student gives to it.
    """

    row: int
    kind: FlipKind
    text: str
    label: str
    teacher_label: str
    teacher_score: float | None
    student_label: str
    student_score: float | None


@dataclass(frozen=True)
class ConfusionCell:
    """Rows, or words, of one true label under one predicted label, for both models."""

    label: str
    predicted: str
    teacher: int
    student: int


@dataclass(frozen=True)
class LabelChange:
    """One label of many, or one type of entity.

    Attributes:
        rows: How often it is right.
        teacher_f1: F1 of the teacher.
        f1: F1 of the model.
        broken: Rows in which only the teacher has this label right.
        repaired: Rows in which only the model has.
        p_value: Exact McNemar, Holm-adjusted over the labels.
    """

    label: str
    rows: int
    teacher_f1: float
    f1: float
    broken: int
    repaired: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """One model against the teacher, row by row.

    Attributes:
        flipped: Rows with another decision: the sum of broken, repaired and moved. ``None``, as those are, where the
            task decides nothing.
        shift_mean: Mean Jensen-Shannon divergence of the probabilities, in bits; ``None`` where there are none.
        shift_p95: Its 95th percentile.
        flips: The flipped rows on which the two models are surest, surest first; where there are no probabilities,
            those that changed most. Where the task decides nothing, the rows with the largest differences.
        confusion: Cells of the confusion matrix whose counts differ, largest change first.
        labels: Every label of a multi-label task, every type of entity.
        differences: The metrics that do not decide, each as the model's minus the teacher's.
    """

    model: str
    verdict: Verdict
    flipped: int | None
    broken: int | None
    repaired: int | None
    moved: int | None
    shift_mean: float | None
    shift_p95: float | None
    flips: tuple[Flip, ...]
    slices: tuple[Slice, ...]
    confusion: tuple[ConfusionCell, ...]
    labels: tuple[LabelChange, ...] = ()
    differences: tuple[MetricValue, ...] = ()


def compare(
    model: ModelFacts,
    marks: Marks,
    teacher: ModelFacts,
    teacher_marks: Marks,
    gold: Gold,
    happened: Changes,
    verdict: Verdict,
    differences: Iterable[MetricValue] = (),
    same_units: bool = True,
) -> Comparison:
    """Compare a model with its teacher on the same rows.

    Args:
        model: With answers.
        marks: What they earned.
        teacher: With answers.
        teacher_marks: What they earned.
        gold: What is right.
        happened: To each row, from ``changes``.
        verdict: On the model.
        differences: Of the metrics that do not decide.
        same_units: Both models were asked about the same tokens, so that their probabilities can be compared.
    """
    judging = METRICS[gold.task.kind]
    shift = judging.shift(teacher.answers, model.answers, gold) if judging.shift and same_units else None
    changed = None if happened.changed is None else int(happened.changed.sum())
    broken, repaired = (None if rows is None else int(rows.sum()) for rows in (happened.broken, happened.repaired))
    before, after = teacher_marks.figures[0].parts, marks.figures[0].parts
    return Comparison(
        model=model.name,
        verdict=verdict,
        flipped=changed,
        broken=broken,
        repaired=repaired,
        moved=None if changed is None else changed - (broken or 0) - (repaired or 0),
        shift_mean=None if shift is None else float(shift.mean()),
        shift_p95=None if shift is None else float(np.quantile(shift, 0.95)),
        flips=tuple(_flips(marks, teacher_marks, gold, happened, shift)),
        slices=tuple(slices(gold.cuts, before, after, happened, gold.labels)) if before and after else (),
        confusion=tuple(_confusion(gold, teacher_marks, marks)),
        labels=tuple(_labels(gold, teacher_marks, marks)),
        differences=tuple(differences),
    )


def changes(marks: Marks, teacher_marks: Marks, gold: Gold) -> Changes:
    """Tell what happened to each row, from the teacher to the model."""
    if not METRICS[gold.task.kind].decides:
        return Changes(None, None, None, tested=False)
    before, after = teacher_marks.said, marks.said
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        changed: Bools = np.asarray(before != after)
    else:
        changed = np.asarray([one != two for one, two in zip(before, after, strict=True)], dtype=np.bool_)
    if marks.right is None or teacher_marks.right is None:
        return Changes(changed, None, None, tested=False)
    broken, repaired = teacher_marks.right & ~marks.right, marks.right & ~teacher_marks.right
    return Changes(changed, broken, repaired, gold.independent)


def _flips(marks: Marks, teacher_marks: Marks, gold: Gold, happened: Changes, shift: Floats | None) -> Iterator[Flip]:
    judging = METRICS[gold.task.kind]
    worth = np.zeros(len(gold))
    if marks.scores is not None and teacher_marks.scores is not None:
        worth = marks.scores + teacher_marks.scores
    elif shift is not None:
        worth = shift
    elif marks.worth is not None and teacher_marks.worth is not None:
        worth = np.abs(marks.worth - teacher_marks.worth)
    rows = np.flatnonzero(worth > 0 if happened.changed is None else happened.changed)
    for row in rows[np.argsort(-worth[rows], kind="stable")][:MOST_FLIPS].tolist():
        kind: FlipKind = "moved"
        if happened.broken is not None and happened.repaired is not None:
            kind = "broken" if happened.broken[row] else "repaired" if happened.repaired[row] else "moved"
        yield Flip(
            row=row,
            kind=kind,
            text=judging.text(gold, row),
            label=judging.truth(gold, row),
            teacher_label=judging.show(gold, row, teacher_marks.said[row]),
            teacher_score=_at(teacher_marks.scores, row),
            student_label=judging.show(gold, row, marks.said[row]),
            student_score=_at(marks.scores, row),
        )


def _at(scores: npt.NDArray[np.float64] | None, row: int) -> float | None:
    return None if scores is None else float(scores[row])


def _confusion(gold: Gold, teacher_marks: Marks, marks: Marks) -> Iterator[ConfusionCell]:
    if gold.units is None or marks.units is None or teacher_marks.units is None:
        return
    size, names = len(gold.labels), gold.labels
    counts = []
    for predicted in (teacher_marks.units, marks.units):
        told = predicted >= 0
        counts.append(np.bincount(gold.units[told] * size + predicted[told], minlength=size * size))
    change = np.abs(counts[1] - counts[0])
    for cell in np.argsort(-change, kind="stable")[: min(MOST_CELLS, int(np.count_nonzero(change)))]:
        yield ConfusionCell(names[cell // size], names[cell % size], int(counts[0][cell]), int(counts[1][cell]))


def _labels(gold: Gold, teacher_marks: Marks, marks: Marks) -> Iterator[LabelChange]:
    if marks.by_label is None or teacher_marks.by_label is None:
        return
    before, after = (counts.reshape(len(gold), -1, 3) for counts in (teacher_marks.by_label, marks.by_label))
    right_before, right_after = ((some[..., 1:] == 0).all(axis=-1) for some in (before, after))  # [n, k]
    broken = (right_before & ~right_after).sum(axis=0)
    repaired = (right_after & ~right_before).sum(axis=0)
    p_values = statistics.holm(statistics.mcnemar(broken, repaired))
    sums = [some.sum(axis=0) for some in (before, after)]
    f1 = [F1.of(some) for some in sums]
    for place, label in enumerate(METRICS[gold.task.kind].label_names(gold)):
        yield LabelChange(
            label=label,
            rows=int(sums[0][place, 0] + sums[0][place, 2]),
            teacher_f1=float(f1[0][place]),
            f1=float(f1[1][place]),
            broken=int(broken[place]),
            repaired=int(repaired[place]),
            p_value=float(p_values[place]),
        )
