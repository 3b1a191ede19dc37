"""The rows that a finished model is judged on, perhaps months after its run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from compressor.artifacts import Split
from compressor.data.corpus import clean_rows, label_rows, read_corpus, read_rows
from compressor.data.division import Tell
from compressor.errors import DataError
from compressor.events import Listener, ignore
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS, Task


@dataclass(frozen=True)
class HeldOut:
    """Rows to judge a finished model on.

    Attributes:
        fingerprint: Of the corpus that they are the test split of, as in ``Corpus``; empty for a file of test rows.
        which: Which rows these are, in words.
        labels: Names of the labels in the order of their ids; empty where the task has none.
        task: What the rows are for.
    """

    split: Split
    fingerprint: str
    which: str
    labels: tuple[str, ...] = ()
    task: Task = TASKS["single-label"]


def read_held_out(
    recipe: DataRecipe,
    source: str,
    labels: tuple[str, ...],
    seed: int,
    listen: Listener = ignore,
    *,
    task: Task = TASKS["single-label"],
    fingerprint: str | None = None,
) -> HeldOut:
    """Read test rows: the test split of a folder or hub dataset, carved out as a run would do it; or a whole file.

    A file is taken as a whole unless it is what the model's own run read: most of its rows were learnt from then.

    Args:
        recipe: Columns and shares, best those of the run that made the model.
        source: As in ``read_corpus``.
        labels: Names in the order of the model's outputs.
        seed: That of the run.
        listen: Receives a ``Note`` or ``Warned`` for each decision.
        task: What the model does.
        fingerprint: Of the corpus that the model was made with, where that is known.

    Raises:
        DataError: As in ``read_corpus``.
        HubError: The hub cannot be reached or does not know the dataset.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        corpus = read_corpus(recipe, source, labels, seed, listen, task=task)
        return HeldOut(
            corpus.splits["test"], corpus.fingerprint, f"the test split of {source}", corpus.labels, corpus.task
        )
    if fingerprint is not None:
        with suppress(DataError):  # test rows alone need not be fit to learn from
            corpus = read_corpus(recipe, source, labels, seed, task=task)
            if corpus.fingerprint == fingerprint:
                which = f"the test split that the run carved out of {source}"
                return HeldOut(corpus.splits["test"], fingerprint, which, corpus.labels, corpus.task)
    return _whole(recipe, path, task, labels, listen)


def _whole(recipe: DataRecipe, path: Path, task: Task, labels: tuple[str, ...], listen: Listener) -> HeldOut:
    tell: Tell = []
    read = read_rows(recipe, str(path), task, [])
    rows = clean_rows({"test": [part for parts in read.values() for part in parts]}, task, tell)
    splits, names = label_rows(rows, task, labels, recipe, tell)
    for event in tell:
        listen(event)
    return HeldOut(splits["test"], "", f"all rows of {path.name}", names, task)
