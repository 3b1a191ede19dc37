"""When a cut is made: little by little in the first part of a training, so that the rest can recover."""

from __future__ import annotations

RISE_START, RISE_END = 0.1, 0.7
"""Shares of the training between which the cut grows; as for unstructured pruning."""

UPDATES = 25
"""How often units are chosen while the cut grows."""


def rise(progress: float) -> float:
    """Share of the whole cut that is due at a point of the training.

    ``1 - (1 - t)^3`` where t runs from 0 to 1 between ``RISE_START`` and ``RISE_END`` (Zhu and Gupta 2017,
    https://arxiv.org/abs/1710.01878).

    Args:
        progress: Share of the training done, in 0..1.
    """
    passed = min(1.0, max(0.0, (progress - RISE_START) / (RISE_END - RISE_START)))
    return 1 - (1 - passed) ** 3


def last_choice(step: int, steps: int) -> tuple[int, float]:
    """Find the latest step, up to now, at which units are chosen, and the share of the cut due there.

    Args:
        step: Steps done.
        steps: Steps of the whole training.
    """
    end = max(1, int(RISE_END * steps))
    if step >= end:
        return end, 1.0
    chosen = step - step % max(1, steps // UPDATES)
    return chosen, rise(chosen / steps)
