"""Read one data file: its text and label column as they stand there, each row with its place."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from compressor.data.columns import Chooser, Chosen
from compressor.errors import DataError


@dataclass(frozen=True)
class Rows:
    """Two columns of one file or of one split of a hub dataset, unchecked.

    Attributes:
        name: What messages call it: the file, or the dataset and its split.
        unit: What ``numbers`` counts: ``line`` (of the file, from 1) or ``row`` (from 1).
        numbers: Where each row stands.
        texts: Values of the text column; ``None`` where there is none.
        labels: Values of the label column, likewise.
        label_names: Names of integer labels where the format declares them (``ClassLabel``).
        note: How the file was read, where that is not plain.
        columns: Names of all columns that the file has.
        more: Values of further columns that were asked for, as far as it has them.
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

    def place(self, index: int) -> str:
        """Return where a row stands, as in ``reviews.csv, line 7``."""
        return f"{self.name}, {self.unit} {self.numbers[index]}"


def read_rows(path: Path, choose: Chooser) -> Rows:
    """Read text and label column of one file; the extension names the format.

    Raises:
        DataError: The file is empty, damaged, of another encoding, or has no such columns.
    """
    try:
        return READERS[path.suffix.lower()](path, choose)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


# --- text files -----------------------------------------------------------------------------

_INCOMPLETE = "Check that it was written or downloaded completely."

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _read_text(path: Path) -> str:
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
        raise DataError(f"{path} is empty.", _INCOMPLETE)
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            f"{path}, line {text.count(chr(10), 0, nul) + 1}: a NUL character.",
            "If the file is UTF-16 without a byte order mark, convert it: "
            f"iconv -f UTF-16LE -t UTF-8 {path.name} > utf8-{path.name}",
        )
    return text


_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}


def _read_csv(path: Path, choose: Chooser) -> Rows:
    text = _read_text(path)
    header = text.lstrip("\r\n").partition("\n")[0]
    separator = next((mark for mark in _SEPARATORS if mark in header), ",")
    note = "" if separator == "," else f"{path.name} is separated by {_SEPARATORS[separator]}."
    return _read_separated(path, text, _Layout(separator, note=note), choose)


def _read_tsv(path: Path, choose: Chooser) -> Rows:
    text = _read_text(path)
    try:
        return _read_separated(path, text, _Layout("\t"), choose)
    except _QuoteError:
        # Tools disagree whether TSV has quotes: pandas writes them, GLUE's files have stray ones.
        note = f"{path.name}: its quotation marks do not pair up, so they were read as plain characters."
        return _read_separated(path, text, _Layout("\t", csv.QUOTE_NONE, note), choose)


class _QuoteError(DataError):
    """Quotation marks do not pair up."""


@dataclass(frozen=True)
class _Layout:
    separator: str
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    note: str = ""


def _read_separated(path: Path, text: str, layout: _Layout, choose: Chooser) -> Rows:
    # newline="" leaves line ends to csv, which knows \n, \r\n and \r and no others: U+0085 and U+2028 are text.
    source = io.StringIO(text, newline="")
    lines = csv.reader(source, delimiter=layout.separator, quoting=layout.quoting, strict=True)
    numbers: list[int] = []
    values: dict[str, list[object]] = {}
    begin = 1
    with _no_field_limit():
        try:
            header = next(row for row in lines if row)
            chosen = choose(str(path), header)
            values = {name: [] for name in chosen.names}
            places = {name: header.index(name) for name in chosen.names}
            begin = lines.line_num + 1
            for row in lines:
                if row and len(row) != len(header):
                    raise DataError(
                        f"{path}, line {begin}: {len(row)} fields where the header has {len(header)}.",
                        f"Put a text that holds {_SEPARATORS[layout.separator]} or a line break in quotation marks.",
                    )
                if row:
                    numbers.append(begin)
                    for name, place in places.items():
                        values[name].append(row[place])
                begin = lines.line_num + 1
        except csv.Error as error:
            raise _QuoteError(
                f"{path}, line {begin}: not valid CSV: {error}.",
                'Begin and end a quoted text with ", and write a quotation mark inside it twice: "".',
            ) from None
    if not numbers:
        raise DataError(f"{path} has a header and no rows.", _INCOMPLETE)
    return _rows(path, "line", numbers, values, chosen, header, note=layout.note)


def _rows(
    path: Path,
    unit: str,
    numbers: Sequence[int],
    values: Mapping[str, Sequence[object]],
    chosen: Chosen,
    columns: Sequence[str],
    **facts: Any,
) -> Rows:
    more = {name: values[name] for name in chosen.more}
    texts, labels = values[chosen.text], values[chosen.label]
    return Rows(str(path), unit, numbers, texts, labels, columns=tuple(columns), more=more, **facts)


@contextmanager
def _no_field_limit() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


_ONE_OBJECT = 'Each line needs to be one object, as in {"text": "a fine film", "label": "positive"}.'


def _read_jsonl(path: Path, choose: Chooser) -> Rows:
    text = _read_text(path)
    if text.lstrip().startswith("["):
        raise DataError(
            f"{path} is one JSON list, not one object on each line.",
            f"Convert it: jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )
    numbers: list[int] = []
    objects: list[Mapping[str, object]] = []
    # str.splitlines() would also cut at U+0085, U+2028 and others that may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_object)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}, column {error.colno}: not valid JSON: {error.msg}.", _ONE_OBJECT
            ) from None
        except _TwiceError as error:
            raise DataError(f"{path}, line {number}: the key {error.args[0]!r} is there twice.") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not readable as JSON: {error}.") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: expected an object, found {_shorten(line.strip())}.", _ONE_OBJECT)
        numbers.append(number)
        objects.append(value)
    columns = tuple(dict.fromkeys(key for item in objects for key in item))
    chosen = choose(str(path), columns)
    values = {name: [item.get(name) for item in objects] for name in chosen.names}
    return _rows(path, "line", numbers, values, chosen, columns)


class _TwiceError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


# --- parquet --------------------------------------------------------------------------------


def _read_parquet(path: Path, choose: Chooser) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.", _INCOMPLETE)
    try:
        # One handle for both reads; the file's folder names are not columns.
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            chosen = choose(str(path), schema.names)
            table = file.read(columns=list(chosen.names))
    except (pa.ArrowException, OSError) as error:
        # The rest of arrow's message tells where in its source it gave up.
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DataError(
            f"{path} is not a readable Parquet file: {reason}.", "Check that it was downloaded completely."
        ) from None
    if table.num_rows == 0:
        raise DataError(f"{path} has columns and no rows.", _INCOMPLETE)
    return _rows(
        path,
        "row",
        range(1, table.num_rows + 1),
        {name: table.column(name).to_pylist() for name in chosen.names},
        chosen,
        schema.names,
        label_names=_class_label(schema.metadata or {}, chosen.label),
    )


def _class_label(metadata: Mapping[bytes, bytes], column: str) -> tuple[str, ...] | None:
    """Read the label names that the datasets library writes into a Parquet file."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        return tuple(str(name) for name in feature["names"]) if feature["_type"] == "ClassLabel" else None
    except (KeyError, ValueError, TypeError):
        return None


READERS = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".tab": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_jsonl,
    ".parquet": _read_parquet,
}
