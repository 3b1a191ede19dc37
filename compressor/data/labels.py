"""From labels as they are written to label ids in the order of the teacher. Never a silent permutation."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from compressor.artifacts import SplitName
from compressor.data.rows import Rows
from compressor.errors import DataError

_SHOWN = 10


@dataclass(frozen=True)
class Labelled:
    """What is right about the rows of every split, and what the ids in it mean.

    Attributes:
        ids: For each split, as ``Split.labels`` has it; int64 of shape (rows,) where a row has one label.
        names: Name of each id.
        notes: Decisions for the report.
        warnings: What the user should check.
    """

    ids: Mapping[SplitName, Any]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Written:
    """Labels as names; ``numbers`` has the integer behind each name where labels are integers."""

    names: Mapping[SplitName, list[str]]
    numbers: Mapping[str, int] | None
    declared: tuple[str, ...] | None


_Key = Callable[[str], Any]


def reconcile(
    splits: Mapping[SplitName, Sequence[Rows]],
    teacher_labels: tuple[str, ...] | None,
    *,
    key: _Key | None = None,
    declared: tuple[str, ...] | None = None,
) -> Labelled:
    """Give every label its id.

    With a teacher that has a head, labels are matched with its names; integers that match none are taken as its ids.
    Without, the names are put in order: as the dataset declares them, else by number or alphabet.

    Args:
        splits: Rows without missing labels.
        teacher_labels: Names in the order of the teacher's outputs; ``None`` where its head is still to be trained.
        key: Puts names in order where nothing else does; ``None`` for the alphabet.
        declared: The names in order, where the dataset declares them and the rows have names already.

    Raises:
        DataError: Labels of mixed kinds, fractions or lists; a label that the teacher does not have.
    """
    written = _read(splits)
    used = Counter(name for names in written.names.values() for name in names)
    if teacher_labels is None:
        order, position, notes, warnings = _own_order(
            replace(written, declared=declared or written.declared), used, key
        )
    else:
        order, position, notes, warnings = _teacher_order(written, used, teacher_labels, splits)
    unused = [name for index, name in enumerate(order) if index not in {position[name] for name in used}]
    if unused:
        warnings = (*warnings, f"No row of the data has the label {_list(unused)}.")
    ids = {
        split: np.fromiter((position[name] for name in names), dtype=np.int64, count=len(names))
        for split, names in written.names.items()
    }
    return Labelled(ids, order, notes, warnings)


def flattened(
    splits: Mapping[SplitName, Sequence[Rows]],
) -> tuple[dict[SplitName, tuple[Rows, ...]], Callable[[Mapping[SplitName, Any]], dict[SplitName, Any]]]:
    """Write rows of several labels as rows of one label each, for ``reconcile``.

    Returns:
        The rows, and the function that makes one tuple of ids per row of what ``reconcile`` made of them.
    """
    flat = {split: tuple(_flat(part) for part in parts) for split, parts in splits.items()}
    sizes = {split: [len(_each(row)) for part in parts for row in part.labels] for split, parts in splits.items()}

    def restore(ids: Mapping[SplitName, Any]) -> dict[SplitName, Any]:
        return {
            split: tuple(
                tuple(ids[split][start:end].tolist()) for start, end in pairwise(accumulate(counts, initial=0))
            )
            for split, counts in sizes.items()
        }

    return {split: tuple(part for part in parts if part.labels) for split, parts in flat.items()}, restore


def _each(row: object) -> Sequence[object]:
    return row if isinstance(row, list | tuple) else (row,)


def _flat(part: Rows) -> Rows:
    places = [(row, step) for row, labels in enumerate(part.labels) for step in range(len(_each(labels)))]
    return replace(
        part,
        numbers=[part.numbers[row] + (step if part.stacked else 0) for row, step in places],
        labels=[label for labels in part.labels for label in _each(labels)],
    )


_Order = tuple[tuple[str, ...], Mapping[str, int], tuple[str, ...], tuple[str, ...]]


def _own_order(written: _Written, used: Mapping[str, int], key: _Key | None) -> _Order:
    numbers = written.numbers
    if written.declared is not None:
        order = written.declared
    elif numbers is not None:
        order = tuple(sorted(used, key=lambda name: numbers[name]))
    else:
        order = tuple(sorted(used, key=key))
    return order, {name: index for index, name in enumerate(order)}, (), ()


def _teacher_order(
    written: _Written, used: Mapping[str, int], teacher: tuple[str, ...], splits: Mapping[SplitName, Sequence[Rows]]
) -> _Order:
    position = {name: index for index, name in enumerate(teacher)}
    unknown = [name for name in used if name not in position]
    if not unknown:
        return teacher, position, (), ()
    generic = all(re.fullmatch(r"LABEL_[0-9]+", name) for name in teacher)
    if written.numbers is not None and (written.declared is None or generic):
        numbers = {name: written.numbers[name] for name in used}
        outside = [name for name, number in numbers.items() if not 0 <= number < len(teacher)]
        if outside:
            raise DataError(
                f"{_first_place(splits, written, outside[0])}: label {outside[0]} is not one of the teacher's ids, "
                f"0 to {len(teacher) - 1}.",
                f"The teacher's labels are {_list(teacher)}. Use these names, or ids counted from 0.",
            )
        if written.declared is None:
            note = "Integer labels were taken as the teacher's ids: " + _list(
                [f"{number} is {teacher[number]}" for number in sorted(numbers.values())]
            )
            return teacher, numbers, (f"{note}.",), ()
        pairs = _list([f"{name} is {teacher[number]}" for name, number in sorted(numbers.items(), key=lambda x: x[1])])
        warning = f"The teacher does not name its labels; the dataset's ids were taken as the teacher's: {pairs}."
        return teacher, numbers, (), (warning,)
    if generic:
        raise DataError(
            f"The teacher does not name its labels ({_list(teacher)}), the data does ({_list(sorted(used))}): "
            "which is which cannot be known.",
            "Write integer labels in the teacher's order, or put the names into id2label and label2id of its "
            "config.json.",
        )
    first = unknown[0]
    raise DataError(
        f"{_first_place(splits, written, first)}: label {first!r} is unknown to the teacher, "
        f"which has {_list([repr(name) for name in teacher])}."
        + (f" Also unknown: {_list([repr(name) for name in unknown[1:]])}." if unknown[1:] else ""),
        _advice(unknown, teacher),
    )


def _advice(unknown: Sequence[str], teacher: Sequence[str]) -> str:
    by_case = {name.casefold(): name for name in teacher}
    pairs = []
    for name in unknown[:_SHOWN]:
        near = [by_case[match] for match in difflib.get_close_matches(name.casefold(), list(by_case), n=1, cutoff=0.75)]
        pairs += [f"{name!r} as {near[0]!r}" for _ in near[:1]]
    spell = f"Did you mean to write {', '.join(pairs)}? " if pairs else ""
    return f"{spell}Use the teacher's names in the data, or a teacher that was trained on these labels."


def _first_place(splits: Mapping[SplitName, Sequence[Rows]], written: _Written, name: str) -> str:
    for split, parts in splits.items():
        index = written.names[split].index(name) if name in written.names[split] else -1
        for part in parts if index >= 0 else ():
            if index < len(part.labels):
                return part.place(index)
            index -= len(part.labels)
    return "The data"


# --- labels as they are written -------------------------------------------------------------


def _read(splits: Mapping[SplitName, Sequence[Rows]]) -> _Written:
    parts = [part for rows in splits.values() for part in rows]
    declared = {part.label_names for part in parts}
    if len(declared) > 1:
        raise DataError(
            f"The files declare different label names: {'; '.join(_list(names or ('none',)) for names in declared)}."
        )
    names = declared.pop()
    read = {split: [_name(part, index, names) for part in rows for index in range(len(part.labels))]
            for split, rows in splits.items()}  # fmt: skip
    if names is not None:
        return _Written(read, {name: index for index, name in enumerate(names)}, names)
    kinds = {type(label) for part in parts for label in part.labels}
    if str in kinds and len(kinds) > 1:
        odd = next((part, index) for part in parts for index, label in enumerate(part.labels)
                   if isinstance(label, str) != isinstance(parts[0].labels[0], str))  # fmt: skip
        raise DataError(
            f"{odd[0].place(odd[1])}: label {odd[0].labels[odd[1]]!r}, where {parts[0].place(0)} has "
            f"{parts[0].labels[0]!r}: strings and numbers are mixed.",
            "Write all labels as names, or all as integers.",
        )
    return _integers(read, parts) if kinds != {bool} else _Written(read, {"False": 0, "True": 1}, None)


def _integers(read: Mapping[SplitName, list[str]], parts: Sequence[Rows]) -> _Written:
    """Recognise integers, also those that a CSV file holds as strings or pandas wrote as 1.0."""
    distinct = {name for names in read.values() for name in names}
    if not all(re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", name, flags=re.ASCII) for name in distinct):
        return _Written(read, None, None)
    numbers = {name: float(name) for name in distinct}
    fractions = sorted(name for name, number in numbers.items() if not number.is_integer())
    if fractions:
        raise DataError(
            f"{parts[0].name}: label {fractions[0]} is a number with a fraction: a score, not a class.",
            "Write classes as names or integers, or name another column with --label-column.",
        )
    short = {name: str(int(number)) for name, number in numbers.items()}
    return _Written(
        {split: [short[name] for name in names] for split, names in read.items()},
        {name: int(name) for name in short.values()},
        None,
    )


def _name(part: Rows, index: int, declared: tuple[str, ...] | None) -> str:
    label = part.labels[index]
    if declared is not None:
        if not isinstance(label, int) or not 0 <= label < len(declared):
            raise DataError(f"{part.place(index)}: label {label!r} is outside 0 to {len(declared) - 1}.")
        return declared[label]
    if isinstance(label, str):
        return label.strip()
    if isinstance(label, bool | int | float):
        return str(label)
    what = "several labels" if isinstance(label, list | tuple) else f"a {type(label).__name__}"
    raise DataError(
        f"{part.place(index)}: the label is {what}, {str(label)[:40]}.",
        "Each row needs one label, a name or an integer. Name its column with --label-column.",
    )


def _list(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
