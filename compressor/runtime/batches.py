"""Batches of similar length, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from compressor.runtime.windows import Window

Ints = npt.NDArray[np.int64]

_MADE_OF: Mapping[str, Callable[[Window], list[int] | int]] = {
    "input_ids": lambda window: window.ids,
    "attention_mask": lambda window: 1,
    "token_type_ids": lambda window: window.type_ids,
}
INPUTS = tuple(_MADE_OF)


def batches(lengths: Sequence[int], most: int, tokens: int) -> Iterator[list[int]]:
    """Cut rows into batches of similar length; the longest come first, so that memory grows once.

    Args:
        lengths: Of each row, in tokens.
        most: Rows of a batch at most.
        tokens: Of a batch at most, padding included; a longer row comes alone.

    Returns:
        Indices of the rows of each batch.
    """
    batch: list[int] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) == most or (len(batch) + 1) * width > tokens):
            yield batch
            batch = []
        width = width if batch else lengths[row]
        batch.append(row)
    if batch:
        yield batch


def feeds(windows: Sequence[Window], names: Sequence[str], pad_token_id: int) -> dict[str, Ints]:
    """Pad windows on the right to the longest of them.

    Returns:
        int64 of shape (windows, tokens) for each input.
    """
    # A tokenizer without special tokens makes no token of an empty text: it becomes one of padding.
    shape = len(windows), max([1, *map(len, windows)])  # [b, s]
    found = {name: np.full(shape, pad_token_id if name == "input_ids" else 0, dtype=np.int64) for name in names}
    for name, array in found.items():
        for row, window in zip(array, windows, strict=True):
            row[: len(window)] = _MADE_OF[name](window)
    return found
