"""From samples to figures, against references and in simulated benchmarks."""

import numpy as np
import pytest
from scipy import stats

from compressor.artifacts import Benchmark, LatencyRow, MachineBounds, ModelCost
from compressor.benchmark import Ratio, percentiles, speedup, throughput, verdict
from compressor.benchmark.summary import (
    median_interval,
    noise_floor,
    process_medians,
    ratio,
)


def row(*parts, model="m", batch_size=1, sequence_length=None, provider="cpu") -> LatencyRow:
    samples = tuple(float(sample) for part in parts for sample in part)
    calls = tuple(len(part) for part in parts)
    return LatencyRow(model, provider, 2, batch_size, sequence_length, samples, len(parts), calls)


def test_percentiles_are_numpys_over_all_calls():
    parts = np.random.default_rng(0).lognormal(size=(3, 40))
    assert percentiles(row(*parts)) == pytest.approx([np.percentile(parts, q) for q in (50, 90, 95, 99)])


def test_throughput_counts_texts():
    assert throughput(row([10, 30], batch_size=8)) == pytest.approx(8 / 0.020)


def test_medians_are_taken_process_by_process():
    assert process_medians(row([1, 2, 9], [4], [6, 8])).tolist() == [2, 4, 7]


def test_a_ratio_follows_from_the_medians_of_the_table():
    found = ratio(row([20, 22], [24, 26], [21, 23]), row([10, 11], [12, 13], [9, 12]))
    assert found.value == pytest.approx(22.5 / 11.5)
    assert found.low < found.value < found.high


def test_the_interval_is_students_on_the_rounds_log_ratios():
    slow, fast = np.array([20.0, 22, 26, 21]), np.array([10.0, 12, 11, 10])
    reference = stats.ttest_rel(np.log(slow), np.log(fast)).confidence_interval(0.95)
    found = ratio(row(*slow[:, None]), row(*fast[:, None]))
    assert (found.low, found.high) == pytest.approx((np.exp(reference.low), np.exp(reference.high)))


def test_one_round_has_no_interval_and_no_verdict():
    found = ratio(row([20, 21]), row([10, 11]))
    assert (found.low, found.high, verdict(found, 0.0)) == (None, None, "no difference")
    assert median_interval(row([1, 2])) is None


def _simulated(random, true_ratio: float, rounds: int, spread: float) -> Ratio:
    slow = true_ratio * random.lognormal(sigma=spread, size=(rounds, 1))
    return ratio(row(*slow), row(*random.lognormal(sigma=spread, size=(rounds, 1))))


@pytest.mark.parametrize("rounds", [3, 5])
def test_the_interval_holds_the_true_ratio_in_95_of_100_benchmarks(rounds: int):
    random = np.random.default_rng(rounds)
    found = [_simulated(random, 2.0, rounds, 0.03) for _ in range(2000)]
    assert np.mean([item.low <= 2.0 <= item.high for item in found]) == pytest.approx(0.95, abs=0.015)


def test_a_model_against_its_copy_shows_no_difference():
    random = np.random.default_rng(1)
    found = [verdict(_simulated(random, 1.0, 3, 0.03), 0.03) for _ in range(500)]
    assert found.count("no difference") >= 0.95 * len(found)


def test_a_model_slower_by_a_tenth_is_found_on_a_quiet_machine():
    random = np.random.default_rng(2)
    found = [verdict(_simulated(random, 1 / 1.1, 5, 0.015), 0.02) for _ in range(500)]
    assert found.count("slower") >= 0.95 * len(found)
    assert "faster" not in found


def test_a_difference_below_the_noise_floor_is_none():
    found = Ratio(1.05, 1.04, 1.06)
    assert verdict(found, 0.02) == verdict(found, None) == "faster"
    assert verdict(found, 0.08) == "no difference"
    assert verdict(Ratio(0.5, 0.4, 0.6), 0.08) == "slower"


def test_the_noise_floor_is_twice_the_spread_of_the_pairs():
    pairs = [(row([1.0]), row([1.0 * factor])) for factor in (1.02, 1 / 1.02)]
    assert noise_floor(pairs) == pytest.approx(1.02**2 - 1)


def test_a_machine_slower_in_half_of_the_rounds_is_no_noise_between_a_model_and_its_copy():
    # Both are slower in the same seven rounds, and the copy in one more: the medians of all calls are 15% apart.
    rounds = np.arange(15)
    original, copy = (row(*np.where(rounds < slow, 1.15, 1.0)[:, None]) for slow in (7, 8))
    assert ratio(original, copy).value == pytest.approx(1 / 1.15)
    assert noise_floor([(original, copy)]) < 0.01


def _benchmark() -> Benchmark:
    rows = (
        row([20], [22], model="a"),
        row([10], [11], model="b"),
        row([5], [6], model="b", batch_size=8, sequence_length=16),
    )
    cost = ModelCost("a", "cpu", 1.0, 2.0, 3, 4.0, ("input_ids",))
    return Benchmark(rows, (cost,), ("a note",), 0.01, MachineBounds(2, 100.0, 10.0))


def test_speedup_compares_two_models_in_one_cell():
    assert speedup(_benchmark(), "a", "b", 1, None).value == 2.0


def test_speedup_of_what_was_not_measured_says_so():
    with pytest.raises(LookupError, match="a was not measured at 8 x 16 on cpu"):
        speedup(_benchmark(), "a", "b", 8, 16)
