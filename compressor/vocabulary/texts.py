"""Texts that say which pieces of a vocabulary are needed: every string of a file, or of the files of a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compressor.errors import DataError, UserError

_FORMATS = ".txt, .conll, .jsonl, .json, .csv, .tsv and .parquet"


def read_texts(source: Path) -> Iterator[str]:
    """Read every string, whatever its column: labels and ids cost a few pieces, and no text is missed.

    Args:
        source: A file, or a folder whose files are read, those in folders below too.

    Raises:
        UserError: There is nothing to read.
        DataError: A file cannot be read; the message names it.
    """
    if not source.exists():
        raise UserError(f"--trim-vocab {source} does not exist.", "Name a file or folder with texts, or write: train.")
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    readable = [path for path in files if path.suffix.lower() in _READERS]
    if not readable:
        raise UserError(
            f"--trim-vocab {source} has no file with texts.", f"Files of these formats are read: {_FORMATS}."
        )
    for path in readable:
        try:
            yield from _READERS[path.suffix.lower()](path)
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}.", "Save it as UTF-8, or leave it out.") from error


def _lines(path: Path) -> Iterator[str]:
    # Not splitlines: a text may hold other line ends, such as U+0085.
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from (line.rstrip("\r\n") for line in file)


def _json(path: Path) -> Iterator[str]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:  # lines, each with a value of its own
        yield from _jsonl(path)
    else:
        yield from _strings(whole)


def _jsonl(path: Path) -> Iterator[str]:
    for line in _lines(path):
        if line.strip():
            yield from _strings(json.loads(line))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)


def _table(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","):
            yield from row


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches():
        yield from _strings(batch.to_pylist())


_READERS: Mapping[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _lines,
    ".conll": _lines,
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
}
