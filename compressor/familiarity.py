"""What a teacher has learnt: its training texts by heart, or too little, so that it is less sure than right.

Its answers to texts that it knows by heart say little more than their labels do. A teacher that was trained for too
short is easily passed by a student that learns from the labels as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import entr

from compressor.answers import INPUT_NAMES, Answers, collect
from compressor.evaluation.statistics import softmax
from compressor.events import Listener, ignore
from compressor.heads import asking

if TYPE_CHECKING:
    from compressor.artifacts import SplitName, Teacher, Tokenized

STAGE = "familiarity"

UNSURE = 0.2
"""How much more often a classifier may be right than it is sure.

Training fits the classes first and their probabilities after them. Trained to the end, networks are surer than they are
right, unless smoothed labels keep them from it, by a tenth (Guo et al. 2017, https://arxiv.org/abs/1706.04599; Mueller
et al. 2019, https://arxiv.org/abs/1906.02629).
"""

ROWS = 512
"""Of each split, evenly spaced: the mean over more would hardly be another."""


@dataclass(frozen=True)
class Familiarity:
    """How uncertain a teacher is of texts that it was trained on, and of others.

    Attributes:
        known: Mean entropy of its answers about training rows, in nats.
        unknown: The same of validation rows.
    """

    known: float
    unknown: float

    @property
    def ratio(self) -> float:
        """1 where it makes no difference between them, towards 0 the more it knows by heart."""
        return self.known / self.unknown if self.unknown > 0 else 1.0


def familiarity(tutor: Teacher, tokenized: Tokenized, device: str, listen: Listener = ignore) -> Familiarity:
    """Ask a classifier about some rows of both splits.

    The entropy of soft labels is what they tell beyond the label (Hinton et al. 2015, https://arxiv.org/abs/1503.02531,
    section 1); about rows that a network has learnt by heart it has little.

    Args:
        tutor: With single labels. Moved to ``device`` and back to the CPU.
        tokenized: Its training and validation rows.
        device: ``cpu`` or ``cuda``.
        listen: Receives ``Progress``.
    """
    return Familiarity(
        _entropy(tutor, tokenized, "train", device, listen), _entropy(tutor, tokenized, "validation", device, listen)
    )


def certainty(answers: Answers, labels: Sequence[int]) -> tuple[float, float]:
    """Say how often a classifier is right, and how sure it is.

    Args:
        answers: Logits of shape (rows, labels).
        labels: Of the same rows.

    Returns:
        Share of the rows that it is right about, and the mean probability of what it answers.
    """
    found = softmax(answers.values)
    return float((found.argmax(axis=-1) == np.asarray(labels)).mean()), float(found.max(axis=-1).mean())


def _entropy(tutor: Teacher, tokenized: Tokenized, split: SplitName, device: str, listen: Listener) -> float:
    rows: Any = tokenized.splits[split]
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(np.int64))
    model: Any = tutor.model
    pad_token_id: Any = tutor.tokenizer.pad_token_id
    model.eval().to(device)
    try:
        found = collect(
            asking(model, tutor.task, device),
            rows.select(chosen),
            tutor.task,
            names=[name for name in INPUT_NAMES if name in rows.column_names],
            pad_token_id=pad_token_id,
            stage=STAGE,
            listen=listen,
        )
    finally:
        model.to("cpu")
    return float(entr(softmax(found.values)).sum(axis=-1).mean())
