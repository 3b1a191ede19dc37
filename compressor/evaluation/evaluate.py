"""What changed between a teacher and its students: accuracy, behaviour, and the verdict.

Works on the logits that every model gave for the same test rows; runs no model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, TEACHER, TEACHER_ONNX, CompanyDrift, ModelFacts
from compressor.errors import StageError
from compressor.evaluation import statistics
from compressor.evaluation.behaviour import Comparison, LabelledRows, compare, length_slices
from compressor.evaluation.statistics import Interval
from compressor.evaluation.verdict import Verdict

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ModelScores:
    """Scores of one model on the test split.

    Attributes:
        agreement_with_teacher: Share of rows with the teacher's label.
        ece: Expected calibration error as the model stands.
        temperature: Divisor of the logits fitted on validation rows; ``None`` where none were given, or
            where they do not tell.
        ece_calibrated: Expected calibration error with that temperature.
    """

    name: str
    accuracy: Interval
    macro_f1: Interval
    agreement_with_teacher: float
    ece: float
    temperature: float | None = None
    ece_calibrated: float | None = None


@dataclass(frozen=True)
class Drift:
    """How far one file of the same weights is from another, for example int8 from fp32.

    Attributes:
        changed_labels: Test rows with another label.
        max_abs_difference: Largest difference of a logit.
        mean_abs_difference: Mean difference of a logit.
        shift_mean: Mean Jensen-Shannon divergence of the probabilities, in bits.
    """

    model: str
    reference: str
    changed_labels: int
    max_abs_difference: float
    mean_abs_difference: float
    shift_mean: float


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on the test split.

    Attributes:
        rows: Test rows.
        majority: Share of the most frequent test label: what a constant answer scores.
        shipped: The model that the verdict is about: the last of the models.
        comparisons: Every model but the teacher, in the order of the models.
        company: Each shipped file against itself: a text alone, padded and in a batch.
    """

    rows: int
    majority: float
    shipped: str
    scores: tuple[ModelScores, ...]
    comparisons: tuple[Comparison, ...]
    drifts: tuple[Drift, ...]
    warnings: tuple[str, ...] = ()
    company: tuple[CompanyDrift, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict on the model that ships."""
        return next(item.verdict for item in self.comparisons if item.model == self.shipped)


def evaluate(
    models: Sequence[ModelFacts],
    labels: Ints,
    label_names: Sequence[str],
    texts: Sequence[str],
    *,
    max_drop: float = 1.0,
    lengths: npt.ArrayLike | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    validation_labels: Ints | None = None,
    validation_logits: Mapping[str, npt.NDArray[np.float32]] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Compare models on the test split.

    Args:
        models: The teacher, named ``teacher``, and at least one other; the last is the one that ships.
        labels: Label ids of the test rows [n].
        label_names: Names in the order of the ids.
        texts: Test texts [n].
        max_drop: Largest accepted drop in accuracy, in percentage points.
        lengths: Tokens of each text [n]; slices are cut by characters where it is ``None``.
        columns: More columns to slice by: name to one value per row.
        validation_labels: Label ids of the validation rows [v]; with ``validation_logits`` they fit the
            calibration temperature.
        validation_logits: Model name to validation logits [v, k], for any of the models.
        seed: Of the bootstrap.

    Raises:
        StageError: There are no test rows, no teacher, or logits of the wrong shape.
    """
    labels = np.asarray(labels, dtype=np.int64)
    _check(models, labels, label_names, texts)
    teacher = next(item for item in models if item.name == TEACHER)
    test = LabelledRows(
        labels,
        label_names,
        texts,
        cuts={
            "class": np.asarray(label_names)[labels],
            "length": length_slices(lengths, texts),
            **{name: np.asarray([str(value) for value in values]) for name, values in (columns or {}).items()},
        },
    )
    validation = validation_logits if validation_labels is not None and validation_logits is not None else {}
    scores = tuple(
        _scores(item, teacher, labels, _temperature(validation.get(item.name), validation_labels), seed)
        for item in models
    )
    comparisons = tuple(compare(item, teacher, test, max_drop / 100) for item in models if item is not teacher)
    majority = float(np.bincount(labels).max() / len(labels))
    return Evaluation(
        rows=len(labels),
        majority=majority,
        shipped=models[-1].name,
        scores=scores,
        comparisons=comparisons,
        drifts=tuple(_drifts({item.name: item for item in models})),
        warnings=tuple(_warnings(scores, labels, label_names, majority)),
    )


def _check(models: Sequence[ModelFacts], labels: Ints, label_names: Sequence[str], texts: Sequence[str]) -> None:
    if not len(labels):
        raise StageError("The test split has no rows: there is nothing to evaluate on.")
    if len(texts) != len(labels):
        raise StageError(f"{len(texts)} test texts, but {len(labels)} labels.")
    names = [item.name for item in models]
    if TEACHER not in names or len(models) < 2 or names[-1] == TEACHER:
        raise StageError(f"Evaluation needs the teacher and then at least one other model, not {names}.")
    shape = (len(labels), len(label_names))
    for item in models:
        if item.logits.shape != shape:
            raise StageError(f"Logits of {item.name} have shape {item.logits.shape}; the test split needs {shape}.")
        if not np.isfinite(item.logits).all():
            raise StageError(f"Logits of {item.name} are not all finite.")


def _temperature(logits: npt.NDArray[np.float32] | None, labels: Ints | None) -> float | None:
    if logits is None or labels is None:
        return None
    return statistics.fit_temperature(logits, labels)


def _scores(model: ModelFacts, teacher: ModelFacts, labels: Ints, temperature: float | None, seed: int) -> ModelScores:
    predictions = model.logits.argmax(axis=1)
    ece_calibrated = None
    if temperature is not None:
        calibrated = statistics.softmax(model.logits, temperature)
        ece_calibrated = statistics.expected_calibration_error(calibrated, labels)
    return ModelScores(
        name=model.name,
        accuracy=statistics.accuracy_interval(int(np.sum(predictions == labels)), len(labels)),
        macro_f1=statistics.macro_f1_interval(labels, predictions, seed),
        agreement_with_teacher=float(np.mean(predictions == teacher.logits.argmax(axis=1))),
        ece=statistics.expected_calibration_error(statistics.softmax(model.logits), labels),
        temperature=temperature,
        ece_calibrated=ece_calibrated,
    )


def _drifts(models: Mapping[str, ModelFacts]) -> Iterator[Drift]:
    for name, reference in ((TEACHER_ONNX, TEACHER), (STUDENT_INT8, STUDENT_ONNX)):
        if name in models and reference in models:
            first, second = models[reference].logits, models[name].logits
            difference = np.abs(first.astype(np.float64) - second)
            shift = statistics.jensen_shannon(statistics.softmax(first), statistics.softmax(second))
            yield Drift(
                model=name,
                reference=reference,
                changed_labels=int(np.sum(first.argmax(axis=1) != second.argmax(axis=1))),
                max_abs_difference=float(difference.max()),
                mean_abs_difference=float(difference.mean()),
                shift_mean=float(shift.mean()),
            )


def _warnings(
    scores: Sequence[ModelScores], labels: Ints, label_names: Sequence[str], majority: float
) -> Iterator[str]:
    for item in scores:
        if item.accuracy.low <= majority < 1:
            yield (
                f"{item.name} scores {100 * item.accuracy.estimate:.1f}% on the test split: not better beyond doubt "
                f"than always answering the most frequent label ({100 * majority:.1f}%)."
            )
    absent = [name for index, name in enumerate(label_names) if index not in set(labels.tolist())]
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        yield f"The test split has no row of {len(absent)} of {len(label_names)} labels: {shown}. They are not judged."
