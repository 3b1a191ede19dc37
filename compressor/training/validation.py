"""Judging a model while it is trained: by a score that is given, and by its agreement with the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from compressor.answers import Answers, changed_rows, decisions
from compressor.tasks import Task

Score = Callable[[Answers], Mapping[str, float]]
"""Judges a model's answers about the validation rows: figures by name, higher is better for the one that decides."""


def accuracy_of(rows: Any) -> Score:
    """Accuracy and macro-F1 of single labels."""

    def score(found: Answers) -> dict[str, float]:
        truth, answers = np.asarray(rows["labels"][:]), found.values.argmax(-1)
        return {
            "accuracy": float((answers == truth).mean()),
            "macro_f1": float(f1_score(truth, answers, average="macro", zero_division=0)),
        }

    return score


def agreement(task: Task, own: Answers, other: Answers | None) -> dict[str, float]:
    """Share of units in which both decide alike; of windows for question answering."""
    if other is None:
        return {}
    if task.kind == "question-answering":
        return {"agreement": 1 - changed_rows(task, own, other) / len(own)}
    first, second = decisions(task, own.values), decisions(task, other.values)
    return {} if first is None or second is None else {"agreement": float((first == second).mean())}
