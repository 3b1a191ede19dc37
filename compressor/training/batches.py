"""Batches of texts of similar length, padded to the longest of each batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

from compressor import processes
from compressor.answers import IGNORED
from compressor.errors import RecipeError

# Batches sorted together. More would pad less and shuffle less: which texts meet in a batch then hardly changes.
_MEGABATCH = 50

_ORIGIN = ("length", "words", "row", "offsets")


def share_of(batch_size: int) -> int:
    """How many texts of a batch one process has.

    Raises:
        RecipeError: A batch cannot be divided evenly.
    """
    count = processes.here().count
    share, rest = divmod(batch_size, count)
    if rest:
        raise RecipeError(
            f"--batch-size {batch_size} cannot be divided among {count} processes.",
            f"It counts the texts of all of them: give a multiple of {count}, such as {count * (share + 1)}.",
        )
    return share


class BucketSampler(Sampler[int]):
    """Yield row indices so that each ``batch_size`` of them in a row have similar lengths.

    All rows are shuffled, cut into stretches of 50 batches, sorted by length within a stretch, cut into batches, and
    the batches are shuffled. The order is a function of (seed, epoch) alone, so that a run that is resumed in the
    middle of an epoch sees the order that it would have seen.

    Where several rows are forms of one text, an epoch has one of them: each text begins with a form drawn by the seed,
    and goes on to the next with every epoch.

    Of several processes each yields its share of every batch, so that a step sees the rows that it would see in one
    process. A last batch that cannot be divided is filled up with its own first rows.

    Args:
        lengths: Tokens of each row, shape (rows,).
        batch_size: Rows of a batch over all processes.
        seed: Same seed and epoch, same order.
        rows: The rows themselves, where they are others in every epoch: told of each by their own ``set_epoch``.
        forms: For each row a number that it shares with the other forms of its text. Default: every row is a text.
    """

    def __init__(
        self,
        lengths: Sequence[int] | npt.NDArray[np.integer[Any]],
        batch_size: int,
        seed: int,
        rows: Any = None,
        forms: npt.NDArray[np.integer[Any]] | None = None,
    ) -> None:
        self._lengths = np.asarray(lengths)
        texts = np.arange(len(self._lengths)) if forms is None else np.unique(forms, return_inverse=True)[1]
        self._by_text = np.argsort(texts, kind="stable")
        self._counts = np.bincount(texts)
        self._first = np.random.default_rng(seed).integers(0, self._counts)
        self._batch_size = batch_size
        self._seed = seed
        self._rows = rows
        self._epoch = 0
        self._me = processes.here()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; transformers' ``Trainer`` calls this by way of accelerate before each."""
        self._epoch = epoch
        # accelerate tells a dataset only where no batches are skipped, that is not in a resumed run.
        if hasattr(self._rows, "set_epoch"):
            self._rows.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self._counts), self._batch_size)
        return whole * share_of(self._batch_size) + -(-rest // self._me.count)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self._seed, self._epoch))
        order = generator.permutation(self._forms())
        stretch = _MEGABATCH * self._batch_size
        stretches = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        by_length = [part[np.argsort(-self._lengths[part], kind="stable")] for part in stretches]
        ordered = np.concatenate([order[:0], *by_length])
        batches = [ordered[start : start + self._batch_size] for start in range(0, len(ordered), self._batch_size)]
        # A smaller last batch stays last: elsewhere it would shift all batches behind it.
        last = batches.pop() if batches and len(batches[-1]) < self._batch_size else ordered[:0]
        for index in generator.permutation(len(batches)):
            yield from self._me.share(batches[int(index)].tolist())
        missing = -len(last) % self._me.count
        yield from self._me.share([*last.tolist(), *np.resize(last, missing).tolist()])

    def _forms(self) -> npt.NDArray[np.integer[Any]]:
        """The row of each text in this epoch, shape (texts,)."""
        starts = np.cumsum(self._counts) - self._counts
        return self._by_text[starts + (self._first + self._epoch) % self._counts]


@dataclass(frozen=True)
class Collator:
    """Turn rows into padded tensors, whatever they are labelled with.

    Token columns become int64 of shape (batch, longest row). ``labels`` become, by what they are: a number for each row
    int64 or float32 of shape (batch,); floats for each row float32 of shape (batch, labels); an id for each token int64
    of shape (batch, longest row), padding ``IGNORED``; other ids, as the start and end of an answer, int64 of shape
    (batch, ids). Every other column, such as ``soft_labels``, becomes float32 of shape (batch, ...); where a row has a
    matrix of one line for each token, lines of 0 are padding. What says where a row is from (``length``, ``words``,
    ``row``, ``offsets``) is left out.

    Args:
        pad_token_id: Fills ``input_ids``; the attention mask and the token types are filled with 0.
        padding_side: Where the padding goes, as the tokenizer has it. Starts and ends of answers need ``right``.
        pad_to_multiple_of: Rounds the longest row up, for kernels that like it.
    """

    pad_token_id: int
    padding_side: str = "right"
    pad_to_multiple_of: int = 1

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Collate the rows of a batch."""
        fill = {"input_ids": self.pad_token_id, "token_type_ids": 0, "attention_mask": 0}
        batch: dict[str, torch.Tensor] = {}
        for name in features[0]:
            values = [feature[name] for feature in features]
            if name in fill:
                batch[name] = self._pad(values, fill[name], np.int64)
            elif name in ("label", "labels"):
                batch["labels"] = self._labels(values, [len(feature["input_ids"]) for feature in features])
            elif name not in _ORIGIN:
                soft = [np.asarray(value, dtype=np.float32) for value in values]
                batch[name] = self._pad(soft, 0, np.float32) if soft[0].ndim == 2 else torch.from_numpy(np.stack(soft))
        return batch

    def _labels(self, values: Sequence[Any], lengths: Sequence[int]) -> torch.Tensor:
        first = np.asarray(values[0])
        if first.dtype.kind == "f":
            return torch.from_numpy(np.stack([np.asarray(value, dtype=np.float32) for value in values]))
        if first.ndim and [len(value) for value in values] == list(lengths):
            return self._pad(values, IGNORED, np.int64)
        return torch.from_numpy(np.stack([np.asarray(value, dtype=np.int64) for value in values]))

    def _pad(self, rows: Sequence[Any], fill: int, dtype: type[np.generic]) -> torch.Tensor:
        longest = max(len(row) for row in rows)
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = np.full((len(rows), width, *np.shape(rows[0])[1:]), fill, dtype=dtype)  # [batch, width, ...]
        for place, row in zip(padded, rows, strict=True):
            if self.padding_side == "right":
                place[: len(row)] = row
            else:
                place[width - len(row) :] = row
        return torch.from_numpy(padded)
