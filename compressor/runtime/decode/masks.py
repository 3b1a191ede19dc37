"""From the vocabulary's scores to the pieces that fit a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compressor.runtime.decode.labels import Floats, softmax

Ints = npt.NDArray[np.int64]


def top_pieces(logits: Floats, count: int | None = 1) -> tuple[Ints, Floats]:
    """Find the likeliest pieces of each masked token.

    Args:
        logits: Of shape (masks, vocabulary).
        count: How many; ``None`` for all.

    Returns:
        Ids and their probabilities, each of shape (masks, count), the likeliest first.
    """
    probabilities = softmax(logits)
    size = logits.shape[-1] if count is None else min(count, logits.shape[-1])
    if size < logits.shape[-1]:  # sorting a whole vocabulary takes longer than the model
        few = np.argpartition(-probabilities, size - 1, axis=-1)[:, :size]
    else:
        few = np.broadcast_to(np.arange(size), probabilities.shape)
    values = np.take_along_axis(probabilities, few, axis=-1)
    order = np.argsort(-values, axis=-1, kind="stable")
    return np.take_along_axis(few, order, axis=-1).astype(np.int64), np.take_along_axis(values, order, axis=-1)
