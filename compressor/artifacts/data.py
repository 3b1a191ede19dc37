"""Texts and what is right about them, as read and as token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from compressor.tasks import TASKS, Task

if TYPE_CHECKING:
    import datasets


SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Texts of one split and what is right about them.

    Attributes:
        texts: One text per row, none empty; the question of a question, a paragraph or more of plain text.
        labels: What is right, by kind of task. Single-label: ids, int64 of shape (rows,), indices into
            ``Corpus.labels``. Multi-label: float32 of shape (rows, labels), 0 or 1. Regression: float32 of shape
            (rows,). Token classification: for each row one id per word. Question answering: for each row its
            accepted answers as (first character in the context, text), none where there is no answer. Otherwise
            zeros of shape (rows,).
        columns: Further columns that the report slices by: name to one value per row.
        pairs: The second text of each row, or its context; empty where rows are single texts.
        words: For token classification, for each row its words as (first character, end) in the text.
    """

    texts: tuple[str, ...]
    labels: Any
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: tuple[str, ...] = ()
    words: tuple[tuple[tuple[int, int], ...], ...] = ()


@dataclass(frozen=True)
class Addition:
    """Rows of one origin that only the teacher labels.

    Attributes:
        kind: ``unlabelled`` (from a file) or ``augmented`` (altered copies of training rows).
        rows: How many joined the training rows.
        source: The file; for copies, how they were altered, in words.
        held_out: Left out because validation or test rows say the same.
        repeated: Left out because a training row, or a row before it, says the same.
    """

    kind: Literal["unlabelled", "augmented"]
    rows: int
    source: str
    held_out: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class Added:
    """Rows that the student learns from beside the training rows, by its teacher's answers alone.

    Attributes:
        split: The rows; instead of labels they have what stands for none: ``IGNORED``, NaN, or no words.
        parts: Where they are from, in their order.
        altered: For each row the index of the training row that it is an altered copy of; -1 for a text of its own.
    """

    split: Split
    parts: tuple[Addition, ...]
    altered: tuple[int, ...]


@dataclass(frozen=True)
class Corpus:
    """A dataset as read: three splits and the meaning of its label ids.

    Attributes:
        splits: All of train, validation and test.
        labels: Names of the labels in the order of their ids; empty where a task has none.
        source: The path or hub name that it was read from.
        fingerprint: sha256 over texts, labels and label names of all splits.
        notes: What was decided while reading (splits carved out, rows dropped), for the report.
        task: What the rows are for.
        added: Further rows to train the student on, which nobody has labelled. They count for neither ``splits`` nor
            ``fingerprint``, and for everything that is made of the rows for the student.
    """

    splits: Mapping[SplitName, Split]
    labels: tuple[str, ...]
    source: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    task: Task = TASKS["single-label"]
    added: Added | None = None


@dataclass(frozen=True)
class Tokenized:
    """A corpus as token ids, memory-mapped; rows that were added stand behind the training rows.

    A row of a tokenised split is a text or pair, except for question answering, where a long context becomes several
    windows, and for fill-mask, where texts are joined and cut into blocks.

    Attributes:
        splits: Datasets with the columns of ``input_names`` (unpadded lists), ``labels`` and ``length``. ``labels``
            is, by kind of task: an int; a list of floats; a float; one id per token, ``IGNORED`` outside words; first
            and last token of the answer, both 0 where the window has none; for fill-mask, in validation and test,
            one id per token, ``IGNORED`` where it is not masked (training rows have none: they are masked anew in
            every epoch); none for feature extraction. Token classification has ``words`` too: for each token the
            index of its word in ``Split.words``, -1 outside. Question answering has ``row`` (index into the
            split's texts) and ``offsets`` (for each token, first character and end in the context, -1 outside it,
            one list of twice the tokens).
        input_names: Inputs that the tokenizer makes and the model uses, in the model's order.
        max_length: Longest sequence in tokens after truncation, special tokens included.
        fingerprint: sha256 over the corpus with what was added, the tokenizer and ``max_length``.
        truncated: Rows per split that lost tokens.
    """

    splits: Mapping[SplitName, datasets.Dataset]
    input_names: tuple[str, ...]
    max_length: int
    fingerprint: str
    truncated: Mapping[SplitName, int]
    task: Task = TASKS["single-label"]
