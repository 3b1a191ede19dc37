"""Differences in the metrics that do not decide: their coverage, hand-computed values, and where nothing is said."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from compressor.evaluation.differences import macro_f1_difference
from compressor.evaluation.evaluate import Evaluation, evaluate
from compressor.evaluation.metrics import labelled
from tests import judged

SIMULATIONS = 2000
NOMINAL = 0.015  # accepted distance from the nominal rate; three standard errors of 95% over 2,000

# Rows by label, answer of the teacher and answer of the student, with two labels.
RATES = np.array([[[0.50, 0.03], [0.02, 0.07]], [[0.04, 0.01], [0.02, 0.31]]])


def drawn(counts: np.ndarray) -> np.ndarray:
    """Label, teacher and student of every row [n, 3]."""
    return np.repeat(np.argwhere(np.ones_like(RATES)), counts, axis=0)


def macro_f1(rates: np.ndarray) -> float:
    return float(np.mean(2 * np.diag(rates) / (rates.sum(axis=0) + rates.sum(axis=1))))


def test_the_interval_of_a_macro_f1_difference_covers_the_truth_at_its_level() -> None:
    truth = macro_f1(RATES.sum(axis=1)) - macro_f1(RATES.sum(axis=2))
    covered = []
    for counts in np.random.default_rng(0).multinomial(600, RATES.ravel(), SIMULATIONS):
        found = macro_f1_difference(*drawn(counts).T)
        assert found is not None
        covered.append(found.low <= truth <= found.high)
    assert abs(np.mean(covered) - 0.95) <= NOMINAL


def test_the_difference_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels, teacher, student = rng.integers(5, size=(3, 200))
    found = macro_f1_difference(labels, teacher, student)
    reference = f1_score(labels, student, average="macro") - f1_score(labels, teacher, average="macro")
    assert found is not None
    assert found.estimate == pytest.approx(reference)
    assert found.low < found.estimate < found.high


def test_of_fewer_than_ten_changed_rows_nothing_is_said() -> None:
    labels = np.arange(400) % 4
    student = labels.copy()
    student[:9] = 3 - student[:9]
    assert macro_f1_difference(labels, labels, student) is None
    student[9] = 3 - student[9]
    assert macro_f1_difference(labels, labels, student) is not None


def single_label(changed: int) -> Evaluation:
    labels = np.arange(400) % 4
    said = labels.copy()
    said[:changed] = 0  # rows of label 0 stay right
    gold = labelled(labels, tuple("abcd"), judged.texts(400))
    answers = [judged.by_row(judged.sure(some, 4)) for some in (labels, said)]
    return evaluate([judged.facts(*pair) for pair in zip(("teacher", "student_onnx"), answers, strict=True)], gold)


def test_a_comparison_holds_the_difference_of_macro_f1_with_its_title() -> None:
    found = single_label(80)
    (item,) = found.comparisons[0].differences
    assert (item.name, item.title, item.share) == ("macro_f1", "macro F1", True)
    scores = {row.name: row.metric("macro_f1").estimate for row in found.scores}
    assert item.interval.estimate == pytest.approx(scores["student_onnx"] - scores["teacher"])
    assert item.interval.high < 0
    assert single_label(4).comparisons[0].differences == ()


def test_metrics_that_are_resampled_are_compared_by_the_same_draws() -> None:
    right = np.stack([np.arange(200) % 2 == 0, np.arange(200) % 4 == 0], axis=1)
    teacher = np.where(right, 3.0, -3.0)
    student = teacher.copy()
    student[np.flatnonzero(right[:, 1])[:20], 1] = -1.0
    gold, answers = judged.label_sets(right, teacher, 2)
    models = [judged.facts("teacher", answers), judged.facts("student_onnx", judged.by_row(student))]
    (item,) = evaluate(models, gold).comparisons[0].differences  # the subset accuracy needs no drawing
    assert item.name == "macro_f1"
    assert item.interval.estimate == pytest.approx((1 + 60 / 80) / 2 - 1)
    assert -0.25 < item.interval.low < item.interval.high < 0
