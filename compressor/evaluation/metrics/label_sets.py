"""Any number of labels for each text: micro and macro F1, and how often the whole set is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compressor.answers import Answers
from compressor.evaluation import statistics
from compressor.evaluation.figures import F1, MACRO_F1, SHARE, Counted, Figure, Floats
from compressor.evaluation.metrics.gold import Bools, Gold, Marks, Source, starts_of
from compressor.evaluation.statistics import FEW_EVENTS
from compressor.runtime.decode.labels import chosen, sigmoid

_BINS = 15
_DEFAULT = 0.5
_LIMITS = (0.05, 0.95)  # a threshold beyond them is fitted to a handful of rows


def read(source: Source) -> Gold:
    """Read the gold of texts with any number of labels: ``right`` is bool [n, k]."""
    right = np.asarray(source.split.labels)[source.chosen] > 0.5
    rows = np.arange(len(right))
    starts = starts_of(np.ones(len(right)))
    return Gold(source.task, source.labels, starts, right, rows, source.texts(), source.cuts())


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge logits [n, k], as the runtime decides with these thresholds."""
    said = chosen(answers.values, thresholds)
    counts = np.stack([said & gold.right, said & ~gold.right, ~said & gold.right], axis=-1).astype(np.float64)
    by_label = counts.reshape(len(gold), -1)
    right = (said == gold.right).all(axis=1)
    hits = np.stack([right, np.ones(len(gold))], axis=1).astype(np.float64)
    figures = (
        Figure.of("micro_f1", Counted(counts.sum(axis=1), F1)),
        Figure.of("macro_f1", Counted(by_label, MACRO_F1)),
        Figure.of(
            "subset_accuracy", Counted(hits, SHARE), lambda _: statistics.accuracy_interval(int(right.sum()), len(gold))
        ),
    )
    return Marks(figures, [tuple(np.flatnonzero(row).tolist()) for row in said], right, by_label=by_label)


def show(gold: Gold, item: int, said: tuple[int, ...]) -> str:
    """Name the labels of a text."""
    return ", ".join(gold.labels[index] for index in said) or "none"


def truth(gold: Gold, item: int) -> str:
    """Name the right labels."""
    return show(gold, item, tuple(np.flatnonzero(gold.right[item]).tolist()))


def shift(first: Answers, second: Answers, gold: Gold) -> Floats:
    """Jensen-Shannon divergence of each label's probability, its mean over the labels [n], in bits."""
    return np.asarray(statistics.jensen_shannon(_both_ways(first), _both_ways(second)).mean(axis=1))


def calibration_error(answers: Answers, gold: Gold, temperature: float = 1.0) -> float:
    """Mean gap between the probability of a label and how often it applies, over all rows and labels."""
    probabilities = sigmoid(answers.values / np.float32(temperature)).astype(np.float64)
    place = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(place.ravel(), weights=(probabilities - gold.right).ravel(), minlength=_BINS)
    return float(np.abs(gap).sum() / gold.right.size)


def thresholds(answers: Answers, gold: Gold) -> tuple[float, ...] | None:
    """Fit a threshold for each label on validation rows.

    Each is the one of the label's best F1; a label with fewer than ten rows keeps 0.5.

    Returns:
        ``None`` where they do not help: fitted on one half of the rows, they give the other half no better micro F1
        than 0.5 for all.
    """
    probabilities = sigmoid(answers.values)
    halves = [np.arange(len(gold)) % 2 == half for half in (0, 1)]
    crossed = np.zeros_like(gold.right)
    for half in halves:
        crossed[half] = probabilities[half] >= _fitted(probabilities[~half], gold.right[~half])
    if _micro_f1(crossed, gold.right) <= _micro_f1(probabilities >= _DEFAULT, gold.right):
        return None
    return tuple(_fitted(probabilities, gold.right).tolist())


def absent(gold: Gold) -> list[str]:
    """Labels without a row."""
    return [name for name, met in zip(gold.labels, gold.right.any(axis=0), strict=True) if not met]


def _fitted(probabilities: npt.NDArray[np.float32], right: Bools) -> Floats:
    limits = np.full(right.shape[1], _DEFAULT)
    for label in range(right.shape[1]):
        scores, met = probabilities[:, label], right[:, label]
        if min(int(met.sum()), int((~met).sum())) < FEW_EVENTS:
            continue
        order = np.argsort(-scores, kind="stable")
        high = scores[order].astype(np.float64)
        f1: Floats = 2.0 * np.cumsum(met[order]) / (np.arange(1, len(high) + 1) + int(met.sum()))
        # Only between two scores that differ is there a threshold.
        f1[:-1][high[:-1] == high[1:]] = -1
        best = int(f1.argmax())
        below = high[best + 1] if best + 1 < len(high) else 0.0
        limits[label] = round(float(np.clip((high[best] + below) / 2, *_LIMITS)), 4)
    return limits


def _micro_f1(said: Bools, right: Bools) -> float:
    return 2 * int(np.sum(said & right)) / max(1, int(np.sum(said)) + int(np.sum(right)))


def _both_ways(answers: Answers) -> Floats:
    found = sigmoid(answers.values).astype(np.float64)
    return np.stack([found, 1 - found], axis=-1)
