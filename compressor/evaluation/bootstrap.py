"""Intervals of any metric, and of the difference between two models, by resampling what is independent.

Every model is resampled with the same draws, so that what two models have in common drops out of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from compressor.evaluation.figures import Counted, Floats, Ints, Parts, Ranked
from compressor.evaluation.statistics import FEW_EVENTS, LEVEL, RESAMPLES, Interval, bca_bounds

# The jackknife only measures skewness; blocks of rows tell it as well as single rows do.
_MOST_LEFT_OUT = 400
_CELLS = 1_000_000  # weights that are held at once


@dataclass(frozen=True, eq=False)
class Resampled:
    """A metric of the test set, of resamples, and of the test set with parts left out.

    Attributes:
        value: Of all groups.
        values: Of each resample [r].
        jackknife: Without each part [j].
        parts: What it was computed from, by group.
        groups: Number of groups that were drawn from.
    """

    value: float
    values: Floats
    jackknife: Floats
    parts: Parts
    groups: int


def resample(
    parts: Sequence[Parts], groups: npt.ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> list[Resampled]:
    """Resample metrics of the same items, with the same draws.

    Args:
        parts: One or more metrics.
        groups: The group of each item [n]; groups are drawn with replacement.
        seed: Of the draws.
        resamples: How many.
    """
    names, place = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True)
    count = len(names)
    grouped = [item.grouped(place, count) for item in parts]
    rng = np.random.default_rng(seed)
    widest = max([count, *(len(item.first) for item in grouped if isinstance(item, Ranked))])
    step = max(1, _CELLS // widest)

    def at(weights: Iterator[Floats]) -> list[Floats]:
        found = [[item.at(some) for item in grouped] for some in weights]
        return [np.concatenate(column) for column in zip(*found, strict=True)]

    values = at(_drawn(rng, count, min(step, resamples - start)) for start in range(0, resamples, step))
    left_out = at(_left_out(rng.permutation(count), step))
    whole = at(iter([np.ones((1, count))]))
    return [
        Resampled(float(value[0]), drawn, without, item, count)
        for value, drawn, without, item in zip(whole, values, left_out, grouped, strict=True)
    ]


def interval(found: Resampled, unit: str = "row", level: float = LEVEL) -> Interval:
    """Interval of one model's metric.

    Where a share is so near 0 or 1 that fewer than ten things speak against it, resamples can hardly differ, and the
    bounds are moved out to those of Wilson's score.

    Args:
        found: The metric.
        unit: What a group is, for the report.
        level: Confidence level.
    """
    low, high = _bounds(found.value, found.values, found.jackknife, level)
    method = f"BCa bootstrap over {unit}s, {len(found.values):,} resamples"
    size = found.parts.size
    if size is not None and size > 0 and size * min(found.value, 1 - found.value) < FEW_EVENTS:
        least, most = wilson(found.value, size, level)
        low, high, method = min(low, least), max(high, most), f"{method}, not inside Wilson's score"
    elif found.groups == 1:
        method = f"none: a single {unit}"
    return Interval(found.value, low, high, method, level)


def difference(model: Resampled, teacher: Resampled, unit: str = "row", level: float = LEVEL) -> Interval:
    """Interval of what a model's metric has more than its teacher's.

    Where fewer than ten groups changed, or there are fewer than ten, the bootstrap sees too little: the share of
    changed groups may be larger than was seen by what Wilson's score says, and each of those may cost, or win, as much
    as a whole group.

    Args:
        model: Resampled with the same draws as the teacher.
        teacher: Of the same items.
        unit: What a group is, for the report.
        level: Confidence level.
    """
    value = model.value - teacher.value
    low, high = _bounds(value, model.values - teacher.values, model.jackknife - teacher.jackknife, level)
    method = f"BCa bootstrap over {unit}s, {len(model.values):,} resamples"
    seen = changed(model, teacher)
    if min(seen, model.groups) < FEW_EVENTS:
        seen = seen if model.groups >= FEW_EVENTS else 0
        unseen = wilson(seen / model.groups, model.groups, level)[1] - seen / model.groups
        low, high = min(low, max(-1.0, value - unseen)), max(high, min(1.0, value + unseen))
        method = f"{method}, with Wilson's score for unseen changes"
    return Interval(value, low, high, method, level)


def changed(model: Resampled, teacher: Resampled) -> int:
    """Count the groups in which a model earns something else than its teacher."""
    one, two = model.parts, teacher.parts
    if isinstance(one, Counted) and isinstance(two, Counted):
        return int(one.differs(two).sum())
    if isinstance(one, Ranked) and isinstance(two, Ranked):
        return int(one.differs(two).sum())
    raise TypeError("A count and a rank correlation were compared.")


def wilson(share: float, rows: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share of so many rows."""
    z = float(special.ndtri((1 + level) / 2))
    centre = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * math.sqrt(max(0.0, share * (1 - share) / rows) + z**2 / (4 * rows**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _bounds(value: float, values: Floats, jackknife: Floats, level: float) -> tuple[float, float]:
    if len(jackknife) < 2 or np.ptp(values) == 0:
        return min(value, float(values[0])), max(value, float(values[0]))
    return bca_bounds(value, values, jackknife, level=level)


def _drawn(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """How often each of ``count`` groups occurs in each resample [r, g]."""
    places: Ints = rng.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


def _left_out(order: Ints, step: int) -> Iterator[Floats]:
    """Weights [j, g] that leave out one part of the groups each; of a few groups, each in turn."""
    count = len(order)
    parts = np.array_split(order, min(count, _MOST_LEFT_OUT)) if count > 1 else [order[:0]]
    for start in range(0, len(parts), step):
        some = parts[start : start + step]
        weights = np.ones((len(some), count))
        for row, part in zip(weights, some, strict=True):
            row[part] = 0
        yield weights
