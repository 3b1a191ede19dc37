"""Intervals by resampling: their coverage and the verdict's error rates on simulated test sets, and their edges."""

import numpy as np
import pytest
from scipy import stats

from compressor.evaluation import bootstrap, verdict
from compressor.evaluation.bootstrap import Resampled
from compressor.evaluation.figures import F1, MEAN, SHARE, Counted, Parts, Ranked
from compressor.evaluation.statistics import Interval

SETS = 400
RESAMPLES = 400
WORDING = verdict.Wording("its micro F1 differs from the teacher's by")


def between(rate: float) -> tuple[int, int]:
    """How many of the sets may meet an event of this rate, in all but one of a thousand test runs."""
    low, high = stats.binom.interval(0.999, SETS, rate)
    return int(low), int(high)


def resampled(*parts: Parts, groups: np.ndarray | None = None, seed: int = 0) -> list[Resampled]:
    items = parts[0].items if isinstance(parts[0], Ranked) else len(parts[0].sums)
    return bootstrap.resample(parts, np.arange(items) if groups is None else groups, seed, RESAMPLES)


# --- simulations ------------------------------------------------------------------------------


def label_counts(rng: np.random.Generator, rows: int, hit: float, false: float, hard: np.ndarray) -> Counted:
    """True and false positives and false negatives of rows of 4 labels; in a hard row, all labels are hard."""
    right = rng.random((rows, 4)) < 0.3
    said = rng.random((rows, 4)) < np.where(right, hit - 0.3 * hard[:, None], false)
    counts = [said & right, said & ~right, ~said & right]
    return Counted(np.stack([some.sum(axis=1) for some in counts], axis=1).astype(float), F1)


def micro_f1(hit: float, false: float) -> float:
    """Of all rows that there could be; one in three is hard."""
    found, wrong, missed = 0.3 * (hit - 0.1), 0.7 * false, 0.3 * (1.1 - hit)
    return 2 * found / (2 * found + wrong + missed)


def test_the_interval_of_a_micro_f1_covers_the_truth_at_its_level() -> None:
    rng = np.random.default_rng(0)
    truth, covered = micro_f1(0.9, 0.1), 0
    for _ in range(SETS):
        found = bootstrap.interval(*resampled(label_counts(rng, 150, 0.9, 0.1, rng.random(150) < 1 / 3)))
        covered += found.low <= truth <= found.high
    assert between(0.95)[0] <= covered <= between(0.95)[1]


def test_the_interval_of_a_rank_correlation_covers_the_truth_at_its_level() -> None:
    rng = np.random.default_rng(1)
    truth, covered = 6 / np.pi * np.arcsin(0.8 / 2), 0  # of two normal variables that correlate by 0.8
    for _ in range(SETS):
        first, noise = rng.normal(size=(2, 150))
        found = bootstrap.interval(*resampled(Ranked(first, 0.8 * first + 0.6 * noise, np.arange(150), 150)))
        covered += found.low <= truth <= found.high
    assert between(0.95)[0] <= covered <= between(0.95)[1]


def test_a_student_exactly_at_the_margin_is_wrongly_shipped_or_wrongly_refused_in_one_of_forty_test_sets() -> None:
    rng = np.random.default_rng(2)
    margin = micro_f1(0.9, 0.1) - micro_f1(0.85, 0.12)
    decisions = []
    for _ in range(SETS):
        hard = rng.random(200) < 1 / 3
        teacher, student = label_counts(rng, 200, 0.9, 0.1, hard), label_counts(rng, 200, 0.85, 0.12, hard)
        model, tutor = resampled(student, teacher)
        decisions.append(verdict.paired(model, tutor, 200, margin, WORDING).decision)
    for decision in ("ship", "do not ship"):
        assert between(0.025)[0] <= decisions.count(decision) <= between(0.025)[1]


def test_rows_that_come_in_groups_are_not_taken_for_independent_ones() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    groups = np.repeat(np.arange(60), 8)
    for _ in range(SETS):
        right = rng.random(480) < np.repeat(rng.beta(2, 2, size=60), 8)  # some contexts are harder than others
        parts = Counted(np.stack([right, np.ones(480)], axis=1), SHARE)
        found = bootstrap.interval(*resampled(parts, groups=groups))
        covered += found.low <= 0.5 <= found.high
    assert between(0.95)[0] <= covered <= between(0.95)[1]


def test_pairs_within_groups_of_texts_give_the_correlation_of_similarities_an_interval_that_covers_it() -> None:
    def similarities(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of all pairs in each group of 4 [g, 4, d], to the teacher and to a student with noise of its own."""
        both = [texts[..., :6], texts[..., :6] + 0.7 * texts[..., 6:]]
        first, second = np.triu_indices(4, 1)
        unit = [some / np.linalg.norm(some, axis=-1, keepdims=True) for some in both]
        return tuple((some[:, first] * some[:, second]).sum(axis=-1).ravel() for some in unit)

    rng = np.random.default_rng(9)
    truth = stats.spearmanr(*similarities(rng.normal(size=(50_000, 4, 12)))).statistic
    covered = 0
    for _ in range(SETS):
        parts = Ranked(*similarities(rng.normal(size=(50, 4, 12))), np.repeat(np.arange(50), 6), 50)
        found = bootstrap.interval(*resampled(parts))
        covered += found.low <= truth <= found.high
    assert between(0.95)[0] <= covered <= between(0.95)[1]


# --- references -------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(4).exponential(size=300)
    parts = Counted(np.stack([values, np.ones(300)], axis=1), MEAN)
    mine = bootstrap.interval(bootstrap.resample([parts], np.arange(300), resamples=10_000)[0])
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="BCa", rng=5).confidence_interval
    assert mine.low == pytest.approx(theirs.low, abs=0.01)
    assert mine.high == pytest.approx(theirs.high, abs=0.01)


def test_copies_of_rows_in_groups_tell_no_more_than_the_rows_themselves() -> None:
    rng = np.random.default_rng(6)
    right = rng.random(50) < 0.6
    once = Counted(np.stack([right, np.ones(50)], axis=1), SHARE)
    often = Counted(np.repeat(once.sums, 5, axis=0), SHARE)
    single = bootstrap.interval(*resampled(once))
    grouped = bootstrap.interval(*resampled(often, groups=np.repeat(np.arange(50), 5)))
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))
    alone = bootstrap.interval(*resampled(often))
    assert alone.high - alone.low < 0.6 * (single.high - single.low)


# --- properties and edges ---------------------------------------------------------------------


def shares(right: np.ndarray) -> Counted:
    return Counted(np.stack([right, np.ones(len(right))], axis=1).astype(float), SHARE)


def test_a_perfect_share_is_not_claimed_to_be_perfect_with_certainty() -> None:
    found = bootstrap.interval(*resampled(shares(np.ones(20))))
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.839, abs=0.001)
    assert found.method == "BCa bootstrap over rows, 400 resamples, not inside Wilson's score"


def test_a_model_that_changes_nothing_may_still_change_what_was_not_seen() -> None:
    teacher = shares(np.arange(100) % 5 > 0)
    found = bootstrap.difference(*resampled(teacher, teacher))
    assert found.estimate == 0.0
    assert (-found.low, found.high) == pytest.approx((0.037, 0.037), abs=0.001)
    assert found.method.endswith("with Wilson's score for unseen changes")


def test_ten_changed_rows_are_enough_for_the_bootstrap_alone() -> None:
    teacher, student = np.ones(400), np.ones(400)
    student[:10] = 0
    found = bootstrap.difference(*resampled(shares(student), shares(teacher)))
    assert found.method == "BCa bootstrap over rows, 400 resamples"
    assert found.low < -0.025 < found.high < 0


def test_a_handful_of_groups_decides_nothing() -> None:
    rng = np.random.default_rng(7)
    teacher = shares(rng.random(500) < 0.9)
    student = shares(rng.random(500) < 0.9)
    model, tutor = resampled(student, teacher, groups=np.arange(500) // 100)
    assert verdict.paired(model, tutor, 500, 0.1, WORDING).decision == "cannot tell"


def test_one_row_is_never_enough() -> None:
    found = verdict.paired(*resampled(shares(np.ones(1)), shares(np.ones(1))), 1, 0.01, WORDING)
    assert found.decision == "cannot tell"
    assert found.needed_rows is not None
    assert found.sentence.startswith("Cannot tell with 1 test row: its micro F1 differs from the teacher's by 0.0")


def test_the_difference_is_between_models_and_not_between_draws() -> None:
    rng = np.random.default_rng(8)
    right = rng.random(300)
    teacher = Counted(np.stack([right, np.ones(300)], axis=1), MEAN)
    student = Counted(np.stack([right - 0.1, np.ones(300)], axis=1), MEAN)
    found = bootstrap.difference(*resampled(student, teacher))
    assert (found.low, found.high) == pytest.approx((-0.1, -0.1))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    parts = shares(np.arange(80) % 3 > 0)
    first, again, other = (bootstrap.interval(*resampled(parts, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_words_name_what_was_judged() -> None:
    wording = verdict.Wording("its answer F1 differs from the teacher's by", "test question", "context")
    found = verdict.paired(*resampled(shares(np.zeros(200)), shares(np.ones(200))), 200, 0.01, wording)
    assert found.sentence == (
        "Do not ship: on 200 test questions its answer F1 differs from the teacher's by −100.0 points (95% interval "
        "−100.0 to −100.0), which is beyond the 1.0 points that you allow."
    )


# --- the number of rows that is asked for -----------------------------------------------------


@pytest.mark.parametrize("estimate", [0.0, -0.004, -0.02], ids=["no change", "worse, but allowed", "too much worse"])
def test_the_advised_number_of_rows_decides_in_four_of_five_test_sets(estimate: float) -> None:
    half, rows = 0.03, 500
    needed = verdict.scaled_rows(Interval(estimate, estimate - half, estimate + half, ""), rows, margin=0.01)
    error = half / 1.96 * np.sqrt(rows / needed)
    assert stats.norm.cdf(abs(estimate + 0.01) / error - 1.96) == pytest.approx(0.8, abs=0.01)


def test_without_any_change_the_advised_number_of_rows_is_just_enough() -> None:
    def found(rows: int) -> verdict.Verdict:
        return verdict.paired(*resampled(shares(np.ones(rows)), shares(np.ones(rows))), rows, 0.01, WORDING)

    needed = found(100).needed_rows
    assert found(needed + 1).decision == "ship"
    assert found(needed - 1).decision == "cannot tell"


def test_on_the_margin_no_number_of_rows_helps() -> None:
    assert verdict.scaled_rows(Interval(-0.0101, -0.03, 0.01, ""), 500, margin=0.01) is None
