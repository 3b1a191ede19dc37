"""The rows that a finished model is judged on, perhaps months after its run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from compressor.artifacts import Split
from compressor.data.clean import clean
from compressor.data.columns import chooser
from compressor.data.corpus import read_corpus
from compressor.data.files import find_files
from compressor.data.labels import reconcile
from compressor.data.tables import read_rows
from compressor.errors import DataError
from compressor.events import Listener, Note, Warned, ignore
from compressor.recipe import DataRecipe


@dataclass(frozen=True)
class HeldOut:
    """Labelled rows to judge a finished model on.

    Attributes:
        fingerprint: Of the corpus that they are the test split of, as in ``Corpus``; empty for a file of test rows.
        which: Which rows these are, in words.
    """

    split: Split
    fingerprint: str
    which: str


def read_held_out(
    recipe: DataRecipe,
    source: str,
    labels: tuple[str, ...],
    seed: int,
    listen: Listener = ignore,
    *,
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
        fingerprint: Of the corpus that the model was made with, where that is known.

    Raises:
        DataError: As in ``read_corpus``.
        HubError: The hub cannot be reached or does not know the dataset.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        corpus = read_corpus(recipe, source, labels, seed, listen)
        return HeldOut(corpus.splits["test"], corpus.fingerprint, f"the test split of {source}")
    if fingerprint is not None:
        with suppress(DataError):  # test rows alone need not be fit to learn from
            corpus = read_corpus(recipe, source, labels, seed)
            if corpus.fingerprint == fingerprint:
                return HeldOut(
                    corpus.splits["test"], fingerprint, f"the test split that the run carved out of {source}"
                )
    return _whole(recipe, path, labels, listen)


def _whole(recipe: DataRecipe, path: Path, labels: tuple[str, ...], listen: Listener) -> HeldOut:
    files = [file for split in find_files(path).splits.values() for file in split]
    parts, dropped = clean([read_rows(file, chooser(recipe)) for file in files], "test")
    labelled = reconcile({"test": parts}, labels)
    for note in labelled.notes:
        listen(Note(note))
    for warning in (*labelled.warnings, *([dropped] if dropped else [])):
        listen(Warned(warning))
    texts = tuple(str(text) for part in parts for text in part.texts)
    return HeldOut(Split(texts, labelled.ids["test"]), "", f"all rows of {path.name}")
