"""What each model scores: every metric with its interval, and how far its probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compressor.answers import Answers
from compressor.evaluation import bootstrap
from compressor.evaluation.bootstrap import Resampled
from compressor.evaluation.metrics import METRICS, TITLES, Gold, Marks
from compressor.evaluation.slices import Changes
from compressor.evaluation.statistics import Interval

Validation = tuple[Answers, Gold]
"""A model's answers about validation rows, and what is right about them."""


@dataclass(frozen=True)
class MetricValue:
    """One metric of one model.

    Attributes:
        name: Its key, as in ``metrics.TITLES``.
        title: In words.
        share: It is a share, shown in per cent; otherwise a plain number.
        lower_is_better: As of a loss.
    """

    name: str
    title: str
    interval: Interval
    share: bool = True
    lower_is_better: bool = False


@dataclass(frozen=True)
class ModelScores:
    """Scores of one model on the test split.

    Attributes:
        metrics: All metrics of the task, the deciding one first.
        agreement_with_teacher: Share of rows with the teacher's decision; ``None`` where the task decides nothing.
        ece: Expected calibration error as the model stands; ``None`` where there are no probabilities.
        temperature: Divisor of the logits fitted on validation rows; ``None`` where none were given, or
            where they do not tell.
        ece_calibrated: Expected calibration error with that temperature.
        thresholds: For each label the probability from which on it applies, fitted on validation rows; ``None`` where
            it is 0.5 for all.
    """

    name: str
    metrics: tuple[MetricValue, ...]
    agreement_with_teacher: float | None
    ece: float | None = None
    temperature: float | None = None
    ece_calibrated: float | None = None
    thresholds: tuple[float, ...] | None = None

    def metric(self, name: str) -> Interval:
        """The interval of a metric.

        Raises:
            KeyError: The task has none of that name.
        """
        return {item.name: item.interval for item in self.metrics}[name]

    @property
    def deciding(self) -> Interval:
        """The metric that the verdict is about."""
        return self.metrics[0].interval


def scores_of(
    name: str,
    answers: Answers,
    marks: Marks,
    gold: Gold,
    *,
    resampled: Mapping[str, Resampled],
    changes: Changes,
    validation: Validation | None = None,
    thresholds: tuple[float, ...] | None = None,
    seed: int = 0,
) -> ModelScores:
    """Put the scores of one model together.

    Args:
        name: Of the model.
        answers: About the test split.
        marks: What they earned.
        gold: What is right.
        resampled: The metrics that have no closed form, by name.
        changes: What differs from the teacher, row by row.
        validation: Fits the temperature.
        thresholds: That the marks were earned with.
        seed: Of what is drawn beside ``resampled``.
    """
    judging = METRICS[gold.task.kind]
    metrics = []
    for figure in marks.figures:
        found, title = resampled.get(figure.name), TITLES[figure.name]
        interval = figure.exact(seed) if figure.exact else None
        if interval is None and found is not None:
            interval = bootstrap.interval(found, judging.wording.group)
        if interval is not None:
            metrics.append(MetricValue(figure.name, title.text, interval, title.share, title.lower_is_better))
    fit, error = judging.temperature, judging.calibration_error
    temperature = fit(*validation) if fit and validation else None
    return ModelScores(
        name=name,
        metrics=tuple(metrics),
        agreement_with_teacher=None if changes.changed is None else float(np.mean(~changes.changed)),
        ece=error(answers, gold, 1.0) if error else None,
        temperature=temperature,
        ece_calibrated=error(answers, gold, temperature) if error and temperature is not None else None,
        thresholds=thresholds,
    )


def resample(marks: Mapping[str, Marks], gold: Gold, seed: int) -> dict[str, dict[str, Resampled]]:
    """Resample every metric that has no closed form, of all models with the same draws: by model and metric."""
    figures = [
        (name, figure.name, figure.parts)
        for name, found in marks.items()
        for figure in found.figures
        if figure.parts is not None and figure.exact is None
    ]
    resampled: dict[str, dict[str, Resampled]] = {name: {} for name in marks}
    if figures:
        drawn = bootstrap.resample([parts for *_, parts in figures], gold.groups, seed)
        for (name, metric, _), found in zip(figures, drawn, strict=True):
            resampled[name][metric] = found
    return resampled
