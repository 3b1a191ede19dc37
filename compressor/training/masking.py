"""Words hidden from a masked language model, other ones in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from compressor.answers import IGNORED, INPUT_NAMES, Ints
from compressor.training.rows import Row, Rows, at_once

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compressor.artifacts import Tokenized

SHARE = 0.15
"""Of the tokens that are asked about; 80% of them become [MASK], 10% another token, 10% stay as they are."""


@dataclass(frozen=True)
class Vocabulary:
    """What masking needs to know of a tokenizer.

    Attributes:
        mask: Id of the mask token.
        special: Ids that are never hidden.
        ordinary: All other ids.
    """

    mask: int
    special: Ints
    ordinary: Ints

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """Read it from a tokenizer that has a mask token."""
        special = np.unique(np.asarray(tokenizer.all_special_ids, np.int64))
        mask: Any = tokenizer.mask_token_id
        return Vocabulary(int(mask), special, np.setdiff1d(np.arange(len(tokenizer), dtype=np.int64), special))


def mask_tokens(ids: Ints, vocabulary: Vocabulary, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """Hide some tokens of a row, as BERT does (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1).

    ``round(0.15 n)`` of the n tokens that are not special are chosen, at least one. RoBERTa chooses anew whenever a
    row is seen (Liu et al. 2019, https://arxiv.org/abs/1907.11692, section 4.1), and so does ``Masked``.

    Args:
        ids: Token ids of shape (tokens,).
        vocabulary: Of the tokenizer.
        generator: Decides.

    Returns:
        The ids with some replaced, and for each token the id to be found, or ``IGNORED``; both of shape (tokens,).
    """
    places = np.flatnonzero(~np.isin(ids, vocabulary.special))
    if not len(places):
        return ids, np.full_like(ids, IGNORED)
    chosen = generator.permutation(places)[: max(1, round(SHARE * len(places)))]
    labels = np.full_like(ids, IGNORED)
    labels[chosen] = ids[chosen]
    hidden = ids.copy()
    draw = generator.random(len(chosen))
    hidden[chosen[draw < 0.8]] = vocabulary.mask
    other = chosen[draw >= 0.9]
    hidden[other] = generator.choice(vocabulary.ordinary, len(other))
    return hidden, labels


class Masked(torch.utils.data.Dataset[Row]):
    """Rows of plain text with some tokens hidden; which ones is a function of (seed, epoch, row) alone.

    So a run that is resumed in the middle of an epoch hides what it would have hidden, in whatever process.

    Args:
        rows: Of a tokenised split.
        vocabulary: Of the tokenizer.
        seed: Same seed, same words.
    """

    def __init__(self, rows: Any, vocabulary: Vocabulary, seed: int) -> None:
        self._rows = rows
        self._vocabulary = vocabulary
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; ``BucketSampler`` calls this before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Read and mask the rows of a batch at once."""
        rows = at_once(self._rows, indices)
        return [self._masked(int(index), row) for index, row in zip(indices, rows, strict=True)]

    def _masked(self, index: int, row: Row) -> Row:
        generator = np.random.default_rng((self._seed, self._epoch, index))
        hidden, labels = mask_tokens(np.asarray(row["input_ids"], np.int64), self._vocabulary, generator)
        return {**row, "input_ids": hidden, "labels": labels}


def training_rows(tokenized: Tokenized, tokenizer: PreTrainedTokenizerBase, seed: int) -> Any:
    """Take the rows of the training split with what a batch needs; those of plain text are masked.

    Args:
        tokenized: Its train split.
        tokenizer: Of the model.
        seed: Of the masked words.
    """
    rows = tokenized.splits["train"]
    rows = Rows(rows.select_columns([name for name in rows.column_names if name in (*INPUT_NAMES, "labels")]))
    return Masked(rows, Vocabulary.of(tokenizer), seed) if tokenized.task.unit == "masked token" else rows


def mask_token_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the mask token, where the tokenizer has one."""
    found: Any = tokenizer.mask_token_id
    return None if found is None else int(found)
