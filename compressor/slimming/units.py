"""Values for every head and every neuron of an encoder: how much each matters, or whether it stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Units:
    """One array per layer and kind; float64 for an importance, bool for what is kept.

    Attributes:
        heads: Arrays of shape (heads of the layer,).
        neurons: Arrays of shape (neurons of the layer,).
    """

    heads: tuple[Array, ...]
    neurons: tuple[Array, ...]

    def map(self, change: Callable[[Array], Array]) -> Units:
        """Apply a function to every array."""
        return Units(tuple(map(change, self.heads)), tuple(map(change, self.neurons)))


def everything(heads: tuple[int, ...], neurons: tuple[int, ...]) -> Units:
    """Keep all units of layers of these sizes."""
    return Units(tuple(np.ones(size, bool) for size in heads), tuple(np.ones(size, bool) for size in neurons))


def shares(importance: Units) -> Units:
    """Express each unit's importance as its share of its block's total.

    Molchanov et al. (2016) and Michel et al. (2019) divide by the L2 norm of the layer, because raw scores differ by
    orders of magnitude between layers. The sum takes its place here: then the shares of three thousand neurons and of
    twelve heads add up to the same 1, and a cut across kinds compares like with like.
    """

    def share(scores: Array) -> Array:
        total = scores.sum()
        found: Array = scores / total if total > 0 else np.full(scores.shape, 1 / max(1, scores.size))
        return found

    return importance.map(share)
