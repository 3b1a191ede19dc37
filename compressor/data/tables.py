"""Read CSV, TSV, JSONL and Parquet files: the columns that are asked for, as they stand there."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from compressor.data.columns import Chooser
from compressor.data.rows import INCOMPLETE, Reader, Rows, gather, read_text
from compressor.errors import DataError

_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}


def read_csv(path: Path, choose: Chooser) -> Rows:
    """Read a CSV file; a semicolon, a tab or a bar may stand for the comma."""
    text = read_text(path)
    header = text.lstrip("\r\n").partition("\n")[0]
    separator = next((mark for mark in _SEPARATORS if mark in header), ",")
    note = "" if separator == "," else f"{path.name} is separated by {_SEPARATORS[separator]}."
    return _read_separated(path, text, _Layout(separator, note=note), choose)


def read_tsv(path: Path, choose: Chooser) -> Rows:
    """Read a TSV file, with or without quotation marks."""
    text = read_text(path)
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
        raise DataError(f"{path} has a header and no rows.", INCOMPLETE)
    return gather(path, "line", numbers, values, chosen, header, note=layout.note)


@contextmanager
def _no_field_limit() -> Iterator[None]:
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


_ONE_OBJECT = 'Each line needs to be one object, as in {"text": "a fine film", "label": "positive"}.'


def read_jsonl(path: Path, choose: Chooser) -> Rows:
    """Read a file with one JSON object on each line."""
    text = read_text(path)
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
    return gather(path, "line", numbers, values, chosen, columns)


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


def read_parquet(path: Path, choose: Chooser) -> Rows:
    """Read a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.", INCOMPLETE)
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
        raise DataError(f"{path} has columns and no rows.", INCOMPLETE)
    return gather(
        path,
        "row",
        range(1, table.num_rows + 1),
        {name: table.column(name).to_pylist() for name in chosen.names},
        chosen,
        schema.names,
        label_names=_declared(schema.metadata or {}, chosen.label),
    )


def _declared(metadata: Mapping[bytes, bytes], column: str | None) -> tuple[str, ...] | None:
    """Read the label names that the datasets library writes into a Parquet file."""
    try:
        return declared_names(json.loads(metadata[b"huggingface"])["info"]["features"][column])
    except (KeyError, ValueError, TypeError):
        return None


def declared_names(feature: Any) -> tuple[str, ...] | None:
    """Take the label names out of a feature as the datasets library describes it: of a label, or of a list of them."""
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if not isinstance(feature, Mapping):
        return None
    if feature.get("_type") == "ClassLabel":
        return tuple(str(name) for name in feature["names"])
    return declared_names(feature.get("feature"))


READERS: Mapping[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".tab": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_jsonl,
    ".parquet": read_parquet,
}
