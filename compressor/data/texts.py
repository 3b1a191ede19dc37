"""Check rows of texts and pairs of texts, with or without a label."""

from __future__ import annotations

from compressor.data.rows import Item, Rows
from compressor.errors import DataError

SURROGATE = r"Remove the stray \ud800 ... \udfff escape."


def labelled(part: Rows, index: int) -> Item | str:
    """Check a text, its pair and its label."""
    found = unlabelled(part, index)
    if isinstance(found, str):
        return found
    label = part.labels[index]
    return "label" if is_missing(label, part.label_names is not None) else Item(found.text, label, found.pair)


def with_labels(part: Rows, index: int) -> Item | str:
    """Check a text, its pair and its labels, of which there may be none."""
    found = unlabelled(part, index)
    if isinstance(found, str):
        return found
    label = part.labels[index]
    if isinstance(label, list | tuple):
        label = [item for item in label if not is_missing(item, declared=False)]
    elif not isinstance(label, str) and is_missing(label, part.label_names is not None):
        return "label"
    return Item(found.text, label, found.pair)


def unlabelled(part: Rows, index: int) -> Item | str:
    """Check a text and its pair."""
    text = read_string(part, index, part.texts[index], "text").strip()
    if not text:
        return "text"
    if not part.pairs:
        return Item(text)
    pair = read_string(part, index, part.pairs[index], "pair").strip()
    return Item(text, pair=pair) if pair else "pair"


def read_string(part: Rows, index: int, value: object, kind: str) -> str:
    """Take a value as text; nothing is an empty text.

    Raises:
        DataError: It is of another type, or no valid text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{part.place(index)}: the {kind} is a {type(value).__name__}, {str(value)[:40]!r}.",
            _NAMED.get(kind, "Correct the file, or name another column."),
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{part.place(index)}: the {kind} holds half of a surrogate pair, which is no character.", SURROGATE
        ) from None
    return value


_NAMED = {
    "text": "Name the column of the text with --text-column.",
    "pair": "Name the column of the second text with --pair-column.",
}


def is_missing(label: object, declared: bool) -> bool:
    """Tell whether a label stands for none.

    Args:
        label: As it stands in the file.
        declared: The dataset declares names: it then marks a row without a label by -1.
    """
    # NaN is how pandas writes what is missing.
    return (
        label is None
        or (isinstance(label, str) and not label.strip())
        or (declared and label == -1)
        or (isinstance(label, float) and label != label)  # noqa: PLR0124
    )
