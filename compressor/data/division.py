"""Divide labelled rows: carve out the splits that are missing, sample the training rows, and check what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compressor.artifacts import Split, SplitName
from compressor.data.kinds import READING, Reading
from compressor.data.splits import Ids, hold_out, stratified_sample
from compressor.errors import DataError
from compressor.events import Note, Warned
from compressor.recipe import DataRecipe
from compressor.tasks import Kind, Task

Splits = dict[SplitName, Split]
Tell = list[Note | Warned]
HELD_OUT: tuple[SplitName, ...] = ("validation", "test")


def carve(splits: Splits, task: Task, recipe: DataRecipe, seed: int, tell: Tell) -> Splits:
    """Hold rows of the training split out for the splits that are not there."""
    found = dict(splits)
    whole = len(splits["train"].texts)
    # Test first: it then stays the same when the share of the validation split changes.
    shares: dict[SplitName, float] = {"test": recipe.test_fraction, "validation": recipe.validation_fraction}
    for split, fraction in shares.items():
        if split in found:
            continue
        train = found["train"]
        held, how = _hold_out(train, READING[task.kind], max(1, round(whole * fraction)), seed)
        found["train"], found[split] = take(train, np.flatnonzero(~held)), take(train, np.flatnonzero(held))
        tell.append(
            Note(
                f"No {split} split was given: {int(held.sum())} of the {whole} training rows were held out for it "
                f"({how}, seed {seed})."
            )
        )
    return found


def _hold_out(train: Split, reading: Reading, rows: int, seed: int) -> tuple[npt.NDArray[np.bool_], str]:
    strata, division = reading.strata(train), reading.division
    if not train.pairs or reading.unit == "contexts":
        return hold_out(reading.whole(train), strata, rows, seed), division
    try:
        return hold_out(train.texts, strata, rows, seed), f"{division}, rows of the same first text together"
    except DataError:  # all rows share a few first texts
        return hold_out(_joined(train), strata, rows, seed), division


def _joined(split: Split) -> Sequence[str]:
    return [f"{text}\0{pair}" for text, pair in zip(split.texts, split.pairs, strict=True)]


def take(split: Split, indices: Ids) -> Split:
    """Choose rows of a split."""

    def chosen(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(values[index] for index in indices)

    labels = split.labels
    return Split(
        chosen(split.texts),
        labels[indices] if isinstance(labels, np.ndarray) else tuple(labels[index] for index in indices),
        {name: chosen(values) for name, values in split.columns.items()},
        chosen(split.pairs) if split.pairs else (),
        tuple(split.words[index] for index in indices) if split.words else (),
    )


def limit(splits: Splits, task: Task, most: int | None, seed: int, tell: Tell) -> Splits:
    """Train on a sample of at most so many rows."""
    train = splits["train"]
    if most is None or most >= len(train.texts):
        return splits
    reading = READING[task.kind]
    try:
        chosen = stratified_sample(reading.strata(train), most, seed)
    except DataError as error:
        raise DataError(f"--max-train-rows {most}: {error.message}", error.remedy) from None
    how = reading.division if reading.division.startswith("stratified") else "at random"
    tell.append(Note(f"Trained on a sample of {most} of {len(train.texts)} training rows ({how}, seed {seed})."))
    return {**splits, "train": take(train, chosen)}


# --- checks ---------------------------------------------------------------------------------


def check_train(train: Split, task: Task, labels: tuple[str, ...], source: str) -> None:
    """Refuse training rows that teach nothing.

    Raises:
        DataError: All of them are labelled alike.
    """
    if complaint := READING[task.kind].complaint(train, labels):
        column = "--tags-column" if task.kind == "token-classification" else "--label-column"
        remedy = "Check that the file is complete"
        raise DataError(
            f"All training rows of {source} {complaint}: there is nothing to tell apart.",
            f"{remedy} and that {column} names the right column." if task.named else f"{remedy}.",
        )


def drop_unscored(splits: Splits, task: Task, tell: Tell) -> Splits:
    """Leave out held-out splits of a regression that have one score for all rows, as benchmarks hide theirs."""
    found = dict(splits)
    for split in HELD_OUT if task.kind == "regression" else ():
        if split in found and len(found[split].labels) > 1 and np.ptp(found[split].labels) == 0:
            score = found.pop(split).labels[0]
            tell.append(Warned(f"All rows of the {split} split have the score {score:g}, so it is not used."))
    return found


def check_splits(splits: Splits, task: Task, labels: tuple[str, ...], *, headless: bool, tell: Tell) -> None:
    """Warn of labels that are only tested, and of texts that are learnt and tested.

    Args:
        splits: All three.
        task: What the rows are for.
        labels: Names of the labels.
        headless: The teacher's head is still to be trained, so that nobody knows a label without training rows.
        tell: Receives the warnings.

    Raises:
        DataError: A single label is only tested, and nobody knows it.
    """
    _check_labels(splits, task, labels, headless, tell)
    seen = set(_keys(splits["train"], task.kind)[0])
    for split in HELD_OUT:
        keys, unit = _keys(splits[split], task.kind)
        shared = sum(1 for key in keys if key in seen)
        if shared:
            tell.append(
                Warned(
                    f"{shared} of {len(keys)} {split} {unit} are in the training split too: "
                    f"{split} scores flatter the model."
                )
            )


def _keys(split: Split, kind: Kind) -> tuple[Sequence[str], str]:
    reading = READING[kind]
    if reading.unit == "contexts":
        return tuple(dict.fromkeys(split.pairs)), reading.unit
    return (_joined(split), "pairs") if split.pairs else (reading.whole(split), reading.unit)


def _check_labels(splits: Splits, task: Task, labels: tuple[str, ...], headless: bool, tell: Tell) -> None:
    ids = READING[task.kind].ids
    if ids is None:
        return
    train = splits["train"]
    trained = {label for row in ids(train) for label in row}
    for split in HELD_OUT:
        rows = [set(row) - trained for row in ids(splits[split])]
        unseen = sorted(set().union(*rows))
        if not unseen:
            continue
        message = (
            f"{sum(map(bool, rows))} {split} rows have a label that no training row has: "
            f"{', '.join(labels[label] for label in unseen)}."
        )
        if headless and task.kind == "single-label":
            raise DataError(message, "Correct the spelling, add training rows of that label, or remove these rows.")
        tell.append(Warned(message))
    if task.kind == "single-label" and len(trained) > len(train.labels) / 2 and len(trained) > 10:
        tell.append(
            Warned(
                f"{len(trained)} labels in {len(train.labels)} training rows: check that --label-column "
                "names the right column."
            )
        )
