"""Rows as they stand in a file, each with its place, and as they are once checked."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.data.columns import Chooser, Chosen
from compressor.errors import DataError

INCOMPLETE = "Check that it was written or downloaded completely."
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Rows:
    """Some columns of one file or of one split of a hub dataset.

    Attributes:
        name: What messages call it: the file, or the dataset and its split.
        unit: What ``numbers`` counts: ``line`` (of the file, from 1) or ``row`` (from 1).
        numbers: Where each row stands.
        texts: Values of the text column (of the tokens, where that is what a row has); ``None`` where there is none.
        labels: Values of the label column, likewise.
        label_names: Names of integer labels where the format declares them (``ClassLabel``).
        note: How the file was read, where that is not plain.
        columns: Names of all columns that the file has.
        more: Values of further columns that were asked for, as far as it has them.
        pairs: Values of the column with the second text or the context; empty where there is none.
        words: Once checked, the words of each row as (first character, end), for token classification.
        stacked: The words of a row stand on lines of their own, one below the other.
    """

    name: str
    unit: str
    numbers: Sequence[int]
    texts: Sequence[object]
    labels: Sequence[object]
    label_names: tuple[str, ...] | None = None
    note: str = ""
    columns: tuple[str, ...] = ()
    more: Mapping[str, Sequence[object]] = field(default_factory=dict)
    pairs: Sequence[object] = ()
    words: Sequence[Spans] = ()
    stacked: bool = False

    def place(self, index: int) -> str:
        """Return where a row stands, as in ``reviews.csv, line 7``."""
        return f"{self.name}, {self.unit} {self.numbers[index]}"


Reader = Callable[[Path, Chooser], Rows]


@dataclass(frozen=True)
class Item:
    """One row, checked.

    Attributes:
        text: The text or question.
        label: What is right, as the kind of task reads it.
        pair: The second text or the context.
        words: Words of the text as (first character, end).
        mended: What had to be put right, in words; empty for nothing.
    """

    text: str
    label: object = None
    pair: str = ""
    words: Spans = ()
    mended: str = ""


Examine = Callable[[Rows, int], Item | str]
"""Check one row: the row, or what it lacks (a key of ``clean.LACKS``)."""


def gather(
    name: str | Path,
    unit: str,
    numbers: Sequence[int],
    values: Mapping[str, Sequence[object]],
    chosen: Chosen,
    columns: Sequence[str],
    note: str = "",
    **facts: Any,
) -> Rows:
    """Make rows of the columns that were chosen.

    Args:
        name: Of the file or split.
        unit: What ``numbers`` counts.
        numbers: Where each row stands.
        values: At least the chosen columns.
        chosen: Which column is what.
        columns: Names of all columns there.
        note: How the file was read.
        facts: Further fields of ``Rows``.
    """
    return Rows(
        str(name),
        unit,
        numbers,
        values[chosen.text],
        [None] * len(numbers) if chosen.label is None else values[chosen.label],
        note=" ".join(filter(None, (note, chosen.note))),
        columns=tuple(columns),
        more={name: values[name] for name in chosen.more},
        pairs=() if chosen.pair is None else values[chosen.pair],
        **facts,
    )


# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Read a text file whole: UTF-8, or what its byte order mark says.

    Raises:
        DataError: It is empty or of another encoding; the line is named.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        start = data.rfind(b"\n", 0, error.start) + 1
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}, byte {error.start - start + 1}: 0x{data[error.start]:02x} is not valid {encoding}.",
            f"Convert the file to UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name}",
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty.", INCOMPLETE)
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            f"{path}, line {text.count(chr(10), 0, nul) + 1}: a NUL character.",
            "If the file is UTF-16 without a byte order mark, convert it: "
            f"iconv -f UTF-16LE -t UTF-8 {path.name} > utf8-{path.name}",
        )
    return text
