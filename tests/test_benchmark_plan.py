"""What is planned before anything is measured: order, budgets, providers, inputs, timing."""

import gc
from pathlib import Path

import numpy as np
import pytest

from compressor.artifacts import MachineBounds
from compressor.benchmark import Budget, MeasuredModel, TokenRows, encoder_flops, floor_ms
from compressor.benchmark.inputs import cells, read_cells, sample_rows, write_cells
from compressor.benchmark.plan import check_providers, contestants, original_name, schedule, thread_budget
from compressor.benchmark.timing import is_steady, time_cell
from compressor.errors import ProviderError, RecipeError

INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def tokens(lengths, max_length=64) -> TokenRows:
    rows = [
        {"input_ids": [2, *range(5, 3 + length), 3], "attention_mask": [1] * length, "token_type_ids": [0] * length}
        for length in lengths
    ]
    return TokenRows(rows, INPUTS, max_length, pad_token_id=1)


# --- order, threads, providers ---


def test_rounds_run_forwards_and_backwards_in_turn():
    assert schedule(3, 3) == ((0, 1, 2), (2, 1, 0), (0, 1, 2))


def test_the_copy_for_the_noise_floor_is_of_the_last_onnx_model_and_stands_first():
    models = [MeasuredModel("a", "torch", Path("a")), *(MeasuredModel(n, "onnx", Path(n)) for n in "bc")]
    field = contestants(models, ("cpu",), noise_pair=True)
    assert [(model.name, model.path.name) for model, _ in field] == [
        ("c (copy)", "c"),
        ("a", "a"),
        ("b", "b"),
        ("c", "c"),
    ]


def test_a_model_without_cuda_kernels_is_measured_on_the_cpu_alone():
    models = [MeasuredModel("a", "onnx", Path("a")), MeasuredModel("b", "onnx", Path("b"), ("cpu",))]
    field = contestants(models, ("cpu", "cuda"), noise_pair=False)
    assert [(model.name, provider) for model, provider in field] == [("a", "cpu"), ("b", "cpu"), ("a", "cuda")]


def test_torch_runs_in_half_precision_too_where_there_is_a_gpu_and_nowhere_else():
    models = [MeasuredModel("a", "torch", Path("a")), MeasuredModel("b", "onnx", Path("b"))]
    field = contestants(models, ("cpu", "cuda"), noise_pair=False)
    assert [(model.name, model.precision, provider) for model, provider in field] == [
        ("a", "fp32", "cpu"), ("b", "fp32", "cpu"),
        ("a", "fp32", "cuda"), ("a (fp16)", "fp16", "cuda"), ("b", "fp32", "cuda"),
    ]  # fmt: skip


def test_a_copy_and_a_half_precision_variant_are_fed_what_their_original_is():
    assert [original_name(name) for name in ("a", "a (copy)", "a (fp16)")] == ["a", "a", "a"]


def test_cuda_without_cuda_is_an_error_that_says_what_there_is():
    with pytest.raises(ProviderError) as raised:
        check_providers("cuda", ["AzureExecutionProvider", "CPUExecutionProvider"])
    assert str(raised.value) == (
        "Provider cuda was asked for, but this onnxruntime has only AzureExecutionProvider, CPUExecutionProvider.\n"
        "Install onnxruntime-gpu in place of onnxruntime, or measure with --provider cpu."
    )


def test_cuda_is_measured_beside_the_cpu():
    assert check_providers("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]) == ("cpu", "cuda")


def test_more_threads_than_cores_are_refused():
    assert thread_budget(None, 2) == 2
    assert thread_budget(1, 2) == 1
    with pytest.raises(RecipeError, match=r"--threads 3: this process may use 2 cores\."):
        thread_budget(3, 2)


# --- inputs ---


def test_the_sample_has_the_lengths_of_the_split():
    lengths = np.random.default_rng(0).integers(4, 60, 1500)
    sample = sample_rows(tokens(lengths), Budget())
    found = [len(row["input_ids"]) for row in sample]
    assert len(found) == int(3000 / lengths.mean())
    for quantile in (0.1, 0.5, 0.9):
        assert np.quantile(found, quantile) == pytest.approx(np.quantile(lengths, quantile), abs=1.5)


def test_long_documents_are_few_but_never_fewer_than_the_least():
    assert len(sample_rows(tokens([1000] * 50, 1000), Budget())) == 16


def test_a_grid_cell_is_full_and_framed_by_special_tokens():
    cell = next(
        cell
        for cell in cells(tokens([5, 9, 7]), (1, 4), (16,), Budget())
        if cell.batch_size == 4 and cell.sequence_length
    )
    (feed,) = cell.feeds
    assert tuple(feed) == INPUTS
    assert feed["input_ids"].shape == (4, 16)
    assert feed["attention_mask"].all()
    assert (feed["input_ids"][:, 0] == 2).all()
    assert (feed["input_ids"][:, -1] == 3).all()
    assert not (feed["input_ids"] == 1).any()


def test_the_texts_own_cells_come_at_batch_one_and_at_the_largest_batch():
    found = [cell for cell in cells(tokens([5, 9, 7, 6, 8]), (1, 2), (16,), Budget()) if cell.sequence_length is None]
    assert [(cell.batch_size, len(cell.feeds)) for cell in found] == [(1, 5), (2, 2)]


def test_a_batch_of_texts_is_padded_to_its_longest_and_masked():
    (cell,) = [
        c for c in cells(tokens([5, 9]), (2,), (16,), Budget()) if c.sequence_length is None and c.batch_size == 2
    ]
    (feed,) = cell.feeds
    short = int(np.argmin(feed["attention_mask"].sum(1)))
    assert feed["input_ids"].shape == (2, 9)
    assert feed["attention_mask"][short].tolist() == [1] * 5 + [0] * 4
    assert feed["input_ids"][short, 5:].tolist() == [1] * 4
    assert cell.tokens == 18


def test_a_batch_larger_than_the_split_repeats_its_texts():
    assert {cell.feeds[0]["input_ids"].shape[0] for cell in cells(tokens([5, 6]), (8,), (16,), Budget())} == {1, 8}


def test_lengths_beyond_the_model_have_no_cell():
    assert {cell.sequence_length for cell in cells(tokens([5]), (1,), (16, 128), Budget())} == {None, 16}


def test_cells_come_back_from_their_file_the_same(tmp_path: Path):
    found = cells(tokens([5, 9, 7, 6, 8] * 4), (1, 2), (16, 32), Budget())
    write_cells(found, tmp_path / "cells.npz")
    again = read_cells(tmp_path / "cells.npz")
    assert [(c.batch_size, c.sequence_length, c.digest) for c in again] == [
        (c.batch_size, c.sequence_length, c.digest) for c in found
    ]


def test_a_digest_tells_one_changed_token():
    first, second = (cells(tokens([5, length]), (1,), (16,), Budget())[0].digest for length in (9, 10))
    assert first != second


# --- timing, on a clock that the timed call moves ---


class Clock:
    def __init__(self, *milliseconds: float):
        self.now, self.costs, self.calls, self.collecting = 0, list(milliseconds), [], []

    def __call__(self) -> int:
        return self.now

    def work(self, feed: int) -> None:
        cost = self.costs.pop(0) if len(self.costs) > 1 else self.costs[0]
        self.calls.append(feed)
        self.collecting.append(gc.isenabled())
        self.now += int(cost * 1e6)


def timed(clock: Clock, feeds, **changes):
    return time_cell(clock.work, feeds, Budget(**changes), lambda feed: feed, clock)


def test_samples_are_the_milliseconds_of_the_calls():
    assert set(timed(Clock(10.0), [1]).samples) == {10.0}


def test_slow_calls_are_made_the_least_number_of_times():
    timing = timed(Clock(900.0), [1], min_calls=4)
    assert (len(timing.samples), timing.warmup_calls) == (4, 2)


def test_fast_calls_stop_at_the_largest_number():
    assert len(timed(Clock(0.01), [1], max_calls=200).samples) == 200


def test_every_feed_is_timed_equally_often_and_the_largest_warms_up_first():
    clock = Clock(30.0)
    timing = timed(clock, [1, 2, 3], timed_seconds=0.1)
    assert clock.calls[0] == 3
    assert clock.calls[timing.warmup_calls :] == [1, 2, 3, 1, 2, 3]


def test_warm_up_lasts_until_the_calls_are_steady():
    timing = timed(Clock(9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0), [1])
    assert timing.steady
    assert timing.warmup_calls > 15
    assert set(timing.samples) == {1.0}


def test_warm_up_that_never_settles_is_told():
    clock = Clock(*[1.0 * 1.1**index for index in range(60)])
    assert not timed(clock, [1], warmup_seconds=0.1).steady


def test_steady_means_that_two_windows_agree():
    assert is_steady([9, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    assert not is_steady([2] * 5 + [1] * 5)
    assert not is_steady([1] * 9)


def test_garbage_is_not_collected_in_timed_calls_and_is_afterwards():
    clock = Clock(10.0)
    timing = timed(clock, [1])
    assert not any(clock.collecting[timing.warmup_calls :])
    assert gc.isenabled()


# --- bounds ---


def test_flops_agree_with_torchs_own_count():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, vocab_size=50,
        attn_implementation="eager",
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.ones((2, 16), dtype=torch.int64))
    assert encoder_flops(3, 32, 64, 2, 16) == counter.get_total_flops()


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    bounds = MachineBounds(threads=2, gflops=100.0, bandwidth=10.0)
    assert floor_ms(2e9, 1e6, bounds) == 20.0
    assert floor_ms(1e6, 5e8, bounds) == 50.0
