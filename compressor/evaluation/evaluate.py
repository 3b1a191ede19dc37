"""What changed between a teacher and its students: metrics, behaviour, and the verdict.

Works on the answers that every model gave about the same test rows; runs no model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compressor.answers import Answers, changed_rows, largest_difference
from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, TEACHER, TEACHER_ONNX, CompanyDrift, ModelFacts
from compressor.errors import StageError
from compressor.evaluation import statistics
from compressor.evaluation.behaviour import Comparison, changes, compare
from compressor.evaluation.bootstrap import Resampled
from compressor.evaluation.differences import differences
from compressor.evaluation.metrics import METRICS, Gold, Marks
from compressor.evaluation.scores import MetricValue, ModelScores, resample, scores_of
from compressor.evaluation.slices import Changes
from compressor.evaluation.verdict import Verdict, non_inferiority, paired
from compressor.tasks import Kind

__all__ = ["Drift", "Evaluation", "MetricValue", "ModelScores", "evaluate"]


@dataclass(frozen=True)
class Drift:
    """How far one file of the same weights is from another, for example int8 from fp32.

    Attributes:
        rows: Of the tokenised test split: texts, or windows or blocks of them.
        changed_labels: Those with another decision: label, tag, span or piece; ``None`` where nothing is decided.
        max_abs_difference: Largest difference of an output value.
        mean_abs_difference: Mean difference of an output value.
        shift_mean: Mean Jensen-Shannon divergence of the probabilities, in bits; ``None`` where there are none.
    """

    model: str
    reference: str
    rows: int
    changed_labels: int | None
    max_abs_difference: float
    mean_abs_difference: float
    shift_mean: float | None


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on the test split.

    Attributes:
        rows: Test rows; questions, or masked tokens, where the task has those.
        majority: Share of the most frequent test label: what a constant answer scores; ``None`` where there are no
            single labels.
        shipped: The model that the verdict is about: the last of the models.
        comparisons: Every model but the teacher, in the order of the models.
        company: Each shipped file against itself: a text alone, padded and in a batch.
        task: Kind of the task.
        metric: Key of the deciding metric.
        metric_title: The same in words.
        row_word: What one of ``rows`` is called.
    """

    rows: int
    majority: float | None
    shipped: str
    scores: tuple[ModelScores, ...]
    comparisons: tuple[Comparison, ...]
    drifts: tuple[Drift, ...]
    warnings: tuple[str, ...] = ()
    company: tuple[CompanyDrift, ...] = ()
    task: Kind = "single-label"
    metric: str = "accuracy"
    metric_title: str = "accuracy"
    row_word: str = "test row"

    @property
    def verdict(self) -> Verdict:
        """The verdict on the model that ships."""
        return next(item.verdict for item in self.comparisons if item.model == self.shipped)


def evaluate(
    models: Sequence[ModelFacts],
    gold: Gold,
    *,
    max_drop: float = 1.0,
    validation: Gold | None = None,
    validation_answers: Mapping[str, Answers] | None = None,
    own: Mapping[str, Gold] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Compare models on the test split.

    Args:
        models: The teacher, named ``teacher``, and at least one other; the last is the one that ships.
        gold: What is right about the test split.
        max_drop: Largest accepted drop in the deciding metric, in points: hundredths of it.
        validation: What is right about validation rows; with ``validation_answers`` they fit the temperature of the
            probabilities, or the thresholds of the labels.
        validation_answers: Model name to answers about these rows, for any of the models.
        own: What is right about the same items, for the models whose tokenizer cuts them in another way.
        seed: Of the bootstrap.

    Raises:
        StageError: There are no test rows, no teacher, or answers of the wrong shape.
    """
    _check(models, {item.name: (own or {}).get(item.name, gold) for item in models})
    task, judging = gold.task, METRICS[gold.task.kind]
    teacher = next(item for item in models if item.name == TEACHER)
    gold = replace(gold, reference=gold.reference or teacher.answers)
    golds = {item.name: (own or {}).get(item.name, gold) for item in models}
    fitting = {name: (answers, validation) for name, answers in (validation_answers or {}).items() if validation}
    fit = judging.thresholds
    thresholds = {name: fit(*rows) for name, rows in fitting.items()} if fit else {}
    marks = {
        item.name: judging.mark(item.answers, golds[item.name], thresholds.get(item.name) or ()) for item in models
    }
    resampled = resample(marks, gold, seed)
    happened = {name: changes(found, marks[TEACHER], gold) for name, found in marks.items()}
    scores = tuple(
        scores_of(
            item.name,
            item.answers,
            marks[item.name],
            gold,
            resampled=resampled[item.name],
            changes=happened[item.name],
            validation=fitting.get(item.name),
            thresholds=thresholds.get(item.name),
            seed=seed,
        )
        for item in models
    )
    comparisons = tuple(
        compare(
            item, marks[item.name], teacher, marks[TEACHER], gold, happened[item.name],
            _verdict(gold, happened[item.name], resampled[item.name], resampled[TEACHER], max_drop / 100),
            differences(
                marks[item.name], marks[TEACHER], gold,
                model=resampled[item.name], teacher=resampled[TEACHER], seed=seed,
            ),
            same_units=item.name not in (own or {}),
        )
        for item in models
        if item is not teacher
    )  # fmt: skip
    majority = float(np.bincount(gold.right).max() / len(gold)) if task.kind == "single-label" else None
    return Evaluation(
        rows=len(gold),
        majority=majority,
        shipped=models[-1].name,
        scores=scores,
        comparisons=comparisons,
        drifts=tuple(_drifts({item.name: item for item in models}, golds)),
        warnings=tuple(_warnings(scores, marks, gold, majority)),
        task=task.kind,
        metric=task.metric,
        metric_title=task.metric_title,
        row_word=judging.wording.row,
    )


def _check(models: Sequence[ModelFacts], golds: Mapping[str, Gold]) -> None:
    if not all(map(len, golds.values())):
        raise StageError("The test split has no rows: there is nothing to evaluate on.")
    names = [item.name for item in models]
    if TEACHER not in names or len(models) < 2 or names[-1] == TEACHER:
        raise StageError(f"Evaluation needs the teacher and then at least one other model, not {names}.")
    for item in models:
        gold = golds[item.name]
        width = METRICS[gold.task.kind].width(gold) or item.answers.values.shape[1]
        shape = (int(gold.starts[-1]), width)
        if item.answers.values.shape != shape:
            found = item.answers.values.shape
            raise StageError(f"Answers of {item.name} have shape {found}; the test split needs {shape}.")
        if not np.array_equal(item.answers.starts, gold.starts):
            raise StageError(f"Answers of {item.name} are about rows of other lengths than those of the test split.")
        if not np.isfinite(item.answers.values).all():
            raise StageError(f"Answers of {item.name} are not all finite.")


def _verdict(
    gold: Gold, happened: Changes, model: Mapping[str, Resampled], teacher: Mapping[str, Resampled], margin: float
) -> Verdict:
    p_value = None
    deciding = gold.task.metric
    if happened.tested and happened.broken is not None and happened.repaired is not None:
        broken, repaired = int(happened.broken.sum()), int(happened.repaired.sum())
        if deciding not in model:  # the share of rows that are right: its difference needs no drawing
            return non_inferiority(broken, repaired, len(gold), margin)
        p_value = float(statistics.mcnemar(broken, repaired))
    wording = METRICS[gold.task.kind].wording
    return paired(model[deciding], teacher[deciding], len(gold), margin, wording, p_value)


def _drifts(models: Mapping[str, ModelFacts], golds: Mapping[str, Gold]) -> Iterator[Drift]:
    for name, reference in ((TEACHER_ONNX, TEACHER), (STUDENT_INT8, STUDENT_ONNX)):
        if name in models and reference in models:
            first, second, gold = models[reference].answers, models[name].answers, golds[name]
            shift = METRICS[gold.task.kind].shift
            # Of a masked token only the right piece's log-probability is comparable.
            one, two = (
                some.values[:, :1] if gold.task.unit == "masked token" else some.values for some in (first, second)
            )
            yield Drift(
                model=name,
                reference=reference,
                rows=len(first),
                changed_labels=changed_rows(gold.task, first, second) if gold.task.decides else None,
                max_abs_difference=largest_difference(gold.task, first, second),
                mean_abs_difference=float(np.abs(one.astype(np.float64) - two).mean()),
                shift_mean=float(shift(first, second, gold).mean()) if shift else None,
            )


def _warnings(
    scores: Sequence[ModelScores], marks: Mapping[str, Marks], gold: Gold, majority: float | None
) -> Iterator[str]:
    judging = METRICS[gold.task.kind]
    for item in scores:
        if majority is not None and item.deciding.low <= majority < 1:
            yield (
                f"{item.name} scores {100 * item.deciding.estimate:.1f}% on the test split: not better beyond doubt "
                f"than always answering the most frequent label ({100 * majority:.1f}%)."
            )
        elif majority is None and len(gold) > 1 and len(set(marks[item.name].said)) == 1:
            answer = judging.show(gold, 0, marks[item.name].said[0])
            yield f"{item.name} gives the same answer to every {judging.wording.row}: {answer}."
    names, absent = judging.label_names(gold), judging.absent(gold)
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        yield f"The test split has no row of {len(absent)} of {len(names)} labels: {shown}. They are not judged."
