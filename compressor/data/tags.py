"""From tags as they are written to ids: the scheme of entities made one, and matched with the teacher's names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace

from compressor.artifacts import SplitName
from compressor.data.labels import Labelled, flattened, reconcile
from compressor.data.rows import Rows
from compressor.data.words import OUTSIDE
from compressor.errors import DataError

# Of BIOES, BILOU and BMES, what the same word is called in BIO.
_PLAIN = {"B": "B", "I": "I", "S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
_TAG = re.compile(r"([BIESLUM])[-_](.+)", re.DOTALL)

_Names = list[str]


def reconcile_tags(splits: Mapping[SplitName, Sequence[Rows]], teacher_labels: tuple[str, ...] | None) -> Labelled:
    """Give every word the id of its tag.

    A teacher with a head decides the scheme: tags are matched with its names as they are written; where it does not
    know those of BIOES, BILOU or BMES, they are read as BIO. Without such a teacher tags stay what they are, except
    that an entity that begins with ``I-`` (IOB1, or a slip) begins with ``B-``.

    Args:
        splits: Rows whose labels are one tag for each word.
        teacher_labels: Names in the order of the teacher's outputs; ``None`` where its head is still to be trained.

    Returns:
        Ids as one tuple per row.

    Raises:
        DataError: Tags with and without ``B-`` and ``I-``; a tag that the teacher does not have.
    """
    names = {part.label_names for parts in splits.values() for part in parts} - {None}
    named = (
        {split: tuple(_named(part) for part in parts) for split, parts in splits.items()} if len(names) == 1 else splits
    )
    notes: list[str] = []
    _check_scheme(named)
    used = Counter(str(tag) for parts in named.values() for part in parts for row in part.labels for tag in _row(row))
    if teacher_labels is not None and any(_other_scheme(tag) and tag not in teacher_labels for tag in used):
        named = _map(named, _as_bio)
        notes.append("Tags of another scheme (BIOES, BILOU or BMES) were read as BIO, which the teacher knows.")
    if teacher_labels is None:
        begun = Counter[str]()
        named = _map(named, lambda row: _begin(row, begun))
        if begun.total():
            notes.append(
                f"{begun.total()} entities begin with I- where none of their type goes before (as in IOB1): the first "
                "word was read as B-."
            )
    flat, restore = flattened(named)
    found = reconcile(flat, teacher_labels, key=_place, declared=_declared(names, flat))
    return replace(found, ids=restore(found.ids), notes=(*notes, *found.notes))


def _declared(names: Set[tuple[str, ...] | None], flat: Mapping[SplitName, Sequence[Rows]]) -> tuple[str, ...] | None:
    """Take the dataset's own order of names; those that only reading has made follow."""
    if len(names) != 1:
        return None
    used = {str(tag) for parts in flat.values() for part in parts for tag in part.labels}
    own = next(iter(names)) or ()
    return (*own, *sorted(used - set(own), key=_place))


def _place(name: str) -> tuple[bool, str, str]:
    """Outside first, then type by type, beginning before inside."""
    prefix, kind = _parts(name)
    return name != OUTSIDE, kind, prefix


def _parts(tag: str) -> tuple[str, str]:
    match = _TAG.fullmatch(tag)
    return (match[1], match[2]) if match else ("", tag)


def _row(row: object) -> Sequence[object]:
    return row if isinstance(row, list | tuple) else ()


def _named(part: Rows) -> Rows:
    """Write declared integers as names; others are left, and refused later."""
    names = part.label_names or ()
    labels = [
        tuple(names[tag] if isinstance(tag, int) and 0 <= tag < len(names) else tag for tag in _row(row))
        for row in part.labels
    ]
    outside = next(
        ((index, tag) for index, row in enumerate(labels) for tag in row if isinstance(tag, int)), None
    )  # fmt: skip
    if outside is not None:
        raise DataError(f"{part.place(outside[0])}: tag {outside[1]!r} is outside 0 to {len(names) - 1}.")
    return replace(part, labels=labels, label_names=None)


def _map(
    splits: Mapping[SplitName, Sequence[Rows]], change: Callable[[Sequence[object]], Sequence[object]]
) -> dict[SplitName, tuple[Rows, ...]]:
    return {
        split: tuple(replace(part, labels=[tuple(change(_row(row))) for row in part.labels]) for part in parts)
        for split, parts in splits.items()
    }


def _other_scheme(tag: str) -> bool:
    return _parts(tag)[0] not in ("", "B", "I")


def _as_bio(row: Sequence[object]) -> _Names:
    found = []
    for tag in map(str, row):
        prefix = _parts(tag)[0]
        found.append(f"{_PLAIN[prefix]}{tag[1:]}" if prefix else tag)
    return found


def _begin(row: Sequence[object], begun: Counter[str]) -> list[object]:
    found: list[object] = []
    before = ""
    for tag in row:
        prefix, kind = _parts(str(tag))
        if prefix == "I" and kind != before:
            begun[kind] += 1
            tag = f"B{str(tag)[1:]}"  # noqa: PLW2901
        before = kind if prefix else ""
        found.append(tag)
    return found


def _check_scheme(splits: Mapping[SplitName, Sequence[Rows]]) -> None:
    """Refuse tags of which some have a prefix and others, beside O, have none: one of the two is a slip."""
    first: dict[bool, tuple[Rows, int, int, str]] = {}
    for parts in splits.values():
        for part in parts:
            for index, row in enumerate(part.labels):
                for place, tag in enumerate(_row(row)):
                    if isinstance(tag, str) and tag != OUTSIDE and tag.strip():
                        first.setdefault(bool(_parts(tag)[0]), (part, index, place, tag))
    if len(first) == 2 and first[True][3][0] in "BI":
        part, index, place, tag = first[False]
        raise DataError(
            f"{_where(part, index, place)}: tag {tag!r} has no B- or I- before it, others do ({first[True][3]!r}).",
            f"Write B-{tag} for the first word of an entity and I-{tag} for the others, or O.",
        )


def _where(part: Rows, index: int, place: int) -> str:
    if part.stacked:
        return f"{part.name}, {part.unit} {part.numbers[index] + place}"
    return f"{part.place(index)}, word {place + 1}"
