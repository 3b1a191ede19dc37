"""Drop the few rows that have no text or no label, and refuse columns that are something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from compressor.data.tables import Rows
from compressor.errors import DataError

# A few gaps are noise; more are a sign that the file is read wrongly.
MAX_DROPPED_SHARE = 0.01
_SHOWN = 3


def clean(parts: Sequence[Rows], split: str) -> tuple[tuple[Rows, ...], str]:
    """Drop rows without text or label, and strip the white space around both.

    Args:
        parts: The files of one split.
        split: Its name, for messages.

    Returns:
        The rows that are left (texts are then ``str``), and what to warn of: empty where nothing was dropped.

    Raises:
        DataError: A text is not text, or more than ``MAX_DROPPED_SHARE`` of the rows have no text or no label.
    """
    left, dropped = [], []
    for part in parts:
        keep = []
        texts: list[str] = []
        for index, (text, label) in enumerate(zip(part.texts, part.labels, strict=True)):
            read = _text(part, index, text)
            if not read:
                dropped.append(("text", part, index))
            elif _missing(label, part.label_names is not None):
                dropped.append(("label", part, index))
            else:
                keep.append(index)
                texts.append(read)
        labels = [part.labels[index] for index in keep]
        numbers = [part.numbers[index] for index in keep]
        further = {column: [values[index] for index in keep] for column, values in part.more.items()}
        left.append(replace(part, numbers=numbers, texts=texts, labels=labels, more=further))
    if not dropped:
        return tuple(left), ""
    total = sum(len(part.texts) for part in parts)
    for kind in ("text", "label"):
        lost = [(part, index) for what, part, index in dropped if what == kind]
        if len(lost) == total:
            raise DataError(f"{parts[0].name}: every {kind} is empty.", f"Check --{kind}-column.")
    kinds = " and ".join(
        f"{count} without {kind}"
        for kind in ("text", "label")
        if (count := sum(1 for what, _, _ in dropped if what == kind))
    )
    places = "; ".join(part.place(index) for _, part, index in dropped[:_SHOWN])
    more = ", ..." if len(dropped) > _SHOWN else ""
    if len(dropped) > MAX_DROPPED_SHARE * total:
        raise DataError(
            f"{len(dropped)} of {total} {split} rows cannot be used: {kinds} ({places}{more}).",
            f"Remove these rows. At most {MAX_DROPPED_SHARE:.0%} of the rows may be empty; those would be dropped.",
        )
    return tuple(left), f"Dropped {len(dropped)} of {total} {split} rows: {kinds} ({places}{more})."


def unlabelled(parts: Sequence[Rows]) -> bool:
    """Whether no row has a label, as in the test split of a benchmark that keeps its answers."""
    return all(_missing(label, part.label_names is not None) for part in parts for label in part.labels)


def _text(part: Rows, index: int, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{part.place(index)}: the text is a {type(value).__name__}, {str(value)[:40]!r}.",
            "Name the column of the text with --text-column.",
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{part.place(index)}: the text holds half of a surrogate pair, which is no character.",
            r"Remove the stray \ud800 ... \udfff escape.",
        ) from None
    return value.strip()


def _missing(label: object, declared: bool) -> bool:
    # -1 is how datasets with declared names mark a row without a label; NaN is how pandas does.
    return (
        label is None
        or (isinstance(label, str) and not label.strip())
        or (declared and label == -1)
        or (isinstance(label, float) and label != label)  # noqa: PLR0124
    )
