"""One number for each text: rank correlation, linear correlation and squared error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compressor.answers import Answers
from compressor.evaluation.figures import MEAN, PEARSON, Counted, Figure, Floats, Ranked
from compressor.evaluation.metrics.gold import Gold, Marks, Source, starts_of


def read(source: Source) -> Gold:
    """Read the gold of texts with a number each: ``right`` is float64 [n]."""
    right = np.asarray(source.split.labels, dtype=np.float64)[source.chosen]
    starts = starts_of(np.ones(len(right)))
    return Gold(source.task, source.labels, starts, right, np.arange(len(right)), source.texts(), source.cuts())


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge numbers [n, 1]."""
    said = answers.values[:, 0].astype(np.float64)
    ones = np.ones(len(gold))
    one, two = _standard(said), _standard(gold.right)
    error = (said - gold.right) ** 2
    figures = (
        Figure.of("spearman", Ranked(said, gold.right, np.arange(len(gold)), len(gold))),
        Figure.of("pearson", Counted(np.stack([ones, one, two, one**2, two**2, one * two], axis=1), PEARSON)),
        Figure.of("mse", Counted(np.stack([error, ones], axis=1), MEAN)),
    )
    return Marks(figures, said, worth=said)


def show(gold: Gold, item: int, said: float) -> str:
    """Print a number."""
    return f"{said:.2f}"


def truth(gold: Gold, item: int) -> str:
    """Print the right number."""
    return show(gold, item, gold.right[item])


def _standard(values: Floats) -> Floats:
    """Shift and scale values to mean 0 and deviation 1, for the sake of rounding; a constant becomes 0."""
    centred = values - values.mean()
    spread = centred.std()
    # What rounding leaves of a constant is no spread.
    return centred / spread if spread > 1e-9 * np.abs(values).max(initial=0.0) else np.zeros_like(values)
