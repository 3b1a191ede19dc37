"""How a model behaves beside its teacher, row by row: flips, slices, confusion.

Works on logits for the same test rows; runs no model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from compressor.artifacts import ModelFacts
from compressor.evaluation import statistics
from compressor.evaluation.verdict import Verdict, non_inferiority

Ints = npt.NDArray[np.int64]
FlipKind = Literal["broken", "repaired", "moved"]

# Enough to read in a report; the counts beside them are always of all rows.
MOST_FLIPS = 200
MOST_CELLS = 300
LENGTH_SLICES = 4


@dataclass(frozen=True)
class LabelledRows:
    """The rows that models are compared on.

    Attributes:
        labels: Label ids [n].
        label_names: Names in the order of the ids.
        texts: Texts [n].
        cuts: What the rows are sliced by: column to one name per row.
    """

    labels: Ints
    label_names: Sequence[str]
    texts: Sequence[str]
    cuts: Mapping[str, npt.NDArray[np.str_]]


@dataclass(frozen=True)
class Flip:
    """A test row that a student labels otherwise than its teacher.

    Attributes:
        kind: ``broken``: only the teacher is right. ``repaired``: only the student is.
            ``moved``: both are wrong.
        teacher_score: Probability that the teacher gives its own label.
        student_score: Probability that the student gives its own label.
    """

    row: int
    kind: FlipKind
    text: str
    label: str
    teacher_label: str
    teacher_score: float
    student_label: str
    student_score: float


@dataclass(frozen=True)
class Slice:
    """A part of the test rows.

    Attributes:
        column: What it is cut by: ``class``, ``length`` or a column that the user named.
        p_value: Exact McNemar, Holm-adjusted over the slices of the column.
    """

    column: str
    name: str
    rows: int
    teacher_accuracy: float
    accuracy: float
    agreement: float
    broken: int
    repaired: int
    p_value: float


@dataclass(frozen=True)
class ConfusionCell:
    """Rows of one true label under one predicted label, for both models."""

    label: str
    predicted: str
    teacher: int
    student: int


@dataclass(frozen=True)
class Comparison:
    """One model against the teacher, row by row.

    Attributes:
        flipped: Rows with another label; the sum of broken, repaired and moved.
        shift_mean: Mean Jensen-Shannon divergence of the probabilities, in bits.
        shift_p95: Its 95th percentile.
        flips: The flipped rows on which the two models are surest, surest first.
        confusion: Cells of the confusion matrix whose counts differ, largest change first.
    """

    model: str
    verdict: Verdict
    flipped: int
    broken: int
    repaired: int
    moved: int
    shift_mean: float
    shift_p95: float
    flips: tuple[Flip, ...]
    slices: tuple[Slice, ...]
    confusion: tuple[ConfusionCell, ...]


def compare(model: ModelFacts, teacher: ModelFacts, test: LabelledRows, margin: float) -> Comparison:
    """Compare a model with its teacher on the same rows.

    Args:
        model: With logits [n, k].
        teacher: With logits [n, k].
        test: The rows.
        margin: Largest accepted drop in accuracy, as a share.
    """
    labels, label_names = test.labels, test.label_names
    teacher_scores, scores = statistics.softmax(teacher.logits), statistics.softmax(model.logits)
    before, after = teacher.logits.argmax(axis=1), model.logits.argmax(axis=1)
    changed = before != after
    broken, repaired = (before == labels) & changed, (after == labels) & changed
    moved = changed & ~broken & ~repaired
    rows = np.flatnonzero(changed)
    sureness = teacher_scores.max(axis=1) + scores.max(axis=1)
    kinds: dict[FlipKind, npt.NDArray[np.bool_]] = {"broken": broken, "repaired": repaired, "moved": moved}
    flips = tuple(
        Flip(
            row=int(row),
            kind=next(kind for kind, mask in kinds.items() if mask[row]),
            text=test.texts[row],
            label=label_names[labels[row]],
            teacher_label=label_names[before[row]],
            teacher_score=float(teacher_scores[row].max()),
            student_label=label_names[after[row]],
            student_score=float(scores[row].max()),
        )
        for row in rows[np.argsort(-sureness[rows], kind="stable")][:MOST_FLIPS]
    )
    shift = statistics.jensen_shannon(teacher_scores, scores)
    return Comparison(
        model=model.name,
        verdict=non_inferiority(int(broken.sum()), int(repaired.sum()), len(labels), margin),
        flipped=int(changed.sum()),
        broken=int(broken.sum()),
        repaired=int(repaired.sum()),
        moved=int(moved.sum()),
        shift_mean=float(shift.mean()),
        shift_p95=float(np.quantile(shift, 0.95)),
        flips=flips,
        slices=tuple(
            item for column, names in test.cuts.items() for item in _slices(column, names, labels, before, after)
        ),
        confusion=tuple(_confusion(labels, before, after, label_names)),
    )


def _slices(column: str, names: npt.NDArray[np.str_], labels: Ints, before: Ints, after: Ints) -> Iterator[Slice]:
    _, first, place = np.unique(names, return_index=True, return_inverse=True)
    # Classes in the order of their ids, lengths from short to long, other columns as they come.
    order: npt.NDArray[np.int64] = labels[first] if column == "class" else first
    if column == "length":
        order = np.asarray([int(name.split("-")[0].split()[0]) for name in names[first]])
    masks = [place == index for index in np.argsort(order, kind="stable")]
    broken = [int(np.sum((before == labels)[mask] & (after != labels)[mask])) for mask in masks]
    repaired = [int(np.sum((before != labels)[mask] & (after == labels)[mask])) for mask in masks]
    p_values = statistics.holm(statistics.mcnemar(broken, repaired))
    for index, mask in enumerate(masks):
        yield Slice(
            column=column,
            name=str(names[mask][0]),
            rows=int(mask.sum()),
            teacher_accuracy=statistics.accuracy(labels[mask], before[mask]),
            accuracy=statistics.accuracy(labels[mask], after[mask]),
            agreement=statistics.accuracy(before[mask], after[mask]),
            broken=broken[index],
            repaired=repaired[index],
            p_value=float(p_values[index]),
        )


def _confusion(labels: Ints, before: Ints, after: Ints, label_names: Sequence[str]) -> Iterator[ConfusionCell]:
    size = len(label_names)
    counts = [np.bincount(labels * size + predicted, minlength=size * size) for predicted in (before, after)]
    change = np.abs(counts[1] - counts[0])
    for cell in np.argsort(-change, kind="stable")[: min(MOST_CELLS, int(np.count_nonzero(change)))]:
        yield ConfusionCell(
            label_names[cell // size], label_names[cell % size], int(counts[0][cell]), int(counts[1][cell])
        )


def length_slices(lengths: npt.ArrayLike | None, texts: Sequence[str]) -> npt.NDArray[np.str_]:
    """Name the length slice of every text [n], as in ``9-14 tokens``: quarters of the test rows."""
    unit = "tokens" if lengths is not None else "characters"
    sizes = np.asarray(lengths if lengths is not None else [len(text) for text in texts], dtype=np.int64)
    quantiles = np.quantile(sizes, np.arange(1, LENGTH_SLICES) / LENGTH_SLICES, method="lower")
    upper = np.unique([*quantiles, sizes.max()])  # inclusive
    place = np.searchsorted(upper, sizes)
    spans = [sizes[place == index] for index in range(len(upper))]
    names = [
        f"{span.min()}-{span.max()} {unit}" if span.min() < span.max() else f"{span.min()} {unit}" for span in spans
    ]
    return np.asarray(names)[place]
