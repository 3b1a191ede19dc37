"""Rows that nobody has labelled: read, and put beside the training rows for the teacher to answer.

They teach by the teacher's answers alone. In the place of a label they have what stands for none: ``IGNORED`` for a
single label, NaN for scores and sets of labels, no words at all where words are labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compressor.answers import IGNORED, Ints
from compressor.artifacts import Added, Addition, Corpus, Split
from compressor.data.clean import clean
from compressor.data.columns import Chooser, unlabelled_chooser
from compressor.data.rows import Item, Rows, gather, read_text
from compressor.data.tables import READERS
from compressor.data.texts import read_string, unlabelled
from compressor.data.words import join
from compressor.errors import DataError
from compressor.events import Listener, ignore
from compressor.recipe import DataRecipe
from compressor.tasks import Kind

Row = tuple[str, ...]
"""A text, or both texts of a pair."""

_FORMATS = f"Give plain text with one text on each line (.txt), or {', '.join(READERS)}."

_NO_LABELS: Mapping[Kind, Callable[[Corpus, int], Any]] = {
    "single-label": lambda corpus, rows: np.full(rows, IGNORED, np.int64),
    "multi-label": lambda corpus, rows: np.full((rows, len(corpus.labels)), np.nan, np.float32),
    "regression": lambda corpus, rows: np.full(rows, np.nan, np.float32),
    "token-classification": lambda corpus, rows: ((),) * rows,
    "feature-extraction": lambda corpus, rows: np.zeros(rows, np.int64),
}
"""What stands for no label. A kind that is not here learns nothing from a text alone."""

ANSWERABLE = tuple(_NO_LABELS)
"""Kinds of task whose rows a teacher can answer without labels."""


def find_unlabelled(source: str) -> Path:
    """Find the file before anything is read or trained.

    Raises:
        DataError: It is not there, or no file that can be read.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"--unlabelled {source} does not exist.", "Check the path.")
    if path.is_dir():
        raise DataError(f"--unlabelled {source} is a folder.", f"Name one file. {_FORMATS}")
    if path.suffix.lower() not in (".txt", *READERS):
        raise DataError(f"--unlabelled {source} is of no known format.", _FORMATS)
    return path


def read_unlabelled(recipe: DataRecipe, source: str, corpus: Corpus, listen: Listener = ignore) -> Corpus:
    """Read a file of texts, and add those that are new to a corpus.

    Args:
        recipe: Columns, as for the labelled rows.
        source: A text file with a text on each line, or a table.
        corpus: What is labelled.
        listen: Receives a ``Note`` or ``Warned`` for each row that is left out, and how the file was read.

    Raises:
        DataError: No such file, unreadable, without the column, or no row that can be used.
    """
    path, kind = find_unlabelled(source), corpus.task.kind
    choose = unlabelled_chooser(recipe, kind)
    try:
        part = _lines(path) if path.suffix.lower() == ".txt" else READERS[path.suffix.lower()](path, choose)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    _check_pairs(part, path, corpus)
    (found,), told = clean([part], "unlabelled", _examine, gaps=True)
    for event in told:
        listen(event)
    rows: list[Row] = [(str(text),) for text in found.texts]
    if found.pairs:
        rows = [(text, str(pair)) for (text,), pair in zip(rows, found.pairs, strict=True)]
    grown = add(corpus, rows, "unlabelled", source)
    addition = grown.added.parts[-1] if grown.added is not None else None
    if addition is None or addition.rows == 0:
        left_out = addition or Addition("unlabelled", 0, source)
        raise DataError(
            f"--unlabelled {source} has no row that can be used: of {len(rows)}, {left_out.held_out} are validation or "
            f"test texts and {left_out.repeated} are training texts or repeat one.",
            "Give texts that --data does not have, or drop --unlabelled.",
        )
    return grown


def add(
    corpus: Corpus,
    rows: Sequence[Row],
    kind: Literal["unlabelled", "augmented"],
    source: str,
    altered: Sequence[int] = (),
) -> Corpus:
    """Put rows beside the training rows, but for those that say what another row says.

    What is tested must not be learnt, not even by its soft label: rows that validation or test texts equal are left
    out, and so are repeats of what is learnt already.

    Args:
        corpus: May have added rows already.
        rows: A text or a pair each.
        kind: Where they are from.
        source: The file, or what was done to them.
        altered: For each row the training row that it is an altered copy of; none where they are texts of their own.

    Returns:
        The corpus with the rows that are new, and how many were left out.
    """
    held_out = {row for split in ("validation", "test") for row in rows_of(corpus.splits[split])}
    before = corpus.added
    seen = {*rows_of(corpus.splits["train"]), *(rows_of(before.split) if before is not None else ())}
    fresh: list[Row] = []
    origins = list(before.altered) if before is not None else []
    left: dict[str, int] = {"held_out": 0, "repeated": 0}
    for row, origin in zip(rows, altered or [-1] * len(rows), strict=True):
        if row in held_out:
            left["held_out"] += 1
        elif row in seen:
            left["repeated"] += 1
        else:
            seen.add(row)
            fresh.append(row)
            origins.append(origin)
    whole = [*(rows_of(before.split) if before is not None else ()), *fresh]
    parts = (*(before.parts if before is not None else ()), Addition(kind, len(fresh), source, **left))
    return replace(corpus, added=Added(_split(corpus, whole), parts, tuple(origins)))


def forms(corpus: Corpus) -> Ints | None:
    """Say which training rows are forms of one text.

    Returns:
        For each training row, the added ones behind the labelled ones, the row of the text that it is a form of: its
        own, or the one that it was altered from. ``None`` where nothing was altered.
    """
    added = corpus.added
    if added is None or max(added.altered, default=-1) < 0:
        return None
    labelled = len(corpus.splits["train"].texts)
    altered = np.array(added.altered, np.int64)
    return np.concatenate([np.arange(labelled), np.where(altered < 0, labelled + np.arange(len(altered)), altered)])


def rows_of(split: Split) -> list[Row]:
    """The rows of a split, without their labels."""
    return list(zip(split.texts, split.pairs, strict=True)) if split.pairs else [(text,) for text in split.texts]


def _split(corpus: Corpus, rows: Sequence[Row]) -> Split:
    kind = corpus.task.kind
    return Split(
        tuple(row[0] for row in rows),
        _NO_LABELS[kind](corpus, len(rows)),
        pairs=tuple(row[1] for row in rows) if corpus.splits["train"].pairs else (),
        words=((),) * len(rows) if kind == "token-classification" else (),
    )


def _lines(path: Path) -> Rows:
    """Read a text on each line; blank lines are none."""
    # str.splitlines() would also cut at U+0085, U+2028 and others that may stand inside a text.
    lines = enumerate(read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
    numbered = [(number, line) for number, line in lines if line.strip()]
    choose: Chooser = unlabelled_chooser(DataRecipe(), "feature-extraction")
    values = {"text": [line for _, line in numbered]}
    return gather(path, "line", [number for number, _ in numbered], values, choose(str(path), ("text",)), ("text",))


def _check_pairs(part: Rows, path: Path, corpus: Corpus) -> None:
    wanted, met = bool(corpus.splits["train"].pairs), bool(part.pairs)
    if wanted and not met:
        raise DataError(
            f"--unlabelled {path} has single texts, but the training rows are pairs.",
            "Give a table with both columns, as --data has them, or name them with --text-column and --pair-column.",
        )
    if met and not wanted:
        raise DataError(
            f"--unlabelled {path} has pairs of texts, but the training rows are single texts.",
            "Name the column of the text with --text-column.",
        )


def _examine(part: Rows, index: int) -> Item | str:
    """Check a text, a pair, or a list of words."""
    value = part.texts[index]
    if not isinstance(value, list | tuple):
        return unlabelled(part, index)
    words = [read_string(part, index, word, "token").strip() for word in value]
    words = [word for word in words if word]
    return Item(join(words)[0]) if words else "text"
