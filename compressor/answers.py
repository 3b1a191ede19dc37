"""What a model says about the rows of a split, in one form for every task.

A row of a split is a text, a pair of texts, a window of a long context or a block of plain text. A model answers about
its units: the row itself, each of its tokens, or each of its masked tokens. The answers of all rows lie in one matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor import processes
from compressor.events import Listener, Progress, ignore
from compressor.tasks import Task

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Feed = Mapping[str, Ints]
Call = Callable[[Feed], Sequence[Floats]]
"""From a padded batch, int64 of shape (batch, tokens) by input name, to the model's outputs in the task's order."""

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
IGNORED = -100
"""Label of a token that is not asked about, as torch's cross-entropy has it."""

BATCH = 32
WIDE_BATCH = 8
"""Rows of a batch where every token is answered with a whole vocabulary: a gigabyte for the largest."""


@dataclass(frozen=True)
class Answers:
    """What one model said.

    Attributes:
        values: float32 of shape (units, width). The width is the number of labels; 1 for a regression; 2 for
            question answering (start and end); that of the embedding for feature extraction; 3 for fill-mask, where
            whole vocabularies would not fit: log-probability of the right piece, id of the likeliest piece, and its
            log-probability.
        starts: int64 of shape (rows + 1,): row i has the units ``starts[i]`` to ``starts[i + 1]``.
    """

    values: Floats
    starts: Ints

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    def row(self, index: int) -> Floats:
        """Answers about one row, of shape (units of the row, width)."""
        found: Floats = self.values[self.starts[index] : self.starts[index + 1]]
        return found

    def select(self, rows: Sequence[int] | Ints) -> Answers:
        """The answers about some rows, in their order."""
        return Answers.of([self.row(int(index)) for index in rows])

    @staticmethod
    def of(rows: Sequence[Floats]) -> Answers:
        """Put the answers about each row together; each of shape (units of the row, width)."""
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return Answers(np.concatenate(rows).astype(np.float32, copy=False), starts)


def pad(rows: Sequence[Mapping[str, Any]], names: Sequence[str], pad_token_id: int, width: int = 0) -> dict[str, Ints]:
    """Pad rows on the right to the longest of them, or to a width.

    Args:
        rows: Unpadded token ids by input name.
        names: Inputs to make.
        pad_token_id: Fills ``input_ids``; every other input is filled with 0.
        width: Tokens of every row; 0 for those of the longest.

    Returns:
        int64 of shape (rows, tokens) for each name.
    """
    width = width or max([1, *(len(row["input_ids"]) for row in rows)])
    feed = {name: np.zeros((len(rows), width), np.int64) for name in names}  # [b, s]
    if "input_ids" in feed:
        feed["input_ids"][:] = pad_token_id
    for name, array in feed.items():
        for place, row in zip(array, rows, strict=True):
            place[: len(row[name])] = row[name]
    return feed


def cut(task: Task, outputs: Sequence[Floats], rows: Sequence[Mapping[str, Any]]) -> list[Floats]:
    """Cut a batch's outputs into what was said about each row, padding left out.

    Args:
        task: Says what the units are.
        outputs: In the order of ``task.outputs``; each of shape (batch, ...) or (batch, tokens, ...).
        rows: Of the batch; those of a masked language model have ``labels`` with the right piece of every masked
            token and ``IGNORED`` elsewhere.

    Returns:
        One array of shape (units of the row, width) for each row.
    """
    if task.unit == "row":
        return [outputs[0][index].reshape(1, -1) for index in range(len(rows))]
    if task.unit == "token":
        joined = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)  # [b, s, k]
        return [joined[index, : len(row["input_ids"])] for index, row in enumerate(rows)]
    return [_condense(outputs[0][index], np.asarray(row["labels"])) for index, row in enumerate(rows)]


def _condense(logits: Floats, labels: Ints) -> Floats:
    """Reduce vocabularies [s, v] to the three figures [m, 3] of each masked token."""
    places = np.flatnonzero(labels != IGNORED)
    chosen = logits[places].astype(np.float64)  # [m, v]
    top = chosen.max(axis=-1)
    total = top + np.log(np.exp(chosen - top[:, None]).sum(axis=-1))
    right = chosen[np.arange(len(places)), labels[places]]
    found = np.stack([right - total, chosen.argmax(axis=-1), top - total], axis=-1)
    return found.astype(np.float32)


def collect(
    call: Call,
    rows: Any,
    task: Task,
    *,
    names: Sequence[str],
    pad_token_id: int,
    stage: str = "",
    listen: Listener = ignore,
) -> Answers:
    """Ask a model about every row, in batches of similar length; several processes share the batches.

    Args:
        call: The model; in all processes the same one.
        rows: Rows of a tokenised split: unpadded token ids and ``length``.
        task: What the model does.
        names: Inputs that it takes.
        pad_token_id: Fills ``input_ids``.
        stage: Name under which progress is told; empty for none.
        listen: Receives it.
    """
    order = np.argsort(-np.asarray(rows["length"][:]), kind="stable")
    size = WIDE_BATCH if task.unit == "masked token" else BATCH
    me = processes.here()
    own: list[tuple[Ints, list[Floats]]] = []
    for start in me.share(range(0, len(order), size)):
        chosen = order[start : start + size]
        batch = [rows[int(index)] for index in chosen]
        own.append((chosen, cut(task, call(pad(batch, names, pad_token_id)), batch)))
        if stage:
            listen(Progress(stage, min(len(order), start + me.count * size), len(order), {}))
    found: list[Floats] = [np.empty((0, 0), np.float32)] * len(order)
    for chosen, answers in (part for parts in processes.gathered(own) for part in parts):
        for index, answer in zip(chosen, answers, strict=True):
            found[int(index)] = answer
    return Answers.of(found)


def decisions(task: Task, values: Floats) -> Ints | None:
    """What the model decided for each unit, for counting what changed between two files of the same weights.

    Args:
        task: What the model does.
        values: Of shape (units, width).

    Returns:
        int64 of shape (units, decisions), or ``None`` where the task decides nothing (regression, embeddings). For
        question answering the likeliest start and end are decisions of a row, not of a token: see ``changed_rows``.
    """
    if not task.decides or task.kind == "question-answering":
        return None
    if task.kind == "multi-label":
        return (values > 0).astype(np.int64)
    if task.kind == "fill-mask":
        return values[:, 1:2].astype(np.int64)
    won: Ints = values.argmax(axis=-1)[:, None]
    return won


def changed_rows(task: Task, first: Answers, second: Answers) -> int:
    """Count rows in which two models decide otherwise: another label, tag, span or piece.

    Raises:
        ValueError: The task decides nothing.
    """
    if task.kind == "question-answering":
        pairs = ((first.row(index), second.row(index)) for index in range(len(first)))
        return sum(bool((one.argmax(axis=0) != two.argmax(axis=0)).any()) for one, two in pairs)
    one, two = decisions(task, first.values), decisions(task, second.values)
    if one is None or two is None:
        raise ValueError(f"{task.kind} decides nothing")
    differ = np.concatenate([[0], np.cumsum((one != two).any(axis=-1))])
    return int((differ[first.starts[1:]] > differ[first.starts[:-1]]).sum())


def largest_difference(task: Task, first: Answers, second: Answers) -> float:
    """Largest absolute difference of an output value; of a masked token, of the right piece's log-probability."""
    one, two = first.values, second.values
    if task.kind == "fill-mask":
        one, two = one[:, :1], two[:, :1]
    return float(np.abs(one.astype(np.float64) - two).max(initial=0.0))
