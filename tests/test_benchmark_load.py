"""Several callers of one model: every text equally often, all answers counted, failures told."""

import os
import threading
from collections import Counter

import numpy as np
import pytest

from compressor.artifacts import Benchmark, LoadRow
from compressor.benchmark import rate_ratio
from compressor.benchmark.load import chosen, keep_to_cores, thinned, under_load
from compressor.benchmark.summary import rate, rate_interval
from compressor.report import speed


class Server:
    """Answers texts, each of which takes a millisecond of its clock; no time passes between."""

    def __init__(self) -> None:
        self.lock, self.now, self.calls, self.threads = threading.Lock(), 0, Counter(), set()

    def __call__(self, text: str) -> None:
        with self.lock:
            self.now += 1_000_000
            self.calls[text] += 1
            self.threads.add(threading.get_ident())

    def clock(self) -> int:
        return self.now


def loaded(server: Server, texts: list[str], clients: int, seconds: float = 0.0, join=lambda clients: None):
    return under_load(server, texts, clients, seconds, join, server.clock)


def test_one_caller_gets_a_thousand_answers_a_second_of_a_millisecond_each():
    found = loaded(Server(), ["a", "b", "c"], 1)
    assert found.rate == pytest.approx(1000)
    assert set(found.samples) == {1.0}


@pytest.mark.parametrize("clients", [1, 3])
def test_every_text_is_sent_equally_often(clients):
    server = Server()
    found = loaded(server, list("abcdefg"), clients, seconds=0.02)
    warmed = Counter("abcdefg"[:clients])  # each caller's first call is not counted
    assert len(set((server.calls - warmed).values())) == 1
    assert len(found.samples) == sum((server.calls - warmed).values())
    assert len(found.samples) >= 7 * 3  # a new pass begins until 20 ms are over


def test_callers_are_threads_at_the_same_time():
    gate = threading.Barrier(3)  # no call returns before three are waiting
    found = under_load(lambda text: gate.wait(5), list("abc"), 3, 0.0, lambda clients: None)
    assert len(found.samples) == 3


def test_every_caller_says_that_it_joins_and_how_many_there_are():
    told = []
    loaded(Server(), ["a"], 3, join=lambda clients: told.append((threading.get_ident(), clients)))
    assert [clients for _, clients in told] == [3, 3, 3]
    assert threading.get_ident() not in {thread for thread, _ in told}


def test_the_rate_of_a_caller_ends_with_its_own_last_answer():
    server = Server()
    found = loaded(server, list("ab"), 2)
    # Both calls may be one caller's, or one each: two answers in two or three milliseconds of both.
    assert 2 / 0.002 * 0.5 <= found.rate <= 2 / 0.001


def test_a_call_that_fails_is_told_by_its_own_error_and_no_caller_waits_for_ever():
    def fail(text: str) -> None:
        raise ValueError(f"cannot answer {text}")

    with pytest.raises(ValueError, match="cannot answer"):
        under_load(fail, ["a"], 3, 0.0, lambda clients: None)


def test_the_chosen_texts_have_the_lengths_of_all_and_their_order():
    lengths = np.random.default_rng(0).integers(4, 60, 200).tolist()
    found = chosen(list(enumerate(lengths)), 20, lambda text: text[1])
    assert [index for index, _ in found] == sorted({index for index, _ in found})
    assert len(found) == 20
    for quantile in (0.1, 0.5, 0.9):
        assert np.quantile([length for _, length in found], quantile) == pytest.approx(
            np.quantile(lengths, quantile), abs=3
        )
    assert chosen([1, 2], 20, lambda length: length) == (1, 2)


def test_thinned_samples_keep_their_percentiles():
    samples = np.random.default_rng(0).lognormal(size=5000)
    kept = thinned(samples.tolist(), 200)
    assert len(kept) == 200
    assert np.percentile(kept, [5, 50, 95]) == pytest.approx(np.percentile(samples, [5, 50, 95]), rel=0.03)
    assert thinned([3.0, 1.0], 200) == (3.0, 1.0)


def test_all_threads_are_bound_to_as_many_cores_as_the_model_has_threads(monkeypatch, tmp_path):
    bound = {}
    for task in (11, 12, 13):
        (tmp_path / str(task)).mkdir()

    def bind(task, cores):
        if task == 12:
            raise ProcessLookupError
        bound[task] = cores

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 2, 9, 7})
    monkeypatch.setattr(os, "sched_setaffinity", bind)
    keep_to_cores(2, tmp_path)
    assert bound == {11: [7, 9], 13: [7, 9]}  # the first serves the interrupts


def test_a_system_without_affinity_is_left_as_it_is(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_setaffinity")
    keep_to_cores(1, tmp_path / "not there")


# --- rows ---------------------------------------------------------------------------------------


def row(model: str, *rates: float, clients: int = 4) -> LoadRow:
    return LoadRow(model, "cpu", 2, clients, rates, (10.0, 12.0, 11.0) * len(rates), (3,) * len(rates), 20.5)


def benchmark(*rows: LoadRow) -> Benchmark:
    return Benchmark((), (), noise_floor=0.03, load=rows)


def test_throughput_is_the_median_of_the_processes_with_an_interval_over_them():
    found = row("a", 90.0, 100.0, 104.0)
    assert rate(found) == 100.0
    low, high = rate_interval(found)
    assert low < 98 < high
    assert rate_interval(row("a", 90.0)) is None


def test_a_ratio_of_throughputs_pairs_the_rounds():
    # The machine doubled its speed for the second round, and for both.
    found = rate_ratio(row("a", 100.0, 200.0, 101.0), row("b", 150.0, 301.0, 150.0))
    assert found.value == pytest.approx(1.5, rel=0.02)
    assert found.high / found.low < 1.05


def test_rows_tell_throughput_latency_and_the_ratio_to_the_baseline_with_as_many_callers():
    rows = [row("a", 100.0, 101.0, 99.0), row("b", 50.0, 50.5, 49.8), row("a", 60.0, 60.0, 60.0, clients=1)]
    first, second, third = speed.load_rows(benchmark(*rows), "a")
    assert (first["texts_per_second"], first["p50_ms"], first["ratio"], first["verdict"]) == (100.0, 11.0, None, None)
    assert (second["ratio"], second["verdict"], second["clients"]) == (0.5, "slower", 4)
    assert (third["clients"], third["tokens"]) == (1, 20.5)


def test_a_model_without_a_baseline_there_has_no_ratio():
    (found,) = speed.load_rows(benchmark(row("b", 50.0, 51.0)), "a")
    assert (found["ratio"], found["ratio_ci95"], found["verdict"]) == (None, None, None)


def test_one_process_has_a_ratio_and_no_verdict_that_claims_anything():
    found = speed.load_rows(benchmark(row("a", 100.0), row("b", 300.0)), "a")[1]
    assert (found["ratio"], found["ratio_ci95"], found["verdict"]) == (3.0, None, "no difference")


def test_nothing_was_loaded_where_nothing_was_timed():
    assert speed.load_rows(None) == []
