"""Statistics against references, hand-computed values, and simulated test sets."""

from functools import lru_cache

import numpy as np
import pytest
from scipy import optimize, stats
from sklearn.metrics import f1_score

from compressor.evaluation import statistics

SIMULATIONS = 2000
NOMINAL = 0.015  # accepted distance from the nominal rate; three standard errors of 95% over 2,000


def labelled(rows: int, classes: int, right: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=rows)
    return labels, np.where(rng.random(rows) < right, labels, rng.integers(classes, size=rows))


# --- simulations ------------------------------------------------------------------------------


@pytest.mark.parametrize(("broken", "repaired"), [(0.05, 0.04), (0.03, 0.02), (0.10, 0.10)])
def test_the_interval_of_the_difference_covers_the_truth_at_its_level(broken: float, repaired: float) -> None:
    interval = lru_cache(None)(lambda lost, won: statistics.paired_difference(lost, won, 1000))
    truth = repaired - broken
    found = [interval(*draw[:2]) for draw in draw_changes(broken, repaired, 1000)]
    assert abs(np.mean([item.low <= truth <= item.high for item in found]) - 0.95) <= NOMINAL


def test_the_interval_of_the_accuracy_covers_the_truth_at_its_level() -> None:
    interval = lru_cache(None)(lambda right: statistics.accuracy_interval(right, 1066))
    found = [interval(int(right)) for right in np.random.default_rng(1).binomial(1066, 0.83, SIMULATIONS)]
    assert abs(np.mean([item.low <= 0.83 <= item.high for item in found]) - 0.95) <= NOMINAL


def test_the_interval_of_the_macro_f1_covers_the_truth_at_its_level() -> None:
    cells = np.array([[0.55, 0.10], [0.05, 0.30]])
    truth = np.mean(2 * np.diag(cells) / (cells.sum(axis=0) + cells.sum(axis=1)))
    draws = np.random.default_rng(2).multinomial(800, cells.ravel(), SIMULATIONS)
    found = [
        statistics.macro_f1_interval(np.repeat([0, 0, 1, 1], draw), np.repeat([0, 1, 0, 1], draw)) for draw in draws
    ]
    assert abs(np.mean([item.low <= truth <= item.high for item in found]) - 0.95) <= NOMINAL


def draw_changes(broken: float, repaired: float, rows: int) -> list[list[int]]:
    rng = np.random.default_rng(3)
    return rng.multinomial(rows, [broken, repaired, 1 - broken - repaired], SIMULATIONS).tolist()


# --- references -------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_macro_f1_is_that_of_scikit_learn(classes: int) -> None:
    labels, predictions = labelled(60, classes, 0.6)
    assert statistics.macro_f1(labels, predictions) == pytest.approx(f1_score(labels, predictions, average="macro"))


def test_mcnemar_is_the_exact_binomial_test_on_the_changed_rows() -> None:
    broken, repaired = np.meshgrid(np.arange(30), np.arange(30))
    reference = np.vectorize(lambda b, c: stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0)
    np.testing.assert_allclose(statistics.mcnemar(broken, repaired), reference(broken, repaired), rtol=1e-9)


def test_the_bootstrap_interval_is_that_of_scipy() -> None:
    rng = np.random.default_rng(4)
    outcome = rng.choice([-1.0, 0.0, 1.0], p=[0.12, 0.8, 0.08], size=400)
    mine = statistics.paired_difference(int((outcome == -1).sum()), int((outcome == 1).sum()), 400)
    theirs = stats.bootstrap((outcome,), np.mean, n_resamples=20_000, method="BCa", rng=5).confidence_interval
    assert mine.low == pytest.approx(theirs.low, abs=0.004)
    assert mine.high == pytest.approx(theirs.high, abs=0.004)


@pytest.mark.parametrize(("broken", "repaired", "rows"), [(0, 0, 40), (2, 1, 100), (0, 6, 30), (5, 0, 25)])
def test_the_score_interval_inverts_the_score_test(broken: int, repaired: int, rows: int) -> None:
    found = statistics.paired_difference(broken, repaired, rows)
    for delta in (found.low, found.high):
        # The likelihood's maximum under the constraint repaired - broken = delta, found by brute force.
        def loss(lost: float, delta: float = delta) -> float:
            rates = np.clip([lost, lost + delta, 1 - 2 * lost - delta], 1e-15, 1)
            return -float(np.dot([broken, repaired, rows - broken - repaired], np.log(rates)))

        lost = optimize.minimize_scalar(
            loss, bounds=(max(0.0, -delta), (1 - delta) / 2), method="bounded", options={"xatol": 1e-12}
        ).x
        z = (repaired - broken - rows * delta) / np.sqrt(rows * (2 * lost + delta - delta**2))
        assert abs(z) == pytest.approx(1.96, abs=0.01)


def test_holm_agrees_with_a_worked_example() -> None:
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


# --- properties and edges ---------------------------------------------------------------------


def test_a_perfect_model_is_not_claimed_to_be_perfect_with_certainty() -> None:
    found = statistics.macro_f1_interval(np.zeros(20, dtype=int), np.zeros(20, dtype=int))
    assert found.estimate == 1.0
    assert found.low == pytest.approx(0.839, abs=0.001)


def test_the_temperature_undoes_a_scaling_of_the_logits() -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(4000, 3))
    labels = np.array([rng.choice(3, p=row) for row in statistics.softmax(logits)])
    assert statistics.fit_temperature(logits * 4, labels) == pytest.approx(4, rel=0.1)


def test_a_model_without_mistakes_or_without_knowledge_has_no_temperature() -> None:
    rng = np.random.default_rng(7)
    labels = np.arange(300) % 3
    assert statistics.fit_temperature(np.eye(3)[labels] * 5, labels) is None
    assert statistics.fit_temperature(rng.normal(size=(300, 3)) * 9, labels) is None


def test_a_lattice_of_two_rows_is_resampled_exactly() -> None:
    # One row of -1 and one of +1: sums -2, -1 ... 2 of two draws, with neither row at 0.
    np.testing.assert_allclose(statistics._pmf_of_sum(0.5, 0.5, 2), [0.25, 0, 0.5, 0, 0.25], atol=1e-15)
    np.testing.assert_allclose(statistics._pmf_of_sum(0.2, 0.3, 1), [0.2, 0.5, 0.3], atol=1e-15)


def test_the_calibration_error_of_a_hand_computed_case() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    # 0.9 is right once of two, 0.6 twice of two: gaps 0.4 and 0.4.
    assert statistics.expected_calibration_error(probabilities, np.array([0, 1, 0, 0])) == pytest.approx(0.4)


def test_the_shift_is_0_for_equal_and_1_bit_for_disjoint_probabilities() -> None:
    first, second = np.array([[1.0, 0.0], [0.3, 0.7]]), np.array([[0.0, 1.0], [0.3, 0.7]])
    np.testing.assert_allclose(statistics.jensen_shannon(first, second), [1.0, 0.0], atol=1e-12)


def test_points_have_a_sign_and_zero_has_none() -> None:
    assert [statistics.points(share) for share in (0.0123, -0.004, -0.0001)] == ["+1.2", "−0.4", "0.0"]
