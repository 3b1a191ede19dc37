"""What short trials of the training's parameters have found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TunedTrial:
    """One short training.

    Attributes:
        values: Field of the section ``distill`` to what was tried.
        scores: The deciding metric on the validation rows after each epoch.
        pruned: Stopped early, because it fell behind the median of the trials before it.
    """

    values: Mapping[str, float]
    scores: tuple[float, ...]
    pruned: bool = False

    @property
    def score(self) -> float:
        """That of its best epoch."""
        return max(self.scores)


@dataclass(frozen=True)
class Tuning:
    """What was tried, and what the student is trained with.

    Attributes:
        trials: In the order in which they were tried; the first one has the recipe's own values.
        metric: That decides, higher is better.
        rows: Training rows of each trial.
        epochs: Of each trial that was not stopped early, over these rows.
    """

    trials: tuple[TunedTrial, ...]
    metric: str
    rows: int
    epochs: float

    @property
    def chosen(self) -> int:
        """Index of the best trial that was not stopped; of equal ones the first."""
        whole = [index for index, trial in enumerate(self.trials) if not trial.pruned]
        return max(whole, key=lambda index: (self.trials[index].score, -index))
