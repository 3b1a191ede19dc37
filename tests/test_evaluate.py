"""What changed between a teacher and its students."""

import numpy as np
import pytest

from compressor.answers import Answers
from compressor.artifacts import ModelFacts
from compressor.errors import StageError
from compressor.evaluation import statistics
from compressor.evaluation.evaluate import Evaluation, evaluate
from compressor.evaluation.metrics import labelled

NAMES = ("negative", "positive", "neutral")


def facts(name: str, logits: np.ndarray) -> ModelFacts:
    return ModelFacts(name, 100, 90, 10, 0, answers(logits))


def answers(logits: np.ndarray) -> Answers:
    return Answers(np.asarray(logits, dtype=np.float32), np.arange(len(logits) + 1))


def sure(predictions: list[int] | np.ndarray, classes: int = 3, scale: float = 3.0) -> np.ndarray:
    return np.eye(classes)[np.asarray(predictions)] * scale


def compared(
    labels: list[int], teacher: list[int], student: list[int], max_drop: float = 1.0, **options: object
) -> Evaluation:
    gold = labelled(labels, NAMES, [f"text {index}" for index in range(len(labels))], **options)
    return evaluate([facts("teacher", sure(teacher)), facts("student_onnx", sure(student))], gold, max_drop=max_drop)


def test_changed_rows_are_split_into_broken_repaired_and_moved() -> None:
    found = compared([0, 0, 1, 2, 2], [0, 0, 0, 1, 1], [0, 1, 1, 0, 1]).comparisons[0]
    assert (found.flipped, found.broken, found.repaired, found.moved) == (3, 1, 1, 1)
    assert {flip.row: flip.kind for flip in found.flips} == {1: "broken", 2: "repaired", 3: "moved"}


def test_a_flip_carries_text_labels_and_both_scores() -> None:
    flip = compared([0, 0], [0, 0], [0, 1]).comparisons[0].flips[0]
    assert (flip.text, flip.label, flip.teacher_label, flip.student_label) == (
        "text 1", "negative", "negative", "positive",
    )  # fmt: skip
    assert flip.teacher_score == flip.student_score == pytest.approx(np.exp(3) / (np.exp(3) + 2))


def test_the_surest_flips_come_first() -> None:
    teacher, student = sure([0, 0, 0]), sure([1, 1, 1])
    student[2] *= 3
    models = [facts("teacher", teacher), facts("student_onnx", student)]
    found = evaluate(models, labelled([0, 0, 0], NAMES, ["a", "b", "c"]))
    assert [flip.text for flip in found.comparisons[0].flips] == ["c", "a", "b"]


def test_scores_and_agreement_of_each_model() -> None:
    teacher, student = compared([0, 1, 2, 0], [0, 1, 2, 1], [0, 1, 1, 1]).scores
    assert (teacher.metric("accuracy").estimate, student.metric("accuracy").estimate) == (0.75, 0.5)
    assert (teacher.agreement_with_teacher, student.agreement_with_teacher) == (1.0, 0.75)


def test_the_verdict_is_about_the_last_model() -> None:
    labels = np.arange(900) % 3
    models = [
        facts("teacher", sure(labels)), facts("student_onnx", sure(labels)), facts("student_int8", sure((labels + 1) % 3)),
    ]  # fmt: skip
    found = evaluate(models, labelled(labels, NAMES, ["x"] * 900), max_drop=1.0)
    assert found.shipped == "student_int8"
    assert found.verdict.decision == "do not ship"
    assert found.comparisons[0].verdict.decision == "ship"


def test_the_margin_is_read_in_percentage_points() -> None:
    assert compared([0] * 50, [0] * 50, [0] * 50, max_drop=30.0).verdict.margin == pytest.approx(0.3)
    assert compared([0] * 50, [0] * 50, [0] * 50, max_drop=30.0).verdict.decision == "ship"


def test_slices_by_class_length_and_named_column_cover_all_rows() -> None:
    found = compared(
        [2, 1, 0, 0],
        [2, 1, 0, 0],
        [2, 0, 0, 0],
        lengths=[4, 9, 4, 30],
        columns={"source": ["web", "app", "web", "web"]},
    )
    by_column: dict[str, list[tuple[str, int]]] = {}
    for item in found.comparisons[0].slices:
        by_column.setdefault(item.column, []).append((item.name, item.rows))
    assert by_column["class"] == [("negative", 2), ("positive", 1), ("neutral", 1)]
    assert by_column["length"] == [("4 tokens", 2), ("9 tokens", 1), ("30 tokens", 1)]
    assert by_column["source"] == [("web", 3), ("app", 1)]


def test_a_class_that_broke_is_significant_after_correction_and_the_others_are_not() -> None:
    labels = np.repeat([0, 1, 2], 100)
    student = labels.copy()
    student[:20] = 1
    slices = compared(labels.tolist(), labels.tolist(), student.tolist()).comparisons[0].slices
    p_values = {item.name: item.p_value for item in slices if item.column == "class"}
    assert p_values["negative"] < 0.001
    assert p_values["positive"] == p_values["neutral"] == 1.0


def test_only_confusion_cells_that_changed_are_listed() -> None:
    cells = compared([0, 0, 1], [0, 0, 1], [0, 2, 1]).comparisons[0].confusion
    assert {(cell.label, cell.predicted, cell.teacher, cell.student) for cell in cells} == {
        ("negative", "negative", 2, 1),
        ("negative", "neutral", 0, 1),
    }


def test_drift_is_measured_between_int8_and_its_fp32_parent() -> None:
    labels = np.array([0, 1])
    parent, child = sure(labels), sure(labels)
    child[0, 0] -= 0.5
    models = [facts("teacher", parent), facts("student_onnx", parent), facts("student_int8", child)]
    (drift,) = evaluate(models, labelled(labels, NAMES, ["a", "b"])).drifts
    assert (drift.model, drift.reference, drift.changed_labels) == ("student_int8", "student_onnx", 0)
    assert drift.max_abs_difference == pytest.approx(0.5)


def test_a_fitted_temperature_lowers_the_calibration_error_of_an_overconfident_model() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)).astype(np.float32)
    truth = statistics.softmax(logits)
    labels = np.array([rng.choice(3, p=row) for row in truth])
    models = [facts("teacher", logits[2000:]), facts("student_onnx", logits[2000:] * 5)]
    found = evaluate(
        models,
        labelled(labels[2000:], NAMES, ["x"] * 2000),
        validation=labelled(labels[:2000], NAMES, ["x"] * 2000),
        validation_answers={"student_onnx": answers(logits[:2000] * 5)},
    ).scores
    assert found[0].temperature is None
    assert found[1].temperature == pytest.approx(5, rel=0.1)
    # What a model shows whose probabilities are the truth itself (Broecker and Smith 2007): with 2,000 rows not 0.
    perfect = [
        statistics.expected_calibration_error(truth[2000:], np.array([rng.choice(3, p=row) for row in truth[2000:]]))
        for _ in range(20)
    ]
    assert found[1].ece_calibrated <= max(perfect) < found[1].ece


def test_a_model_without_enough_mistakes_on_validation_rows_gets_no_temperature() -> None:
    labels = np.arange(300) % 3
    models = [facts("teacher", sure(labels)), facts("student_onnx", sure(labels))]
    gold = labelled(labels, NAMES, ["x"] * 300)
    options = {"validation": gold, "validation_answers": {"student_onnx": answers(sure(labels))}}
    scores = evaluate(models, gold, **options).scores[1]
    assert (scores.temperature, scores.ece_calibrated) == (None, None)


def test_one_row_and_a_perfect_model_give_an_undecided_verdict() -> None:
    found = compared([1], [1], [1])
    assert found.verdict.decision == "cannot tell"
    assert found.scores[1].metric("accuracy").low < 0.5


def test_labels_without_a_test_row_are_named() -> None:
    assert compared([0, 0], [0, 0], [0, 0]).warnings == (
        "The test split has no row of 2 of 3 labels: positive, neutral. They are not judged.",
    )


def test_a_model_no_better_than_the_most_frequent_label_is_named() -> None:
    warnings = compared([0, 0, 0, 1, 1, 2] * 20, [0] * 120, [0] * 120).warnings
    assert warnings[1] == (
        "student_onnx scores 50.0% on the test split: not better beyond doubt than always answering the most "
        "frequent label (50.0%)."
    )


@pytest.mark.parametrize(
    ("models", "labels", "message"),
    [
        ([facts("teacher", sure([0])), facts("student_onnx", sure([0]))], [], "The test split has no rows"),
        ([facts("student_onnx", sure([0]))], [0], "Evaluation needs the teacher and then at least one other model"),
        ([facts("teacher", sure([0])), facts("student_onnx", sure([0, 1]))], [0], r"student_onnx have shape \(2, 3\)"),
        (
            [facts("teacher", sure([0])), facts("student_onnx", sure([0]) * np.nan)],
            [0],
            "student_onnx are not all finite",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(models: list[ModelFacts], labels: list[int], message: str) -> None:
    with pytest.raises(StageError, match=message):
        evaluate(models, labelled(labels, NAMES, ["x"] * len(labels)))
