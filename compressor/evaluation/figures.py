"""What a metric is made of, item by item, so that it can be computed anew for any resample.

A metric of a split is a function of sums over its items (hits, true and false positives, squares), or a rank
correlation. Both take weights: how often each item occurs. A bootstrap draws weights, a jackknife leaves items out, a
slice has the weights 0 and 1. Items that depend on each other (questions about one context, masked tokens of one block)
are added up to groups first, and groups are what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from compressor.evaluation.statistics import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Form:
    """How sums become a metric.

    Attributes:
        of: From sums [..., k] to values [...].
        size: From sums [k] to how many things a share is a share of; ``None`` where it is no share.
    """

    of: Callable[[Floats], Floats]
    size: Callable[[Floats], float] | None = None


def divide(above: Floats, below: Floats) -> Floats:
    """Divide element by element; 0 where there is nothing to divide by, as scikit-learn has it."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=np.asarray(below) > 0)


def _macro(sums: Floats) -> Floats:
    """Mean F1 over the labels that occur, from the sums of ``F1`` of each label in turn [..., 3 k]."""
    hits, false, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    met = 2 * hits + false + missed
    return divide(divide(2 * hits, met).sum(axis=-1), (met > 0).sum(axis=-1))


def _pearson(sums: Floats) -> Floats:
    rows, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (rows * xx - x**2) * (rows * yy - y**2)
    # Of constant values rounding leaves a little.
    certain = spread > 1e-20 * rows**4
    return divide(rows * xy - x * y, np.where(certain, np.sqrt(np.maximum(spread, 0.0)), 0.0))


SHARE = Form(lambda sums: divide(sums[..., 0], sums[..., 1]), lambda sums: float(sums[1]))
"""Sums: hits, all."""
MEAN = Form(SHARE.of)
"""As ``SHARE``, of what may be more than 1."""
EXP_MEAN = Form(lambda sums: np.exp(SHARE.of(sums)))
"""The exponential of ``MEAN``: a perplexity, of a loss."""
F1 = Form(
    lambda sums: divide(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2]),
    lambda sums: float(sums[0] + (sums[1] + sums[2]) / 2),
)
"""Sums: true positives, false positives, false negatives."""
PRECISION = Form(lambda sums: divide(sums[..., 0], sums[..., 0] + sums[..., 1]), lambda sums: float(sums[0] + sums[1]))
RECALL = Form(lambda sums: divide(sums[..., 0], sums[..., 0] + sums[..., 2]), lambda sums: float(sums[0] + sums[2]))
MACRO_F1 = Form(_macro)
PEARSON = Form(_pearson)
"""Sums: 1, x, y, x², y², xy. 0 where one of them is constant."""


@dataclass(frozen=True, eq=False)
class Counted:
    """A metric of sums.

    Attributes:
        sums: What each item adds [n, k].
        form: How they become the metric.
    """

    sums: Floats
    form: Form

    def at(self, weights: Floats) -> Floats:
        """Values [r] where each item occurs as often as ``weights`` [r, n] say."""
        return np.asarray(self.form.of(weights @ self.sums))

    def grouped(self, groups: Ints, count: int) -> Counted:
        """The same metric of groups of items: ``groups`` [n] are numbers below ``count``."""
        columns = [np.bincount(groups, column, count) for column in self.sums.T]
        return Counted(np.stack(columns, axis=1), self.form)

    def differs(self, other: Counted) -> npt.NDArray[np.bool_]:
        """Which items add something else [n]."""
        return np.asarray((self.sums != other.sums).any(axis=1))

    @property
    def size(self) -> float | None:
        """How many things the metric is a share of; ``None`` where it is no share."""
        return self.form.size(self.sums.sum(axis=0)) if self.form.size else None


@dataclass(frozen=True, eq=False)
class Ranked:
    """Spearman's correlation of two lists; equal values share their mean rank.

    Attributes:
        first: Values [m].
        second: Values [m].
        item: The item that each place of the lists belongs to [m].
        items: Number of items.
        size: A correlation is no share.
    """

    first: Floats
    second: Floats
    item: Ints
    items: int
    size: None = field(default=None, init=False)

    def at(self, weights: Floats) -> Floats:
        """Values [r] where each item occurs as often as ``weights`` [r, n] say; 0 where one list is constant."""
        drawn = weights[:, self.item]  # [r, m]
        total = drawn.sum(axis=1, keepdims=True)
        one, spread_one = _centred_ranks(self._orders[0], drawn, total)
        two, spread_two = _centred_ranks(self._orders[1], drawn, total)
        shared = np.einsum("rm,rm,rm->r", drawn, one, two)
        return divide(shared, np.sqrt(spread_one * spread_two))

    def grouped(self, groups: Ints, count: int) -> Ranked:
        """The same metric of groups of items: ``groups`` [n] are numbers below ``count``."""
        return Ranked(self.first, self.second, groups[self.item], count)

    def differs(self, other: Ranked) -> npt.NDArray[np.bool_]:
        """Which items have another first value [n]."""
        return np.asarray(np.bincount(self.item, self.first != other.first, self.items) > 0)

    @cached_property
    def _orders(self) -> tuple[_Order, _Order]:
        return _Order.of(self.first), _Order.of(self.second)


Parts = Counted | Ranked


@dataclass(frozen=True)
class _Order:
    """A list's order: places from small to large [m], where each distinct value starts [u], its number [m]."""

    places: Ints
    starts: Ints
    codes: Ints

    @staticmethod
    def of(values: Floats) -> _Order:
        _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
        return _Order(np.argsort(codes, kind="stable"), np.cumsum(counts) - counts, codes)


def _centred_ranks(order: _Order, drawn: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Ranks [r, m] less their mean, and the sum of their squares [r], of lists whose places occur ``drawn`` times."""
    met = drawn[:, order.places]
    if len(order.starts) < met.shape[1]:
        met = np.add.reduceat(met, order.starts, axis=1)  # [r, u]
    middle = np.cumsum(met, axis=1) - met / 2 - total / 2
    return middle[:, order.codes], np.einsum("ru,ru,ru->r", met, middle, middle)


@dataclass(frozen=True, eq=False)
class Figure:
    """One metric of one model.

    Attributes:
        name: Its key.
        parts: What it is resampled from; ``None`` where there is another way to its interval.
        value: The metric.
        exact: From a seed to the interval, where it need not be resampled.
    """

    name: str
    parts: Parts | None
    value: float
    exact: Callable[[int], Interval] | None = None

    @staticmethod
    def of(name: str, parts: Parts, exact: Callable[[int], Interval] | None = None) -> Figure:
        """Compute a metric of all items."""
        items = parts.items if isinstance(parts, Ranked) else len(parts.sums)
        return Figure(name, parts, float(parts.at(np.ones((1, items)))[0]), exact)
