"""How far a model is from its teacher in the metrics that do not decide: paired differences, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from compressor.evaluation import bootstrap
from compressor.evaluation.bootstrap import Resampled
from compressor.evaluation.metrics import METRICS, TITLES, Gold, Marks
from compressor.evaluation.scores import MetricValue
from compressor.evaluation.statistics import FEW_EVENTS, LEVEL, Interval, Ints, bca, macro_f1_of_counts


def differences(
    marks: Marks,
    teacher_marks: Marks,
    gold: Gold,
    *,
    model: Mapping[str, Resampled],
    teacher: Mapping[str, Resampled],
    seed: int = 0,
) -> Iterator[MetricValue]:
    """Compare every metric but the deciding one, which the verdict is about.

    Args:
        marks: What the model's answers earned.
        teacher_marks: What the teacher's did.
        gold: What is right.
        model: The model's metrics that have no closed form, by name, resampled with the same draws as the teacher's.
        teacher: The teacher's.
        seed: Of what is drawn here.

    Returns:
        The model's metric minus the teacher's; a metric is left out where too little changed to tell.
    """
    for figure in marks.figures:
        if figure.name == gold.task.metric:
            continue
        found = None
        if figure.name in model and figure.name in teacher:
            group = METRICS[gold.task.kind].wording.group
            found = bootstrap.difference(model[figure.name], teacher[figure.name], group)
        elif figure.name == "macro_f1" and marks.units is not None and teacher_marks.units is not None:
            found = macro_f1_difference(gold.right, teacher_marks.units, marks.units, seed)
        if found is not None:
            title = TITLES[figure.name]
            yield MetricValue(figure.name, title.text, found, title.share, title.lower_is_better)


def macro_f1_difference(
    labels: Ints, teacher: Ints, model: Ints, seed: int = 0, level: float = LEVEL
) -> Interval | None:
    """Interval of macro-F1(model) - macro-F1(teacher) on the same rows, by the BCa bootstrap (Efron 1987).

    Rows of one label, one answer of the teacher and one of the model are alike: drawing rows is one multinomial draw
    over these cells.

    Args:
        labels: What is right [n].
        teacher: What the teacher said [n].
        model: What the model said [n].
        seed: Of the draws.
        level: Confidence level.

    Returns:
        ``None`` where the two differ in fewer than ten rows: resamples could hardly differ, and would claim a
        certainty that is none.
    """
    if int(np.sum(teacher != model)) < FEW_EVENTS:
        return None
    triples = np.stack([labels, teacher, model], axis=1).astype(np.int64)
    cells, counts = np.unique(triples, axis=0, return_counts=True)
    before, after = cells[:, [0, 1]], cells[:, [0, 2]]
    return bca(counts, lambda drawn: macro_f1_of_counts(after, drawn) - macro_f1_of_counts(before, drawn), seed, level)
