"""Several labels for each row: lists, or names in one field with a separator between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.artifacts import SplitName
from compressor.data.labels import Labelled, flattened, reconcile
from compressor.data.rows import Rows
from compressor.errors import DataError

SEPARATORS = {",": "commas", ";": "semicolons", "|": "bars"}

_Splits = Mapping[SplitName, Sequence[Rows]]


def reconcile_sets(splits: _Splits, teacher_labels: tuple[str, ...] | None, separator: str | None) -> Labelled:
    """Give every row a vector of 0 and 1 over the labels.

    Labels may be lists of names or ids, vectors of 0 and 1 of one length, or names in one field.

    Args:
        splits: Rows without missing labels; an empty list or field is no label.
        teacher_labels: Names in the order of the teacher's outputs; ``None`` where its head is still to be trained.
        separator: What separates names in one field; ``None`` for whichever of ``SEPARATORS`` is there.

    Returns:
        Ids as float32 of shape (rows, labels).

    Raises:
        DataError: Several separators, fractions, or a label that the teacher does not have.
    """
    notes = []
    values = [value for parts in splits.values() for part in parts for value in part.labels]
    if width := _vectors(values):
        splits = _map(splits, lambda value: [place for place, bit in enumerate(value) if bit])
        notes.append(f"Labels are vectors of {width} zeros and ones.")
        if teacher_labels is None:
            teacher_labels = tuple(map(str, range(width)))
        elif len(teacher_labels) != width:
            raise DataError(
                f"Labels are vectors of {width} zeros and ones; the teacher has {len(teacher_labels)} labels.",
                "Give vectors in the order of the teacher's labels, or lists of their names.",
            )
    else:
        strings = [value for value in values if isinstance(value, str)]
        mark, note = _separator(strings, separator)
        notes += [note] if note else []
        splits = _map(splits, lambda value: _names(value, mark))
    flat, restore = flattened(splits)
    if not any(part.labels for parts in flat.values() for part in parts):
        first = next(part for parts in splits.values() for part in parts)
        raise DataError(f"{first.name}: no row has a label.", "Check --label-column.")
    found = reconcile(flat, teacher_labels)
    sets = restore(found.ids)
    empty = sum(1 for rows in sets.values() for row in rows if not row)
    if empty:
        notes.append(f"{empty} rows have no label; they are kept as such.")
    return replace(
        found,
        ids={split: _vector(rows, len(found.names)) for split, rows in sets.items()},
        notes=(*notes, *found.notes),
    )


def _vector(rows: Sequence[Sequence[int]], width: int) -> npt.NDArray[np.float32]:
    found = np.zeros((len(rows), width), dtype=np.float32)
    for place, row in zip(found, rows, strict=True):
        place[list(row)] = 1
    return found


def _map(splits: _Splits, change: Callable[[Any], list[object]]) -> dict[SplitName, tuple[Rows, ...]]:
    return {
        split: tuple(replace(part, labels=[change(value) for value in part.labels]) for part in parts)
        for split, parts in splits.items()
    }


def _vectors(values: Sequence[object]) -> int:
    """Width of the labels where they are vectors of 0 and 1, else 0; ids of one row never repeat, zeros do."""
    lists = [value for value in values if isinstance(value, list | tuple)]
    if not lists or len(lists) < len(values) or len({len(value) for value in lists}) != 1 or len(lists[0]) < 2:
        return 0
    bits = all(isinstance(bit, Real) and bit in (0, 1) for value in lists for bit in value)
    return len(lists[0]) if bits and any(len(set(value)) < len(value) for value in lists) else 0


def _separator(strings: Sequence[str], named: str | None) -> tuple[str, str]:
    if named is not None or not strings:
        return named or ",", ""
    marks = Counter(mark for text in strings for mark in SEPARATORS if mark in text)
    if len(marks) > 1:
        raise DataError(
            f"Several labels in one field are separated by {' and by '.join(SEPARATORS[mark] for mark in marks)}.",
            "Say which with --label-separator.",
        )
    mark = next(iter(marks), ",")
    rows = marks[mark]
    return mark, f"{rows} rows have several labels, separated by {SEPARATORS[mark]}." if rows else ""


def _names(value: object, mark: str) -> list[object]:
    if isinstance(value, str):
        # A list as pandas writes it into a field.
        listed = value.strip()
        inner = listed[1:-1] if listed[:1] == "[" and listed[-1:] == "]" else listed
        parts = (part.strip().strip("'\"") for part in inner.split(mark))
        return list(dict.fromkeys(part for part in parts if part))
    if not isinstance(value, list | tuple):
        return [value]
    # What is no name, such as an object or a list, is left for whoever looks the names up to complain of.
    return list(dict.fromkeys(value)) if all(isinstance(item, Hashable) for item in value) else list(value)


def looks_like_sets(strings: Sequence[str]) -> str:
    """Find the separator of fields that hold several labels; empty where they seem to be one each.

    Names that hold a comma of their own (``New York, NY``) have more different parts than there are fields.
    """
    whole = set(strings)
    for mark in SEPARATORS:
        several = [text for text in whole if mark in text]
        parts = {part.strip() for text in whole for part in text.split(mark) if part.strip()}
        if several and len(parts) <= len(whole):
            return mark
    return ""
