"""Check every row, drop the few that cannot be used, and refuse columns that are something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compressor.data.rows import Examine, Item, Rows
from compressor.data.texts import is_missing, labelled
from compressor.errors import DataError
from compressor.events import Note, Warned

# A few gaps are noise; more are a sign that the file is read wrongly.
MAX_DROPPED_SHARE = 0.01
_SHOWN = 3


@dataclass(frozen=True)
class _Lack:
    """What a row may lack: in words, and what to check where every row lacks it."""

    words: str
    remedy: str


LACKS = {
    "text": _Lack("without text", "Check --text-column."),
    "label": _Lack("without label", "Check --label-column."),
    "pair": _Lack("without second text", "Check --pair-column."),
    "question": _Lack("without question", "Check the column question."),
    "context": _Lack("without context", "Check the column context."),
    "answer": _Lack("whose answer is not in the context", "Check answer_start, and that context and answer agree."),
}
_EMPTY = ("text", "label", "pair", "question", "context")


def clean(
    parts: Sequence[Rows], split: str, examine: Examine = labelled, *, gaps: bool = False
) -> tuple[tuple[Rows, ...], tuple[Note | Warned, ...]]:
    """Drop rows that lack what they need.

    Args:
        parts: The files of one split.
        split: Its name, for messages.
        examine: Checks a row.
        gaps: Blank rows are nothing to warn of: they separate documents.

    Returns:
        The rows that are left (texts are then ``str``), and what to tell.

    Raises:
        DataError: A value is of the wrong type, or more than ``MAX_DROPPED_SHARE`` of the rows cannot be used.
    """
    left: list[Rows] = []
    dropped: list[tuple[str, Rows, int]] = []
    mended: Counter[str] = Counter()
    for part in parts:
        keep: list[int] = []
        items: list[Item] = []
        for index in range(len(part.texts)):
            found = examine(part, index)
            if isinstance(found, str):
                dropped.append((found, part, index))
            else:
                keep.append(index)
                items.append(found)
                mended.update([found.mended] if found.mended else [])
        left.append(_kept(part, keep, items))
    told: list[Note | Warned] = [Note(f"{words}: {count} {split} rows.") for words, count in mended.items()]
    if dropped:
        message = _message(parts, split, dropped, gaps)
        told.append(Note(message) if gaps else Warned(message))
    return tuple(left), tuple(told)


def _kept(part: Rows, keep: Sequence[int], items: Sequence[Item]) -> Rows:
    return replace(
        part,
        numbers=[part.numbers[index] for index in keep],
        texts=[item.text for item in items],
        labels=[item.label for item in items],
        more={column: [values[index] for index in keep] for column, values in part.more.items()},
        pairs=[item.pair for item in items] if part.pairs else (),
        words=[item.words for item in items],
    )


def _message(parts: Sequence[Rows], split: str, dropped: Sequence[tuple[str, Rows, int]], gaps: bool) -> str:
    total = sum(len(part.texts) for part in parts)
    counts = Counter(lack for lack, _, _ in dropped)
    for lack in _EMPTY:
        if counts[lack] == total:
            raise DataError(f"{parts[0].name}: every {lack} is empty.", LACKS[lack].remedy)
    kinds = " and ".join(f"{counts[lack]} {words.words}" for lack, words in LACKS.items() if counts[lack])
    places = "; ".join(part.place(index) for _, part, index in dropped[:_SHOWN])
    more = ", ..." if len(dropped) > _SHOWN else ""
    if len(dropped) > MAX_DROPPED_SHARE * total and not gaps:
        remedy = f"Remove these rows. At most {MAX_DROPPED_SHARE:.0%} of the rows may be empty; those would be dropped."
        if counts["answer"] == len(dropped):
            remedy = (
                "Correct answer_start (it counts characters, not bytes) or remove these questions. At most "
                f"{MAX_DROPPED_SHARE:.0%} of the rows may be unusable; those would be dropped."
            )
        raise DataError(f"{len(dropped)} of {total} {split} rows cannot be used: {kinds} ({places}{more}).", remedy)
    return f"Dropped {len(dropped)} of {total} {split} rows: {kinds} ({places}{more})."


def unlabelled(parts: Sequence[Rows]) -> bool:
    """Whether no row has a label, as in the test split of a benchmark that keeps its answers."""
    return all(is_missing(label, part.label_names is not None) for part in parts for label in part.labels)
