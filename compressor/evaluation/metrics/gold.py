"""What is right about a split, in the form that metrics want, and what a model earned by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.answers import Answers
from compressor.artifacts import Split
from compressor.evaluation.figures import Figure, Floats, Ints
from compressor.evaluation.slices import length_slices
from compressor.tasks import Task

Bools = npt.NDArray[np.bool_]
Spell = Callable[[Sequence[int]], str]
"""From token ids to text."""


@dataclass(frozen=True, eq=False)
class Gold:
    """What models are judged by.

    What is judged are items: rows, questions, or masked tokens.

    Attributes:
        task: What the models do.
        labels: Names of the labels, in the order of their ids; empty where the task has none.
        starts: int64 of shape (rows + 1,), as answers about these rows have it.
        right: What is right about the items [n], in the form of the task's module.
        groups: For each item the number of its group [n]; groups do not depend on each other.
        texts: What each item is about [n]; empty where the task's module makes them when they are asked for.
        cuts: What the items are sliced by: column to one name per item [n].
        units: Id of the right label of each row, or word, that has one [u].
        reference: The teacher's answers, where they are all there is to judge by.
    """

    task: Task
    labels: tuple[str, ...]
    starts: Ints
    right: Any
    groups: Ints
    texts: tuple[str, ...] = ()
    cuts: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)
    units: Ints | None = None
    reference: Answers | None = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.groups)

    @property
    def independent(self) -> bool:
        """Whether each item is a group by itself."""
        return len(np.unique(self.groups)) == len(self.groups)


@dataclass(frozen=True, eq=False)
class Marks:
    """What one model earned.

    Attributes:
        figures: Its metrics, the deciding one first.
        said: What it decided about each item [n]; equal values are equal decisions.
        right: Whether that is exactly right [n]; ``None`` where nothing is.
        scores: Probability, or similarity, of what it decided [n].
        worth: How good each item is [n], or a number that was said; large differences are large changes.
        units: Id of the label that it gave each of ``Gold.units`` [u], -1 for none.
        by_label: True positives, false positives and false negatives of each label in turn [n, 3 k].
    """

    figures: tuple[Figure, ...]
    said: Sequence[Any] | npt.NDArray[Any]
    right: Bools | None = None
    scores: Floats | None = None
    worth: Floats | None = None
    units: Ints | None = None
    by_label: Floats | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """Where gold is read from.

    Attributes:
        task: What the rows are for.
        split: The texts and what is right about them.
        rows: The tokenised split: a mapping of columns.
        chosen: Indices of the tokenised rows that are looked at.
        labels: Names of the labels.
        reference: The teacher's answers about the chosen rows.
        spell: Turns token ids into text.
        seed: Of what is drawn at random.
        may_lack: The model is deployed to say that a question has no answer; ``None`` where nobody says.
    """

    task: Task
    split: Split
    rows: Mapping[str, Any]
    chosen: Ints
    labels: tuple[str, ...]
    reference: Answers | None = None
    spell: Spell | None = None
    seed: int = 0
    may_lack: bool | None = None

    def column(self, name: str) -> list[Any]:
        """One column of the chosen rows."""
        values = self.rows[name][:]  # in one go: a dataset reads row by row otherwise
        return [values[index] for index in self.chosen.tolist()]

    def lengths(self) -> Ints:
        """Tokens of the chosen rows."""
        return np.asarray(self.rows["length"][:], dtype=np.int64)[self.chosen]

    def texts(self) -> tuple[str, ...]:
        """Texts of the chosen rows, where rows are texts or pairs; a pair on two lines."""
        texts, pairs = self.split.texts, self.split.pairs
        return tuple(f"{texts[row]}\n{pairs[row]}" if pairs else texts[row] for row in self.chosen.tolist())

    def cuts(self) -> dict[str, npt.NDArray[np.str_]]:
        """Length and the columns that the user named, where rows are texts or pairs."""
        return {"length": length_slices(self.lengths(), ()), **self.columns(self.chosen)}

    def columns(self, rows: Ints) -> dict[str, npt.NDArray[np.str_]]:
        """The columns that the user named, of some rows of the split."""
        return {name: np.asarray([str(values[row]) for row in rows]) for name, values in self.split.columns.items()}


def starts_of(units: npt.ArrayLike) -> Ints:
    """Where the units of each row start [rows + 1], from their numbers [rows]."""
    return np.concatenate([[0], np.cumsum(np.asarray(units, dtype=np.int64))]).astype(np.int64)
