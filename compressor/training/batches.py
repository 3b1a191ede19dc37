"""Batches of texts of similar length, padded to the longest of each batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler

# Batches sorted together. More would pad less and shuffle less: which texts meet in a batch then hardly changes.
_MEGABATCH = 50


class BucketSampler(Sampler[int]):
    """Yield row indices so that each ``batch_size`` of them in a row have similar lengths.

    All rows are shuffled, cut into stretches of 50 batches, sorted by length within a stretch, cut into batches, and
    the batches are shuffled. The order is a function of (seed, epoch) alone, so that a run that is resumed in the
    middle of an epoch sees the order that it would have seen.

    Args:
        lengths: Tokens of each row, shape (rows,).
        batch_size: Rows of a batch over all processes.
        seed: Same seed and epoch, same order.
    """

    def __init__(self, lengths: Sequence[int] | npt.NDArray[np.integer[Any]], batch_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; transformers' ``Trainer`` calls this by way of accelerate before each."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng((self._seed, self._epoch))
        order = generator.permutation(len(self._lengths))
        stretch = _MEGABATCH * self._batch_size
        stretches = [order[start : start + stretch] for start in range(0, len(order), stretch)]
        by_length = [part[np.argsort(-self._lengths[part], kind="stable")] for part in stretches]
        ordered = np.concatenate([order[:0], *by_length])
        batches = [ordered[start : start + self._batch_size] for start in range(0, len(ordered), self._batch_size)]
        # A smaller last batch stays last: elsewhere it would shift all batches behind it.
        last = batches.pop() if batches and len(batches[-1]) < self._batch_size else ordered[:0]
        for index in generator.permutation(len(batches)):
            yield from batches[int(index)].tolist()
        yield from last.tolist()


@dataclass(frozen=True)
class Collator:
    """Turn rows into padded tensors.

    Token columns become int64 of shape (batch, longest row); ``labels`` int64 of shape (batch,); every other column,
    such as ``soft_labels``, float32 of shape (batch, ...). ``length`` is left out.

    Args:
        pad_token_id: Fills ``input_ids``; the attention mask and the token types are filled with 0.
        padding_side: Where the padding goes, as the tokenizer has it.
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
                batch[name] = self._pad(values, fill[name])
            elif name in ("label", "labels"):
                batch["labels"] = torch.tensor([int(value) for value in values], dtype=torch.int64)
            elif name != "length":
                batch[name] = torch.from_numpy(np.stack([np.asarray(value, dtype=np.float32) for value in values]))
        return batch

    def _pad(self, rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
        longest = max(len(row) for row in rows)
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = np.full((len(rows), width), fill, dtype=np.int64)  # [batch, width]
        for place, row in zip(padded, rows, strict=True):
            if self.padding_side == "right":
                place[: len(row)] = row
            else:
                place[width - len(row) :] = row
        return torch.from_numpy(padded)
