"""One label for each text: accuracy and macro F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from compressor.answers import Answers
from compressor.evaluation import statistics
from compressor.evaluation.figures import SHARE, Counted, Figure, Floats, Ints
from compressor.evaluation.metrics.gold import Gold, Marks, Source, starts_of
from compressor.evaluation.slices import length_slices
from compressor.tasks import TASKS


def labelled(
    labels: npt.ArrayLike,
    names: Sequence[str],
    texts: Sequence[str],
    lengths: npt.ArrayLike | None = None,
    columns: Mapping[str, Sequence[str] | npt.NDArray[np.str_]] | None = None,
) -> Gold:
    """Make the gold of texts with one label each.

    Args:
        labels: Label ids [n].
        names: Of the labels.
        texts: Texts [n].
        lengths: Tokens of each text [n]; slices are cut by characters where it is ``None``.
        columns: More columns to slice by: name to one value per text.
    """
    ids = np.asarray(labels, dtype=np.int64)
    # Classes are sliced in the order of their ids.
    cuts = {"class": np.asarray(names)[ids], "length": length_slices(lengths, texts)} if len(ids) else {}
    cuts |= {name: np.asarray([str(value) for value in values]) for name, values in (columns or {}).items()}
    rows = np.arange(len(ids))
    return Gold(TASKS["single-label"], tuple(names), starts_of(np.ones(len(ids))), ids, rows, tuple(texts), cuts, ids)


def read(source: Source) -> Gold:
    """Read the gold of texts with one label each."""
    return labelled(
        np.asarray(source.split.labels)[source.chosen],
        source.labels,
        source.texts(),
        source.lengths(),
        source.columns(source.chosen),
    )


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge logits [n, k]."""
    said = answers.values.argmax(axis=1)
    right = said == gold.right
    hits = np.stack([right, np.ones(len(gold))], axis=1).astype(np.float64)
    figures = (
        Figure.of(
            "accuracy", Counted(hits, SHARE), lambda _: statistics.accuracy_interval(int(right.sum()), len(gold))
        ),
        Figure(
            "macro_f1",
            None,
            statistics.macro_f1(gold.right, said),
            lambda seed: statistics.macro_f1_interval(gold.right, said, seed),
        ),
    )
    scores = statistics.softmax(answers.values).max(axis=1)
    return Marks(figures, said, right, scores, units=said)


def show(gold: Gold, item: int, said: int) -> str:
    """Name a label."""
    return gold.labels[said]


def truth(gold: Gold, item: int) -> str:
    """Name the right label."""
    return show(gold, item, int(gold.right[item]))


def shift(first: Answers, second: Answers, gold: Gold) -> Floats:
    """Jensen-Shannon divergence of the probabilities [n], in bits."""
    return statistics.jensen_shannon(statistics.softmax(first.values), statistics.softmax(second.values))


def calibration_error(answers: Answers, gold: Gold, temperature: float = 1.0) -> float:
    """Expected calibration error of the likeliest label."""
    return statistics.expected_calibration_error(statistics.softmax(answers.values, temperature), gold.right)


def temperature(answers: Answers, gold: Gold) -> float | None:
    """The divisor of the logits that fits validation rows best."""
    return statistics.fit_temperature(answers.values, gold.right)


def absent(gold: Gold) -> list[str]:
    """Labels without a row."""
    met: Ints = np.unique(gold.right)
    return [name for index, name in enumerate(gold.labels) if index not in set(met.tolist())]
