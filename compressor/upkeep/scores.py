"""What models score side by side: every metric with its interval, and the paired difference to the first of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from compressor.answers import Answers
from compressor.errors import ManifestError
from compressor.evaluation import bootstrap, statistics
from compressor.evaluation.behaviour import changes
from compressor.evaluation.bootstrap import Resampled
from compressor.evaluation.metrics import METRICS, TITLES, Gold, Marks, Title
from compressor.evaluation.scores import ModelScores, resample, scores_of
from compressor.evaluation.slices import Changes
from compressor.evaluation.statistics import Interval
from compressor.tasks import Task


@dataclass(frozen=True)
class Sat:
    """What a model said in its exam, and what that earned; ``marks.said`` is in words."""

    answers: Answers
    gold: Gold
    marks: Marks


@dataclass(frozen=True)
class Judged:
    """The scores of one model.

    Attributes:
        scores: With intervals; agreement is that with the first model.
        difference: Deciding metric minus the first model's, paired.
        mcnemar_p: Of "no difference in which rows are right"; ``None`` where rows are neither right nor wrong, or
            depend on each other.
    """

    scores: ModelScores
    difference: Interval
    mcnemar_p: float | None


def sat(answers: Answers, gold: Gold, marks: Marks) -> Sat:
    """Put decisions into words, so that models whose labels stand in another order can be compared."""
    judging = METRICS[gold.task.kind]
    if not judging.decides:
        return Sat(answers, gold, marks)
    words = [judging.show(gold, item, said) for item, said in enumerate(marks.said)]
    if gold.task.kind == "multi-label":
        words = [", ".join(sorted(text.split(", "))) for text in words]
    return Sat(answers, gold, replace(marks, said=words))


def comparable(name: str, found: Gold, first: Gold) -> None:
    """Make sure that two models were asked about the same things.

    Raises:
        ManifestError: They cut the text into other pieces, and that is what they are asked about.
    """
    same = np.array_equal(found.groups, first.groups)
    if same and found.task.unit == "masked token":
        same = np.array_equal(found.right.pieces, first.right.pieces)
    if not same:
        raise ManifestError(
            f"{name} is asked about other {METRICS[found.task.kind].wording.row}s than the first model.",
            "Compare models of one tokenizer and one length.",
        )


def judge(exams: Mapping[str, Sat], seed: int) -> dict[str, Judged]:
    """Compare models with the first of them.

    Args:
        exams: By name, of the same items.
        seed: Of what is drawn.
    """
    if not exams:
        return {}
    first = next(iter(exams))
    base = exams[first]
    resampled = resample({name: found.marks for name, found in exams.items()}, base.gold, seed)
    judged = {}
    for name, found in exams.items():
        happened = changes(found.marks, base.marks, found.gold)
        p_value = None
        if happened.tested and happened.broken is not None and happened.repaired is not None:
            p_value = float(statistics.mcnemar(int(happened.broken.sum()), int(happened.repaired.sum())))
        scores = scores_of(
            name, found.answers, found.marks, found.gold, resampled=resampled[name], changes=happened, seed=seed
        )
        judged[name] = Judged(scores, _difference(found.gold, happened, resampled[name], resampled[first]), p_value)
    return judged


def _difference(
    gold: Gold, happened: Changes, model: Mapping[str, Resampled], base: Mapping[str, Resampled]
) -> Interval:
    metric = gold.task.metric
    if metric in model:
        return bootstrap.difference(model[metric], base[metric], METRICS[gold.task.kind].wording.group)
    if happened.broken is None or happened.repaired is None:
        raise ValueError(f"{metric} is neither resampled nor a share of right rows")
    return statistics.paired_difference(int(happened.broken.sum()), int(happened.repaired.sum()), len(gold))


def title_of(task: Task) -> Title:
    """How the deciding metric is spoken of where the first model is what others are compared with."""
    found = TITLES[task.metric]
    return replace(found, text=found.text.replace("the teacher's", "the first model's"))
