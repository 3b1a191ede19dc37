"""Read SQuAD files: articles with paragraphs, questions and answers, in one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.data.columns import Chooser
from compressor.data.rows import INCOMPLETE, Rows, gather, read_text
from compressor.data.tables import read_jsonl
from compressor.errors import DataError

COLUMNS = ("question", "context", "answers", "id", "title")


def read_squad(path: Path, choose: Chooser) -> Rows:
    """Read SQuAD 1.1 or 2.0; a file that is no such object is read as JSONL.

    Rows are counted by question, from 1: lines mean nothing in such a file.

    Raises:
        DataError: It is not valid JSON, or a paragraph or question lacks what it needs; its place is named.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        # Several objects, one on each line; or damaged, which the other reader tells with its line.
        return read_jsonl(path, choose)
    if not isinstance(content, Mapping) or "data" not in content:
        return read_jsonl(path, choose)
    rows = list(_questions(path, content["data"]))
    if not rows:
        raise DataError(f"{path} has no questions.", INCOMPLETE)
    values = {name: [row[name] for row in rows] for name in COLUMNS}
    chosen = choose(str(path), COLUMNS)
    return gather(path, "question", range(1, len(rows) + 1), values, chosen, COLUMNS)


def _questions(path: Path, articles: object) -> Iterator[Mapping[str, object]]:
    for number, article in enumerate(_list(path, articles, "data"), start=1):
        place = f"data[{number - 1}]"
        for index, paragraph in enumerate(
            _list(path, _take(path, article, "paragraphs", place), f"{place}.paragraphs")
        ):
            inner = f"{place}.paragraphs[{index}]"
            context = _take(path, paragraph, "context", inner)
            for which, asked in enumerate(_list(path, _take(path, paragraph, "qas", inner), f"{inner}.qas")):
                own = f"{inner}.qas[{which}]"
                impossible = asked.get("is_impossible") if isinstance(asked, Mapping) else False
                yield {
                    "question": _take(path, asked, "question", own),
                    "context": context,
                    # Where there is none, SQuAD 2.0 may give plausible answers, under another name.
                    "answers": [] if impossible else _take(path, asked, "answers", own),
                    "id": asked.get("id", ""),
                    "title": article.get("title", ""),
                }


def _take(path: Path, item: object, key: str, place: str) -> Any:
    if not isinstance(item, Mapping) or key not in item:
        raise DataError(f"{path}: {place} has no {key!r}.", _SHAPE)
    return item[key]


def _list(path: Path, value: object, place: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise DataError(f"{path}: {place} is no list.", _SHAPE)
    return value


_SHAPE = (
    'SQuAD files look like {"data": [{"paragraphs": [{"context": "...", "qas": [{"question": "...", '
    '"answers": [{"text": "...", "answer_start": 7}]}]}]}]}.'
)
