"""From logits to probabilities and labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def softmax(logits: Floats) -> Floats:
    """Turn logits into probabilities that add up to 1 over the last axis."""
    shifted: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def sigmoid(logits: Floats) -> Floats:
    """Turn each logit into a probability of its own, without overflow."""
    small = np.exp(-np.abs(logits))
    found: Floats = np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    return found


def chosen(logits: Floats, thresholds: Sequence[float] | Floats = ()) -> npt.NDArray[np.bool_]:
    """Decide which labels of a multi-label task apply.

    Args:
        logits: Of shape (rows, labels).
        thresholds: Probability from which on each label applies; 0.5 for all where there are none.

    Returns:
        bool of shape (rows, labels).
    """
    limits = np.asarray(thresholds if len(thresholds) else 0.5, dtype=np.float32)
    found: npt.NDArray[np.bool_] = sigmoid(logits) >= limits
    return found
