"""Parts of the test rows that are looked at on their own: classes, lengths, columns that the user names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compressor.evaluation import statistics
from compressor.evaluation.figures import Parts

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

LENGTH_SLICES = 4


@dataclass(frozen=True)
class Slice:
    """A part of the test rows.

    Attributes:
        column: What it is cut by: ``class``, ``length`` or a column that the user named.
        teacher_score: The deciding metric of the teacher on these rows.
        score: That of the model.
        agreement: Share of rows with the teacher's decision; ``None`` where the task decides nothing.
        broken: Rows that only the teacher has right; ``None`` where rows are neither right nor wrong.
        repaired: Rows that only the model has right.
        p_value: Exact McNemar, Holm-adjusted over the slices of the column; ``None`` where rows are neither right nor
            wrong, or depend on each other.
    """

    column: str
    name: str
    rows: int
    teacher_score: float
    score: float
    agreement: float | None
    broken: int | None
    repaired: int | None
    p_value: float | None


@dataclass(frozen=True, eq=False)
class Changes:
    """What happened to each row.

    Attributes:
        changed: Rows with another decision [n].
        broken: Rows that only the teacher has right [n].
        repaired: Rows that only the model has right [n].
        tested: McNemar's test applies: rows are right or wrong, each for itself.
    """

    changed: Bools | None
    broken: Bools | None
    repaired: Bools | None
    tested: bool


def slices(
    cuts: Mapping[str, Names], teacher: Parts, model: Parts, changes: Changes, labels: Sequence[str] = ()
) -> Iterator[Slice]:
    """Compare two models on every part of the rows.

    Args:
        cuts: Column to one name per row [n].
        teacher: The teacher's deciding metric.
        model: The model's.
        changes: Row by row.
        labels: Names of the classes, in their order.
    """
    for column, names in cuts.items():
        masks = [names == name for name in _ordered(column, names, labels)]
        weights = np.stack(masks).astype(np.float64)
        before, after = teacher.at(weights), model.at(weights)
        broken, repaired = _within(changes.broken, masks), _within(changes.repaired, masks)
        p_values: Sequence[float] | None = None
        if changes.tested and broken is not None and repaired is not None:
            p_values = statistics.holm(statistics.mcnemar(broken, repaired)).tolist()
        for index, mask in enumerate(masks):
            yield Slice(
                column=column,
                name=str(names[mask][0]),
                rows=int(mask.sum()),
                teacher_score=float(before[index]),
                score=float(after[index]),
                agreement=None if changes.changed is None else float(np.mean(~changes.changed[mask])),
                broken=broken[index] if broken else None,
                repaired=repaired[index] if repaired else None,
                p_value=p_values[index] if p_values else None,
            )


def length_slices(lengths: npt.ArrayLike | None, texts: Sequence[str]) -> Names:
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


def _ordered(column: str, names: Names, labels: Sequence[str]) -> list[str]:
    """Classes in the order of their ids, lengths from short to long, other columns as they come."""
    found = list(dict.fromkeys(names.tolist()))
    if column == "length":
        return sorted(found, key=lambda name: int(name.split("-")[0].split()[0]))
    order = {name: index for index, name in enumerate(labels)} if column == "class" else {}
    return sorted(found, key=lambda name: order.get(name, 0))


def _within(rows: Bools | None, masks: Sequence[Bools]) -> list[int] | None:
    return None if rows is None else [int(rows[mask].sum()) for mask in masks]
