"""From a path or a hub name to three checked splits and the meaning of their labels."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from compressor.artifacts import SPLITS, Corpus, Split, SplitName
from compressor.data.clean import clean, unlabelled
from compressor.data.columns import Chooser, chooser
from compressor.data.division import Splits, Tell, carve, check_splits, check_train, drop_unscored, limit
from compressor.data.files import Formats, find_files
from compressor.data.hub import read_hub
from compressor.data.kinds import READING
from compressor.data.rows import Rows
from compressor.errors import DataError
from compressor.events import Listener, Note, Warned, ignore
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS, Task

MOST_SLICES = 100
EMPTY = "(empty)"

Read = dict[SplitName, tuple[Rows, ...]]


def read_corpus(
    recipe: DataRecipe,
    source: str,
    teacher_labels: tuple[str, ...] | None,
    seed: int,
    listen: Listener = ignore,
    *,
    task: Task = TASKS["single-label"],
    columns: Sequence[str] = (),
) -> Corpus:
    """Read texts and what is right about them, carve out the splits that are missing, and give every label its id.

    Args:
        recipe: Columns, shares of the carved splits and the largest number of training rows.
        source: A file, a folder of files, or a hub dataset (``name`` or ``name:config``). A path that exists comes
            before a hub name. Which formats there are is told by ``kinds.READING``.
        teacher_labels: Names in the order of the teacher's outputs; ``None`` where its head is still to be trained,
            or has no names.
        seed: Decides which rows are carved out or sampled.
        listen: Receives a ``Note`` or ``Warned`` for each text of ``Corpus.notes``.
        task: What the rows are for.
        columns: Further columns of the test rows to keep, for slices.

    Raises:
        DataError: Nothing there, unreadable, without text or label column, of one label, ...: the message names
            the file and the line.
        HubError: The hub cannot be reached or does not know the dataset.
    """
    tell: Tell = []
    rows = clean_rows(read_rows(recipe, source, task, tell, columns), task, tell)
    splits, labels = label_rows(rows, task, teacher_labels, recipe, tell)
    _check_columns(rows, splits, columns)
    check_train(splits["train"], task, labels, source)
    splits = carve(drop_unscored(splits, task, tell), task, recipe, seed, tell)
    check_splits(splits, task, labels, headless=teacher_labels is None, tell=tell)
    splits = limit(splits, task, recipe.max_train_rows, seed, tell)
    for event in tell:
        listen(event)
    return Corpus(
        splits={split: splits[split] for split in SPLITS},
        labels=labels,
        source=source,
        fingerprint=_fingerprint(splits, labels, task),
        notes=tuple(event.text for event in tell),
        task=task,
    )


def read_rows(recipe: DataRecipe, source: str, task: Task, tell: Tell, columns: Sequence[str] = ()) -> Read:
    """Read the rows of every split that is there, as they stand there.

    Raises:
        DataError: As in ``read_corpus``.
        HubError: As in ``read_corpus``.
    """
    choose = chooser(recipe, columns, task.kind)
    formats = READING[task.kind].formats
    path = Path(source).expanduser()
    if not path.exists():
        if _looks_like_path(source, formats):
            raise DataError(f"Data {source} does not exist.", _near_path(path, formats))
        found = read_hub(source, choose)
        tell.extend(map(Note, found.notes))
        return dict(found.splits)
    files = find_files(path, formats)
    if files.ignored:
        names = ", ".join(str(item.relative_to(path)) for item in files.ignored)
        tell.append(Warned(f"Not read, because the name says no split: {names}."))
    read = {split: tuple(_read(formats, item, choose) for item in items) for split, items in files.splits.items()}
    notes = dict.fromkeys(part.note for parts in read.values() for part in parts if part.note)
    tell.extend(map(Note, notes))
    return read


def _read(formats: Formats, path: Path, choose: Chooser) -> Rows:
    try:
        return formats.reader(path)(path, choose)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _looks_like_path(source: str, formats: Formats) -> bool:
    return (
        source.startswith((".", "/", "~"))
        or source.endswith("/")
        or "\\" in source
        or source.count("/") > 1
        or Path(source).suffix.lower() in formats.readers
    )


def _near_path(path: Path, formats: Formats) -> str:
    parent = path.parent
    there = sorted(item.name for item in parent.iterdir()) if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    if near:
        return f"Did you mean {parent / near[0]}?"
    return f"Give a {formats.words} file, a folder of them, or the name of a hub dataset."


def clean_rows(read: Mapping[SplitName, Sequence[Rows]], task: Task, tell: Tell) -> Read:
    """Check every row, and drop those that cannot be used."""
    reading = READING[task.kind]
    cleaned: Read = {}
    for split, parts in read.items():
        spare = split != "train" and len(read) > 1
        if spare and all(part.label_names is not None for part in parts) and unlabelled(parts):
            tell.append(Warned(f"The {split} split of the dataset has no labels, so it is not used."))
            continue
        cleaned[split], told = clean(parts, split, reading.examine, gaps=reading.gaps)
        tell.extend(told)
    return cleaned


def label_rows(
    rows: Mapping[SplitName, Sequence[Rows]],
    task: Task,
    teacher_labels: tuple[str, ...] | None,
    recipe: DataRecipe,
    tell: Tell,
) -> tuple[Splits, tuple[str, ...]]:
    """Give every label its id.

    Returns:
        The splits that are there, and the names of the labels.
    """
    labelled = READING[task.kind].label(rows, teacher_labels, recipe)
    tell.extend(map(Note, labelled.notes))
    tell.extend(map(Warned, labelled.warnings))
    splits = {
        split: Split(
            tuple(str(text) for part in parts for text in part.texts),
            labelled.ids[split],
            dict(_columns(parts)),
            tuple(str(pair) for part in parts for pair in part.pairs),
            tuple(spans for part in parts for spans in part.words) if task.kind == "token-classification" else (),
        )
        for split, parts in rows.items()
    }
    return splits, labelled.names


def _columns(parts: Sequence[Rows]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name in dict.fromkeys(name for part in parts for name in part.more):
        values = (value for part in parts for value in part.more.get(name, [None] * len(part.texts)))
        # NaN is how pandas writes what is missing.
        words = ("" if value is None or value != value else str(value).strip() for value in values)  # noqa: PLR0124
        yield name, tuple(word or EMPTY for word in words)


def _check_columns(
    rows: Mapping[SplitName, Sequence[Rows]], splits: Mapping[SplitName, Split], columns: Sequence[str]
) -> None:
    tested: SplitName = "test" if "test" in rows else "train"  # it is carved out of the training rows
    there = list(dict.fromkeys(name for part in rows[tested] for name in part.columns))
    for name in columns:
        values = splits[tested].columns.get(name)
        if values is None:
            near = difflib.get_close_matches(name, there, n=1)
            raise DataError(
                f"{rows[tested][0].name}: no column {name!r} to slice by. Its columns: {', '.join(map(repr, there))}.",
                f"Did you mean {near[0]!r}?" if near else "Correct --slice-columns.",
            )
        if len(set(values)) > MOST_SLICES:
            raise DataError(
                f"Column {name!r} has {len(set(values)):,} different values in {len(values):,} {tested} rows: "
                f"at most {MOST_SLICES} can be told apart.",
                "Name columns with few values in --slice-columns, such as the source or the language.",
            )


def _fingerprint(splits: Mapping[SplitName, Split], labels: tuple[str, ...], task: Task) -> str:
    digest = hashlib.sha256()
    for strings in (labels, *(splits[split].texts for split in SPLITS)):
        _digest_strings(digest, strings)
    if task.kind == "single-label":
        for split in SPLITS:
            digest.update(splits[split].labels.astype("<i8").tobytes())
    else:
        for split in SPLITS:
            rows = splits[split].labels
            content = rows.tolist() if isinstance(rows, np.ndarray) else rows
            digest.update(json.dumps([task.kind, content, splits[split].words]).encode())
    # Single texts add nothing, so that what was kept for them before there were pairs is found again.
    for split in SPLITS:
        if splits[split].pairs:
            _digest_strings(digest, splits[split].pairs)
    return digest.hexdigest()


def _digest_strings(digest: hashlib._Hash, strings: Sequence[str]) -> None:
    # Lengths first, so that no two different corpora write the same bytes.
    encoded = [string.encode() for string in strings]
    digest.update(np.array([len(encoded), *map(len, encoded)], dtype="<i8").tobytes())
    digest.update(b"".join(encoded))
