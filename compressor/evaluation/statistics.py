"""Statistics of a paired comparison: pure functions over labels, predictions and logits.

Rates are shares between 0 and 1. Every interval is two-sided at 95% unless told otherwise, so a
verdict in one direction errs in at most 2.5% of test sets.

A test set is first reduced to counts (right and wrong, broken and repaired, cells of the confusion
matrix). Resampling rows is then one multinomial draw over those counts, and every row of a cell has
the same jackknife value. For an accuracy and a difference of two, the bootstrap's distribution is
computed instead of drawn: a verdict hangs on no seed. Only the macro-F1 is really resampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

LEVEL = 0.95
RESAMPLES = 2000
# Below this many events of a kind the bootstrap sees too few of them; score intervals hold there.
FEW_EVENTS = 10


@dataclass(frozen=True)
class Interval:
    """An estimate between its bounds.

    Attributes:
        method: How the bounds were found, in words for the report.
    """

    estimate: float
    low: float
    high: float
    method: str
    level: float = LEVEL


# --- scores -----------------------------------------------------------------------------------


def accuracy(labels: Ints, predictions: Ints) -> float:
    """Share of rows [n] whose prediction is the label."""
    return float(np.mean(labels == predictions))


def macro_f1(labels: Ints, predictions: Ints) -> float:
    """Unweighted mean of the F1 of every class met among labels or predictions, as in scikit-learn."""
    cells, counts = _confusion_cells(labels, predictions)
    return float(macro_f1_of_counts(cells, counts[None])[0])


def softmax(logits: Floats, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Probabilities [n, k] of logits [n, k]."""
    return np.asarray(special.softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1))


def expected_calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of confidence (Guo et al. 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(labels))


def fit_temperature(logits: Floats, labels: Ints) -> float | None:
    """Temperature that minimises the negative log-likelihood of validation rows (Guo et al. 2017).

    Returns:
        ``None`` where fewer than ten rows are wrong, or where none between 0.05 and 20 is the best: a model
        without mistakes asks for certainty, one without knowledge for none at all.
    """
    if np.sum(np.argmax(logits, axis=1) != labels) < FEW_EVENTS:
        return None
    logits = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-special.log_softmax(logits / math.exp(log_temperature), axis=1)[rows, labels].mean())

    low, high = math.log(0.05), math.log(20.0)
    found = float(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x)
    return math.exp(found) if low + 0.01 < found < high - 0.01 else None


def jensen_shannon(first: Floats, second: Floats) -> npt.NDArray[np.float64]:
    """Jensen-Shannon divergence [n] of two sets of probabilities [n, k], in bits: 0 equal, 1 disjoint."""
    middle = (first + second) / 2
    divergence = (special.rel_entr(first, middle) + special.rel_entr(second, middle)).sum(axis=-1)
    return np.asarray(np.clip(divergence / (2 * math.log(2)), 0.0, 1.0))


# --- intervals --------------------------------------------------------------------------------


def accuracy_interval(right: int, rows: int, level: float = LEVEL) -> Interval:
    """Interval of an accuracy; Wilson's score where fewer than ten rows are right, or wrong."""
    if min(right, rows - right) < FEW_EVENTS:
        found = stats.binomtest(right, rows).proportion_ci(level, method="wilson")
        return Interval(right / rows, float(found.low), float(found.high), "Wilson score", level)
    sums = np.arange(rows + 1)
    return _exact_bca(sums, stats.binom.pmf(sums, rows, right / rows), {1: right, 0: rows - right}, level)


def macro_f1_interval(labels: Ints, predictions: Ints, seed: int = 0, level: float = LEVEL) -> Interval:
    """Interval of the macro-F1; that of the accuracy where all rows are right, or all wrong."""
    right = int(np.sum(labels == predictions))
    if right in (0, len(labels)):
        # Both scores are then 0 or 1 in every resample, and the bootstrap would claim certainty.
        return accuracy_interval(right, len(labels), level)
    cells, counts = _confusion_cells(labels, predictions)
    return bca(counts, lambda drawn: macro_f1_of_counts(cells, drawn), seed, level)


def paired_difference(broken: int, repaired: int, rows: int, level: float = LEVEL) -> Interval:
    """Interval of accuracy(student) - accuracy(teacher) on the same rows.

    Args:
        broken: Rows that only the teacher has right.
        repaired: Rows that only the student has right.
        rows: All rows.
        level: Confidence level.
    """
    if min(broken + repaired, rows - max(broken, repaired)) < FEW_EVENTS:
        low, high = _tango(broken, repaired, rows, level)
        return Interval((repaired - broken) / rows, low, high, "score (Tango 1998)", level)
    counts = {-1: broken, 0: rows - broken - repaired, 1: repaired}
    return _exact_bca(np.arange(-rows, rows + 1), _pmf_of_sum(broken / rows, repaired / rows, rows), counts, level)


def _pmf_of_sum(minus: float, plus: float, rows: int) -> npt.NDArray[np.float64]:
    """Probabilities [2 rows + 1] of the sum of rows that are -1, 0 or 1 each, from its characteristic function."""
    size = 2 * rows + 1
    turn = np.exp(-2j * np.pi * np.arange(rows + 1) / size)
    # Each row is shifted to 0, 1 or 2, so that the sum starts at 0.
    row = minus + (1 - minus - plus) * turn + plus * turn**2
    return np.clip(np.fft.irfft(row**rows, size), 0.0, 1.0)


def _exact_bca(sums: Ints, pmf: npt.NDArray[np.float64], counts: Mapping[int, int], level: float) -> Interval:
    """BCa interval (Efron 1987) of a mean, from the exact distribution of its bootstrap.

    The distribution is a lattice. Its quantiles are those of the mid-distribution (Ma, Genton and Parzen
    2011): ties count half, and between two points of the lattice the line between them holds.

    Args:
        sums: Possible sums of a resample, rising by 1.
        pmf: Their probabilities.
        counts: Rows of the test set by their value.
        level: Confidence level.
    """
    rows = sum(counts.values())
    total = sum(value * count for value, count in counts.items())
    middle = np.cumsum(pmf) - pmf / 2
    bias = float(special.ndtri(middle[total - sums[0]]))
    deviations = np.array([value - total / rows for value in counts])
    weights = np.array(list(counts.values()))
    # The jackknife's deviations of a mean are those of its rows.
    acceleration = float(weights @ deviations**3) / (6 * float(weights @ deviations**2) ** 1.5)
    tails = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.interp(special.ndtr(bias + tails / (1 - acceleration * tails)), middle, sums / rows)
    return Interval(total / rows, float(low), float(high), "BCa bootstrap, exact", level)


def bca(
    counts: Ints,
    statistic: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]],
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987) of a statistic of counts.

    Args:
        counts: Rows in each category [c].
        statistic: From counts [..., c] to values [...].
        seed: Of the resampling.
        level: Confidence level.
    """
    seen: npt.NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
    met = np.flatnonzero(seen)
    rows = int(seen.sum())
    estimate = float(statistic(seen[None])[0])
    if rows == 1:
        return Interval(estimate, estimate, estimate, "none: a single row", level)
    drawn = np.random.default_rng(seed).multinomial(rows, seen / rows, size=RESAMPLES)
    values = statistic(drawn)
    left_out = np.repeat(seen[None], len(met), axis=0)
    left_out[np.arange(len(met)), met] -= 1
    jackknife = statistic(left_out)
    low, high = bca_bounds(estimate, values, jackknife, seen[met], level)
    return Interval(estimate, low, high, f"BCa bootstrap, {RESAMPLES:,} resamples", level)


def bca_bounds(
    estimate: float, values: Floats, jackknife: Floats, weights: npt.ArrayLike = 1, level: float = LEVEL
) -> tuple[float, float]:
    """Bounds of a bias-corrected and accelerated bootstrap (Efron 1987).

    Args:
        estimate: The statistic of all rows.
        values: That of every resample [r].
        jackknife: That of the rows without some of them [j].
        weights: How often each value of the jackknife occurs [j].
        level: Confidence level.
    """
    many = np.broadcast_to(weights, jackknife.shape)
    deviation = np.average(jackknife, weights=many) - jackknife
    spread = float(np.sum(many * deviation**2)) ** 1.5
    acceleration = float(np.sum(many * deviation**3)) / (6 * spread) if spread > 0 else 0.0
    # Ties count half: the statistics are discrete.
    below = float(np.mean(values < estimate) + np.mean(values == estimate) / 2)
    bias = float(special.ndtri(np.clip(below, 1 / len(values), 1 - 1 / len(values))))
    tails = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(values, special.ndtr(bias + tails / (1 - acceleration * tails)))
    return float(low), float(high)


# --- tests ------------------------------------------------------------------------------------


def mcnemar(broken: npt.ArrayLike, repaired: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Two-sided exact p-values of McNemar's test, element by element; 1 where nothing changed."""
    low, both = np.minimum(broken, repaired), np.add(broken, repaired)
    return np.asarray(np.minimum(1.0, 2 * stats.binom.cdf(low, both, 0.5)))


def holm(p_values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P-values [m] adjusted for m tests (Holm 1979): comparing them with 0.05 keeps the family at 5%."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


def points(share: float) -> str:
    """A difference of shares in percentage points with its sign, as in ``+0.4`` or ``−1.2``."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


# --- counts -----------------------------------------------------------------------------------


def _confusion_cells(labels: Ints, predictions: Ints) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The cells [c, 2] of the confusion matrix that are met, and the rows in each [c]."""
    pairs = np.stack([labels, predictions], axis=1).astype(np.int64)
    cells, counts = np.unique(pairs, axis=0, return_counts=True)
    return cells, counts


def macro_f1_of_counts(cells: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Macro-F1 [r] of resampled counts [r, c] of confusion cells [c, 2]."""
    classes, place = np.unique(cells, return_inverse=True)
    actual, predicted = np.eye(len(classes))[place.reshape(cells.shape)].transpose(1, 0, 2)  # [c, k] each
    drawn = counts.astype(np.float64)
    met = drawn @ (actual + predicted)  # [r, k]: 2 tp + fp + fn
    hits = drawn @ (actual * predicted)
    f1 = np.divide(2 * hits, met, out=np.zeros_like(met), where=met > 0)
    return np.asarray(f1.sum(axis=1) / (met > 0).sum(axis=1))


def tango_score(broken: Floats, repaired: Floats, rows: int, delta: float) -> Floats:
    """Score [r] of the hypothesis that the difference is ``delta`` (Tango 1998); 0 where it fits exactly."""
    half = -repaired - broken + (2 * rows - repaired + broken) * delta
    root = np.sqrt(np.maximum(0.0, half**2 + 8 * rows * broken * delta * (1 - delta)))
    rate = (root - half) / (4 * rows)  # of broken rows, were delta the truth
    variance = rows * (2 * rate + delta * (1 - delta))
    gap = repaired - broken - rows * delta
    certain = np.where(gap == 0, 0.0, np.copysign(np.inf, gap))
    return np.asarray(np.divide(gap, np.sqrt(np.maximum(variance, 0.0)), out=certain, where=variance > 0))


def _tango(broken: int, repaired: int, rows: int, level: float) -> tuple[float, float]:
    """Score interval for a paired difference (Tango 1998); holds with few or no changed rows."""
    z = float(special.ndtri((1 + level) / 2))
    seen = np.array([broken], dtype=np.float64), np.array([repaired], dtype=np.float64)

    def score(delta: float) -> float:
        return float(tango_score(*seen, rows, delta)[0])

    estimate, edge = (repaired - broken) / rows, 1 - 1e-12

    def bound(target: float, end: float) -> float:
        if abs(estimate - end) < 1e-9 or (score(end) - target) * (score(estimate) - target) > 0:
            return end
        return float(optimize.brentq(lambda delta: score(delta) - target, end, estimate))

    return max(-1.0, bound(z, -edge)), min(1.0, bound(-z, edge))
