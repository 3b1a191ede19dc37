"""Does an int8 file still say what its fp32 parent says? One row per kind of task says what that means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compressor import answers
from compressor.answers import Answers
from compressor.errors import QuantizationError
from compressor.tasks import Kind, Task


@dataclass(frozen=True)
class Agreement:
    """How well two files of one model agree.

    Attributes:
        share: Share of rows in which every decision is the same; where nothing is decided, the correlation of the
            outputs, the mean of each column taken out before.
        sense: What tells noise from damage: share of single decisions kept, or the correlation.
        least: Least ``sense`` of a file that is not broken, half-way from chance to full agreement.
        words: ``share`` in words.
        damage: ``sense`` in words.
    """

    share: float
    sense: float
    least: float
    words: str
    damage: str


def judge(task: Task, first: Answers, second: Answers) -> Agreement:
    """Compare the answers of two files about the same rows.

    Raises:
        QuantizationError: The second is no better than half-way to chance, or not finite: it is broken.
    """
    found = _JUDGES[task.kind](task, first, second)
    if not np.isfinite(second.values).all() or not found.sense >= found.least:
        raise QuantizationError(
            f"The quantized model {found.damage}.",
            "Do not deploy it. Run without --quantize, or try another --target, and report the model type.",
        )
    return found


def correlation(first: Answers, second: Answers) -> float:
    """Pearson correlation of all values, the mean of each column taken out before; 1 where nothing varies."""
    one, two = (
        values - values.mean(axis=0) for values in (first.values.astype(np.float64), second.values.astype(np.float64))
    )
    norm = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float((one * two).sum()) / norm if norm else 1.0


def _decided(unit: str, chance: Callable[[int], float]) -> _Judge:
    """Judge units that each decide something; ``chance`` is that of deciding alike by luck, by the answers' width."""

    def judge_units(task: Task, first: Answers, second: Answers) -> Agreement:
        one, two = answers.decisions(task, first.values), answers.decisions(task, second.values)
        kept, luck = float(np.mean(one == two)), chance(first.values.shape[-1])
        share = 1 - answers.changed_rows(task, first, second) / len(first)
        label = "label" if task.kind == "single-label" else "decision"
        words = f"{share:.1%} of the labels as in fp32" if label == "label" else f"{share:.1%} of rows as in fp32"
        damage = f"gives {kept:.1%} of {len(first.values)} {unit} the {label} that fp32 gives them (chance: {luck:.1%})"
        return Agreement(share, kept, (1 + luck) / 2, words, damage)

    return judge_units


def _spans(task: Task, first: Answers, second: Answers) -> Agreement:
    share = 1 - answers.changed_rows(task, first, second) / len(first)
    damage = f"finds the start and end that fp32 finds in {share:.1%} of {len(first)} windows"
    return Agreement(share, share, 0.5, f"{share:.1%} of answers start and end as in fp32", damage)


def _correlated(_: Task, first: Answers, second: Answers) -> Agreement:
    found = correlation(first, second)
    damage = f"answers about {len(first)} texts with a correlation of {found:.2f} to fp32"
    return Agreement(found, found, 0.5, f"outputs correlate with those of fp32 by {found:.4f}", damage)


_Judge = Callable[[Task, Answers, Answers], Agreement]
_JUDGES: Mapping[Kind, _Judge] = {
    "single-label": _decided("texts", lambda width: 1 / width),
    "multi-label": _decided("texts", lambda width: 0.5),
    "regression": _correlated,
    "token-classification": _decided("tokens", lambda width: 1 / width),
    "question-answering": _spans,
    "fill-mask": _decided("masked tokens", lambda width: 0.0),
    "feature-extraction": _correlated,
}
