"""From a path or a hub name to three checked splits and the meaning of their labels."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from compressor.artifacts import SPLITS, Corpus, Split, SplitName
from compressor.data.clean import clean, unlabelled
from compressor.data.columns import chooser
from compressor.data.files import FORMATS, find_files
from compressor.data.hub import read_hub
from compressor.data.labels import reconcile
from compressor.data.splits import Ids, hold_out, stratified_sample
from compressor.data.tables import READERS, Rows, read_rows
from compressor.errors import DataError
from compressor.events import Listener, Note, Warned, ignore
from compressor.recipe import DataRecipe

Splits = dict[SplitName, Split]
Tell = list[Note | Warned]
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")
MOST_SLICES = 100
EMPTY = "(empty)"


def read_corpus(
    recipe: DataRecipe,
    source: str,
    teacher_labels: tuple[str, ...] | None,
    seed: int,
    listen: Listener = ignore,
    *,
    columns: Sequence[str] = (),
) -> Corpus:
    """Read labelled texts, carve out the splits that are missing, and give every label its id.

    Args:
        recipe: Columns, shares of the carved splits and the largest number of training rows.
        source: A CSV, TSV, JSONL or Parquet file, a folder of them, or a hub dataset (``name`` or ``name:config``).
            A path that exists comes before a hub name.
        teacher_labels: Names in the order of the teacher's outputs; ``None`` where its head is still to be trained.
        seed: Decides which rows are carved out or sampled.
        listen: Receives a ``Note`` or ``Warned`` for each text of ``Corpus.notes``.
        columns: Further columns of the test rows to keep, for slices.

    Raises:
        DataError: Nothing there, unreadable, without text or label column, of one label, ...: the message names
            the file and the line.
        HubError: The hub cannot be reached or does not know the dataset.
    """
    tell: Tell = []
    rows = _clean(_read(recipe, source, tell, columns), tell)
    splits, labels = _label(rows, teacher_labels, tell)
    _check_columns(rows, splits, columns)
    _check_train(splits["train"], labels, source)
    splits = _carve(splits, recipe, seed, tell)
    _check(splits, labels, teacher_labels, tell)
    splits = _limit(splits, recipe.max_train_rows, seed, tell)
    for event in tell:
        listen(event)
    return Corpus(
        splits={split: splits[split] for split in SPLITS},
        labels=labels,
        source=source,
        fingerprint=_fingerprint(splits, labels),
        notes=tuple(event.text for event in tell),
    )


def _read(
    recipe: DataRecipe, source: str, tell: Tell, columns: Sequence[str] = ()
) -> dict[SplitName, tuple[Rows, ...]]:
    choose = chooser(recipe, columns)
    path = Path(source).expanduser()
    if not path.exists():
        if _looks_like_path(source):
            raise DataError(f"Data {source} does not exist.", _near_path(path))
        found = read_hub(source, choose)
        tell.extend(map(Note, found.notes))
        return dict(found.splits)
    files = find_files(path)
    if files.ignored:
        names = ", ".join(str(item.relative_to(path)) for item in files.ignored)
        tell.append(Warned(f"Not read, because the name says no split: {names}."))
    read = {split: tuple(read_rows(item, choose) for item in items) for split, items in files.splits.items()}
    tell.extend(Note(part.note) for parts in read.values() for part in parts if part.note)
    return read


def _looks_like_path(source: str) -> bool:
    return (
        source.startswith((".", "/", "~"))
        or source.endswith("/")
        or "\\" in source
        or source.count("/") > 1
        or Path(source).suffix.lower() in READERS
    )


def _near_path(path: Path) -> str:
    parent = path.parent
    there = sorted(item.name for item in parent.iterdir()) if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, n=1)
    if near:
        return f"Did you mean {parent / near[0]}?"
    return f"Give a {FORMATS} file, a folder of them, or the name of a hub dataset."


def _clean(read: Mapping[SplitName, Sequence[Rows]], tell: Tell) -> dict[SplitName, tuple[Rows, ...]]:
    cleaned = {}
    for split, parts in read.items():
        if split != "train" and all(part.label_names is not None for part in parts) and unlabelled(parts):
            tell.append(Warned(f"The {split} split of the dataset has no labels, so it is not used."))
            continue
        cleaned[split], dropped = clean(parts, split)
        if dropped:
            tell.append(Warned(dropped))
    return cleaned


def _label(
    rows: Mapping[SplitName, Sequence[Rows]], teacher_labels: tuple[str, ...] | None, tell: Tell
) -> tuple[Splits, tuple[str, ...]]:
    labelled = reconcile(rows, teacher_labels)
    tell.extend(map(Note, labelled.notes))
    tell.extend(map(Warned, labelled.warnings))
    splits = {
        split: Split(
            tuple(str(text) for part in parts for text in part.texts), labelled.ids[split], dict(_columns(parts))
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


def _carve(splits: Splits, recipe: DataRecipe, seed: int, tell: Tell) -> Splits:
    found = dict(splits)
    whole = len(splits["train"].texts)
    # Test first: it then stays the same when the share of the validation split changes.
    shares: dict[SplitName, float] = {"test": recipe.test_fraction, "validation": recipe.validation_fraction}
    for split, fraction in shares.items():
        if split in found:
            continue
        train = found["train"]
        held = hold_out(train.texts, train.labels, max(1, round(whole * fraction)), seed)
        found["train"], found[split] = _take(train, np.flatnonzero(~held)), _take(train, np.flatnonzero(held))
        tell.append(
            Note(
                f"No {split} split was given: {int(held.sum())} of the {whole} training rows were held out for it "
                f"(stratified by label, seed {seed})."
            )
        )
    return found


def _take(split: Split, indices: Ids) -> Split:
    columns = {name: tuple(values[index] for index in indices) for name, values in split.columns.items()}
    return Split(tuple(split.texts[index] for index in indices), split.labels[indices], columns)


def _check_train(train: Split, labels: tuple[str, ...], source: str) -> None:
    trained = set(train.labels.tolist())
    if len(trained) < 2:
        raise DataError(
            f"All training rows of {source} have the label {labels[min(trained)]!r}: there is nothing to tell apart.",
            "Check that the file is complete and that --label-column names the right column.",
        )


def _check(splits: Splits, labels: tuple[str, ...], teacher_labels: tuple[str, ...] | None, tell: Tell) -> None:
    trained = set(splits["train"].labels.tolist())
    for split in HELD_OUT:
        ids = splits[split].labels
        unseen = sorted(set(ids.tolist()) - trained)
        if not unseen:
            continue
        rows = int(np.isin(ids, unseen).sum())
        message = f"{rows} {split} rows have a label that no training row has: {', '.join(labels[i] for i in unseen)}."
        if teacher_labels is None:
            raise DataError(message, "Correct the spelling, add training rows of that label, or remove these rows.")
        tell.append(Warned(message))
    if len(trained) > len(splits["train"].labels) / 2 and len(trained) > 10:
        tell.append(
            Warned(
                f"{len(trained)} labels in {len(splits['train'].labels)} training rows: check that --label-column "
                "names the right column."
            )
        )
    seen = set(splits["train"].texts)
    for split in HELD_OUT:
        texts = splits[split].texts
        shared = sum(1 for text in texts if text in seen)
        if shared:
            tell.append(
                Warned(
                    f"{shared} of {len(texts)} {split} texts are in the training split too: "
                    f"{split} scores flatter the model."
                )
            )


def _limit(splits: Splits, limit: int | None, seed: int, tell: Tell) -> Splits:
    train = splits["train"]
    if limit is None or limit >= len(train.texts):
        return splits
    try:
        chosen = stratified_sample(train.labels, limit, seed)
    except DataError as error:
        raise DataError(f"--max-train-rows {limit}: {error.message}", error.remedy) from None
    tell.append(
        Note(f"Trained on a sample of {limit} of {len(train.texts)} training rows (stratified by label, seed {seed}).")
    )
    return {**splits, "train": _take(train, chosen)}


def _fingerprint(splits: Mapping[SplitName, Split], labels: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for strings in (labels, *(splits[split].texts for split in SPLITS)):
        # Lengths first, so that no two different corpora write the same bytes.
        encoded = [string.encode() for string in strings]
        digest.update(np.array([len(encoded), *map(len, encoded)], dtype="<i8").tobytes())
        digest.update(b"".join(encoded))
    for split in SPLITS:
        digest.update(splits[split].labels.astype("<i8").tobytes())
    return digest.hexdigest()
