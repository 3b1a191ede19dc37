"""Does a teacher know its training texts by heart? Then its answers to them say little more than their labels do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import entr, softmax

from compressor.answers import INPUT_NAMES, collect
from compressor.events import Listener, ignore
from compressor.heads import asking

if TYPE_CHECKING:
    from compressor.artifacts import SplitName, Teacher, Tokenized

STAGE = "familiarity"
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
    return float(entr(softmax(found.values.astype(np.float64), axis=-1)).sum(axis=-1).mean())
