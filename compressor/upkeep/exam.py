"""What models are examined on: rows of --data as token ids, cut for one folder, and what is right about them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressor import data
from compressor.answers import INPUT_NAMES, Answers
from compressor.artifacts import SPLITS, Corpus, Split
from compressor.errors import ManifestError
from compressor.evaluation.metrics import METRICS, Gold, Marks
from compressor.evaluation.metrics.gold import Source, Spell
from compressor.quiet import first_line, quiet
from compressor.runtime.settings import DOC_STRIDE
from compressor.upkeep.answers import Rows, encode
from compressor.upkeep.home import Home

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Exam:
    """Rows to ask about, and what is right about them.

    Attributes:
        rows: Token ids, and what else cuts a model's outputs into answers.
        gold: Embeddings are judged by other answers about the same rows: ``beside`` gives it those.
    """

    rows: Rows
    gold: Gold

    def beside(self, reference: Answers | None) -> Exam:
        """The same exam, with the answers that embeddings are judged by."""
        return replace(self, gold=replace(self.gold, reference=reference))


def prepare(home: Home, held: data.HeldOut, seed: int) -> Exam:
    """Cut held-out rows into tokens as a folder's models take them.

    Args:
        home: The folder; its tokenizer cuts.
        held: The rows.
        seed: That of the run: it chose the masked tokens, and the pairs whose similarities are compared.

    Raises:
        ManifestError: The folder's tokenizer cannot be loaded.
        DataError: The tokenizer lacks what the task needs.
    """
    spell: Spell | None = None
    if held.task.unit == "row":
        rows = Rows(encode(home, held.split.texts, held.split.pairs))
    else:
        tokenizer = _tokenizer(home)
        rows, spell = _tokenized(home, held, tokenizer, seed), _speller(tokenizer)
    columns = {name: rows[name] for name in ("length", *(rows[0] if len(rows) else ()))}
    lack = home.settings.get("null_score")
    source = Source(held.task, held.split, columns, np.arange(len(rows)), held.labels, None, spell, seed, lack)
    return Exam(rows, METRICS[held.task.kind].read(source))


def mark(exam: Exam, answers: Answers, thresholds: Sequence[float] = ()) -> Marks:
    """Judge answers.

    Raises:
        ManifestError: They are not about these rows, or, of embeddings, not comparable with the reference.
    """
    gold = exam.gold
    if not np.array_equal(answers.starts, gold.starts):
        raise ManifestError("The model cuts the texts in another way than its tokenizer.", "Export the model anew.")
    reference = gold.reference
    if reference is not None and reference.values.shape != answers.values.shape:
        widths = answers.values.shape[1], reference.values.shape[1]
        raise ManifestError(
            f"Its embeddings have {widths[0]} numbers, those that it is judged by {widths[1]}.",
            "Compare models whose embeddings have the same width.",
        )
    return METRICS[gold.task.kind].mark(answers, gold, thresholds)


def _tokenizer(home: Home) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        with quiet():
            found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                home.path, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{home.path}: its tokenizer cannot be loaded by transformers: {first_line(error)}.",
            "Save it there: tokenizer.save_pretrained(folder).",
        ) from error
    # A model may take token types that its tokenizer does not name; what is not taken is not fed.
    found.model_input_names = list(INPUT_NAMES)
    found.truncation_side = home.truncation_side
    return found


def _speller(tokenizer: PreTrainedTokenizerBase) -> Spell:
    return lambda ids: str(tokenizer.decode(list(ids)))


def _tokenized(home: Home, held: data.HeldOut, tokenizer: PreTrainedTokenizerBase, seed: int) -> Rows:
    nothing = Split((), ())
    splits = {**dict.fromkeys(SPLITS, nothing), "test": held.split}
    corpus = Corpus(splits, held.labels, held.which, held.fingerprint, task=held.task)
    stride = int(home.settings.get("doc_stride", DOC_STRIDE))
    with tempfile.TemporaryDirectory(prefix="compressor-exam-") as folder:
        tokenized = data.tokenize(
            corpus, tokenizer, INPUT_NAMES, home.max_length, Path(folder), doc_stride=stride, seed=seed
        )
        return Rows(tokenized.splits["test"].to_list())
