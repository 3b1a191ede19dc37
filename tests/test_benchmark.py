"""Measuring in fresh processes: the conditions hold, and every failure is told and leaves no process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressor import benchmark as benchmark_package
from compressor.artifacts import TEACHER
from compressor.benchmark import Budget, MeasuredModel, TokenRows, conditions, measure, neighbours, rounds
from compressor.benchmark.inputs import cells, write_cells
from compressor.benchmark.process import environment, run_process
from compressor.errors import BenchmarkError, ProviderError
from compressor.events import Progress, Warned, ignore
from compressor.recipe import BenchmarkRecipe
from tests import tiny

# Nothing is run again here: whether others compute meanwhile is not the tests' to say.
BUDGET = Budget(warmup_seconds=0.0, timed_seconds=0.0, min_calls=3, max_texts=5, min_texts=2, repeated_share=0.0)
RECIPE = BenchmarkRecipe(threads=1, rounds=2, batch_sizes=(1, 4), sequence_lengths=(8, 16), clients=(1, 3))
INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def onnx_model(path: Path, inputs=("attention_mask", "input_ids")) -> Path:
    """A classifier of one matrix product; it does not take token_type_ids."""
    nodes = (
        [helper.make_node("Add", list(inputs), ["sum"])]
        if len(inputs) == 2
        else [helper.make_node("Identity", list(inputs), ["sum"])]
    )
    nodes += [
        helper.make_node("Cast", ["sum"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1]),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"]) for name in inputs],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", 2])],
        [numpy_helper.from_array(np.ones((1, 2), np.float32), "weight")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def tokens() -> TokenRows:
    rows = [
        {"input_ids": [2, *[7] * length, 3], "token_type_ids": [0] * (length + 2), "attention_mask": [1] * (length + 2)}
        for length in (3, 5, 4, 6, 8)
    ]
    return TokenRows(rows, INPUTS, max_length=64)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One benchmark of two models, with every job and answer that passed between the processes."""
    path = onnx_model(tmp_path_factory.mktemp("bench") / "model.onnx")
    talk, events = [], []

    def listening(module, job, threads, label, timeout):
        answer = run_process(module, job, threads, label, timeout)
        talk.append((module, label, job, answer))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "run_process", listening)
        models = [MeasuredModel("one", "onnx", path), MeasuredModel("two", "onnx", path)]
        benchmark = measure(models, RECIPE, tokens(), budget=BUDGET, listen=events.append)
    workers = [turn for turn in talk if turn[0] == "compressor.benchmark.worker"]
    return benchmark, workers, events


def test_every_model_has_a_fresh_process_in_every_round(measured):
    _, workers, _ = measured
    pids = [answer["pid"] for *_, answer in workers]
    assert len(set(pids)) == len(workers) == 6
    assert os.getpid() not in pids


def test_models_alternate_within_a_round_and_the_next_round_runs_backwards(measured):
    _, workers, _ = measured
    order = ["two (copy) on cpu", "one on cpu", "two on cpu"]
    assert [label for _, label, *_ in workers] == [*order, *reversed(order)]


def test_every_process_has_the_same_threads_and_says_so_itself(measured):
    benchmark, workers, _ = measured
    assert {answer["threads"] for *_, answer in workers} == {1}
    assert {row.threads for row in benchmark.latency} == {1}


def test_every_process_was_fed_the_same(measured):
    _, workers, _ = measured
    digests = {tuple(cell["digest"] for cell in answer["cells"]) for *_, answer in workers}
    assert len(digests) == 1


def test_an_onnx_model_is_measured_without_torch(measured):
    _, workers, _ = measured
    assert {tuple(answer["modules"]) for *_, answer in workers} == {("onnxruntime",)}


def test_no_engine_is_loaded_before_a_measuring_process_starts_its_clock():
    code = "import sys, compressor.benchmark.worker; print({'onnxruntime', 'torch', 'scipy'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_every_name_that_the_package_offers_is_there():
    assert all(getattr(benchmark_package, name) is not None for name in benchmark_package.__all__)
    assert not hasattr(benchmark_package, "guess")


def test_every_cell_keeps_every_sample(measured):
    benchmark, *_ = measured
    assert [(row.model, row.batch_size, row.sequence_length) for row in benchmark.latency] == [
        (name, *cell) for name in ("one", "two") for cell in [(1, None), (4, None), (1, 8), (1, 16), (4, 8), (4, 16)]
    ]
    for row in benchmark.latency:
        assert row.processes == len(row.calls) == 2
        assert sum(row.calls) == len(row.samples)
        assert min(row.samples) > 0
    assert benchmark.latency[0].calls == (5, 5)  # one pass over the five texts


def test_the_samples_are_the_processes_own_in_their_order(measured):
    benchmark, workers, _ = measured
    told = [answer["cells"][2]["samples"] for _, label, _, answer in workers if label == "one on cpu"]
    assert benchmark.latency[2].samples == (*told[0], *told[1])


def test_the_copy_gives_the_noise_floor_and_no_row(measured):
    benchmark, *_ = measured
    assert benchmark.noise_floor >= 0
    assert {cost.model for cost in benchmark.costs} == {"one", "two"}
    assert {row.model for row in benchmark.load} == {"one", "two"}


def test_every_model_is_loaded_with_every_number_of_callers_in_every_process(measured):
    benchmark, workers, _ = measured
    assert [(row.model, row.clients, len(row.rates), row.calls) for row in benchmark.load] == [
        (name, clients, 2, (5, 5))
        for name in ("one", "two")
        for clients in (1, 3)  # one pass over the five texts
    ]
    told = [answer["load"][1]["rate"] for _, label, _, answer in workers if label == "two on cpu"]
    assert benchmark.load[3].rates == tuple(told)
    assert benchmark.load[0].tokens == 5.2 + 2


def test_the_copy_of_the_noise_pair_is_not_loaded(measured):
    _, workers, _ = measured
    assert {tuple(job["clients"]) for _, label, job, _ in workers if "copy" in label} == {()}


def test_costs_tell_where_the_nodes_run(measured):
    benchmark, *_ = measured
    # Add, Cast, ReduceMean and MatMul; onnxruntime may fold or fuse, but leaves a product somewhere.
    for cost in benchmark.costs:
        assert list(cost.nodes) == ["CPUExecutionProvider"]
        assert 1 <= cost.nodes["CPUExecutionProvider"] <= 4


def test_costs_name_the_inputs_that_the_model_took(measured):
    benchmark, *_ = measured
    for cost in benchmark.costs:
        assert cost.inputs == ("attention_mask", "input_ids")
        assert min(cost.load_ms, cost.first_ms, cost.import_ms) > 0
        assert cost.peak_rss_bytes > 10 << 20


def test_bounds_are_measured_with_the_models_threads(measured):
    benchmark, *_ = measured
    assert benchmark.bounds.threads == 1
    assert benchmark.bounds.gflops > 0
    assert benchmark.bounds.bandwidth > 0


def test_progress_counts_the_processes(measured):
    *_, events = measured
    steps = [(event.step, event.total) for event in events if isinstance(event, Progress)]
    assert steps == [(step, 6) for step in range(1, 7)]


def test_a_torch_folder_is_measured_in_fp32_with_the_same_inputs_and_threads(tmp_path: Path):
    folder = tiny.teacher_folder(tmp_path / "teacher")
    write_cells(cells(tokens(), (1,), (8,), BUDGET), tmp_path / "cells.npz")
    job = {"kind": "torch", "path": str(folder), "provider": "cpu", "threads": 1, "cells": str(tmp_path / "cells.npz")}
    job |= {"budget": vars(BUDGET), "clients": [2], "precision": "fp32"}
    answer = run_process("compressor.benchmark.worker", job, 1, TEACHER, 120.0)
    assert (answer["provider"], answer["threads"], tuple(answer["inputs"])) == ("cpu", 1, INPUTS)
    assert [len(cell["samples"]) for cell in answer["cells"]] == [5, 3]
    assert [(load["clients"], len(load["samples"])) for load in answer["load"]] == [(2, 5)]
    assert answer["nodes"] == {}
    assert answer["modules"] == ["torch", "transformers"]  # and not the engine that it is compared with


# --- conditions that do not hold ---


def test_cuda_without_cuda_stops_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(rounds, "run_process", lambda *_: pytest.fail("something was measured"))
    monkeypatch.setattr(rounds, "onnxruntime_providers", lambda: ["CPUExecutionProvider"])
    recipe = BenchmarkRecipe(provider="cuda")
    with pytest.raises(ProviderError, match=r"this onnxruntime has only CPUExecutionProvider\."):
        measure([MeasuredModel("a", "onnx", Path("a"))], recipe, tokens())


def _answer(**changes):
    digests = [cell.digest for cell in cells(tokens(), (1,), (8,), BUDGET)]
    timings = [{"samples": [1.0], "warmup_calls": 2, "steady": False, "digest": digest} for digest in digests]
    answer = {"threads": 1, "provider": "cpu", "inputs": ["input_ids"], "nodes": {}, "cells": timings, "load": []}
    costs = dict.fromkeys(("load_ms", "first_ms", "import_ms", "peak_rss_bytes"), 1.0)
    return {**answer, **costs, **changes}


def _measure_with(monkeypatch, answers, provider="cpu", budget=BUDGET, listen=ignore, **changes):
    """Run a benchmark whose processes are replaced by their answers."""
    told = iter(answers)
    bounds = {"threads": 1, "gflops": 1.0, "bandwidth": 1.0}
    monkeypatch.setattr(rounds, "run_process", lambda module, *_: bounds if module.endswith("machine") else next(told))
    monkeypatch.setattr(rounds, "onnxruntime_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    recipe = BenchmarkRecipe(
        threads=1, rounds=1, batch_sizes=(1,), sequence_lengths=(8,), noise_pair=False, provider=provider
    ).model_copy(update=changes)
    return measure([MeasuredModel("a", "torch", Path("a"))], recipe, tokens(), budget=budget, listen=listen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 2}, "a ran with 2 threads, the others with 1."),
        ({"provider": "cuda"}, "a ran on cuda instead of cpu."),
        ({"cells": [{"digest": "other"}]}, "a was fed other inputs than the others."),
    ],
)
def test_a_process_under_other_conditions_is_an_error(monkeypatch, changes: dict, message: str):
    with pytest.raises(BenchmarkError, match=message):
        _measure_with(monkeypatch, [_answer(**changes)])


def test_a_model_that_cannot_run_there_is_noted_and_left_out(monkeypatch):
    answers = [_answer(), *[{"skipped": "this torch has no CUDA"}] * 2]
    benchmark = _measure_with(monkeypatch, answers, provider="cuda")
    assert "a on cuda was not measured: this torch has no CUDA." in benchmark.notes
    assert "a (fp16) on cuda was not measured: this torch has no CUDA." in benchmark.notes
    assert {row.provider for row in benchmark.latency} == {"cpu"}


def test_lengths_left_out_and_unsteady_cells_are_noted(monkeypatch):
    benchmark = _measure_with(monkeypatch, [_answer()], sequence_lengths=(8, 512))
    assert benchmark.notes[0] == "Length 512 was not measured: the models take 64 tokens."
    assert (
        "a on cpu was still unsteady after the warm-up at 1 x own lengths (1 of 1), 1 x 8 (1 of 1)." in benchmark.notes
    )


def test_a_process_during_which_others_computed_is_measured_again_and_the_quieter_counts(monkeypatch):
    shares, events = iter([0.5, 0.2]), []
    monkeypatch.setattr(rounds, "others_share", lambda *_: next(shares))
    answers = [_answer(load_ms=1.0), _answer(load_ms=2.0)]
    benchmark = _measure_with(monkeypatch, answers, budget=replace(BUDGET, repeated_share=1.0), listen=events.append)
    assert [cost.load_ms for cost in benchmark.costs] == [2.0]
    assert [event.text for event in events if isinstance(event, Warned)] == [
        "Measuring processes run again because others computed meanwhile: 1.",
        "Other processes took 20% of the machine during the benchmark, and disturbed 1 of its 1 measuring processes: "
        "the figures are noisy.",
    ]


def test_a_process_on_a_quiet_machine_is_measured_once_and_nothing_is_said(monkeypatch):
    monkeypatch.setattr(rounds, "others_share", lambda *_: 0.05)
    answer = _answer(load_ms=1.0)
    answer["cells"] = [{**cell, "steady": True} for cell in answer["cells"]]
    benchmark = _measure_with(monkeypatch, [answer], budget=replace(BUDGET, repeated_share=1.0))
    assert benchmark.notes == ()


def _timed(samples):
    """A process's answer with the same time in every cell."""
    answer = _answer()
    answer["cells"] = [{**cell, "samples": [samples], "steady": True} for cell in answer["cells"]]
    return answer


def _measure_two(monkeypatch, first, second, **changes):
    """Run a benchmark of two models whose processes take these milliseconds, round by round."""
    calls = {"a on cpu": iter(first), "b on cpu": iter(second)}

    def run(module, job, threads, label, timeout):
        return {"threads": 1, "gflops": 1.0, "bandwidth": 1.0} if "machine" in module else _timed(next(calls[label]))

    monkeypatch.setattr(rounds, "run_process", run)
    monkeypatch.setattr(rounds, "others_share", lambda *_: 0.0)
    events = []
    recipe = BenchmarkRecipe(threads=1, rounds=3, batch_sizes=(1,), sequence_lengths=(8,), noise_pair=False)
    models = [MeasuredModel(name, "onnx", Path(name)) for name in "ab"]
    recipe = recipe.model_copy(update=changes)
    return measure(models, recipe, tokens(), budget=BUDGET, listen=events.append), events


QUIET, LOUD = [10.0, 10.1, 10.0, 10.1] * 5, [10.0, 12.0, 9.0, 14.0] * 5


def test_rounds_end_at_the_least_number_where_ratios_are_known(monkeypatch):
    benchmark, _ = _measure_two(monkeypatch, QUIET, QUIET[::-1])
    assert {row.processes for row in benchmark.latency} == {3}
    assert benchmark.notes == ()


def test_rounds_go_on_to_the_limit_where_ratios_stay_unknown_and_that_is_told(monkeypatch):
    benchmark, events = _measure_two(monkeypatch, LOUD, QUIET, max_rounds=7)
    assert {row.processes for row in benchmark.latency} == {7}
    (note,) = benchmark.notes
    assert note.startswith("After 7 rounds a ratio at one text of its own length is known to ±")
    assert note.endswith("% only: measure on a quieter machine, or with more --max-rounds.")
    steps = [(event.step, event.total) for event in events if isinstance(event, Progress)]
    assert steps[5:8] == [(6, 6), (7, 8), (8, 8)]
    assert steps[-1] == (14, 14)


def test_rounds_end_as_soon_as_ratios_are_known_and_their_number_is_told(monkeypatch):
    first = [10.0, 11.0, 10.5, *[10.3, 10.35] * 9]
    benchmark, _ = _measure_two(monkeypatch, first, [10.0] * 20)
    done = benchmark.latency[0].processes
    assert 3 < done < 15
    assert benchmark.notes == (
        f"{done} rounds in place of 3, until every ratio at one text of its own length was known to ±3.5%, or a large one "
        "to a tenth of its logarithm. Only the width of the intervals decided.",
    )


@pytest.mark.parametrize(("least", "most", "done"), [(4, 2, 4), (2, 15, 2), (1, 15, 1)])
def test_no_more_rounds_than_asked_for_where_the_limit_is_lower_or_a_spread_cannot_be_known(
    monkeypatch, least: int, most: int, done: int
):
    benchmark, _ = _measure_two(monkeypatch, LOUD, QUIET, rounds=least, max_rounds=most)
    assert {row.processes for row in benchmark.latency} == {done}


def test_the_copy_is_compared_with_its_original_alone_and_providers_are_kept_apart():
    a, copy, b = (MeasuredModel(name, "onnx", Path("x")) for name in ("a", "a (copy)", "b"))
    quiet, loud = [_timed(time) for time in QUIET[:5]], [_timed(time) for time in LOUD[:5]]
    assert conditions.well_known({(a, "cpu"): quiet, (b, "cuda"): loud})
    assert conditions.well_known({(copy, "cpu"): loud, (b, "cpu"): quiet, (b, "cuda"): []})
    assert not conditions.well_known({(copy, "cpu"): loud, (a, "cpu"): quiet})
    assert not conditions.well_known({(b, "cpu"): loud, (a, "cpu"): quiet})


def test_the_share_of_others_is_what_is_not_our_own(monkeypatch):
    monkeypatch.setattr(neighbours.os, "cpu_count", lambda: 4)
    before, after = neighbours.Clocks(0, 0, 100), neighbours.Clocks(10, 8, 128)
    assert neighbours.others_share(before, after) == (28 - 8) / 10 / 4
    assert neighbours.others_share(before, neighbours.Clocks(10, 8, None)) == 0


def test_two_models_of_one_name_are_refused():
    with pytest.raises(BenchmarkError, match=r"Two of the measured models are named a\."):
        measure([MeasuredModel("a", "onnx", Path(name)) for name in "xy"], RECIPE, tokens())


# --- failing processes ---


def _run_onnx(path: Path, folder: Path) -> None:
    write_cells(cells(tokens(), (1,), (8,), BUDGET), folder / "cells.npz")
    job = {"kind": "onnx", "path": str(path), "provider": "cpu", "threads": 1, "cells": str(folder / "cells.npz")}
    run_process("compressor.benchmark.worker", {**job, "budget": vars(BUDGET)}, 1, "student_int8 on cpu", 60.0)


def test_a_file_that_is_no_model_is_a_benchmark_error(tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(BenchmarkError, match=r"Measuring student_int8 on cpu failed: .*broken.onnx cannot be loaded"):
        _run_onnx(tmp_path / "broken.onnx", tmp_path)


def test_a_model_with_an_input_that_nobody_feeds_is_a_benchmark_error(tmp_path: Path):
    path = onnx_model(tmp_path / "odd.onnx", inputs=("position_ids",))
    with pytest.raises(
        BenchmarkError, match=r"odd.onnx takes the input position_ids, which the tokenizer does not make"
    ):
        _run_onnx(path, tmp_path)


@pytest.fixture
def program(tmp_path: Path, monkeypatch):
    """Make a module out of a text, to stand for a measuring process."""

    def make(text: str) -> str:
        (tmp_path / "stand_in.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "stand_in"

    return make


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL, as when memory runs out."),
        ("raise ValueError('no luck')", "ended with exit code 1.\n  Traceback (most recent call last):"),
        ("print('hello')", "answered 'hello\\n'."),
        ("import time; time.sleep(60)", "Measuring m took longer than 1 s and was stopped."),
    ],
    ids=["killed", "raises", "babbles", "hangs"],
)
def test_a_process_that_fails_says_how(program, text: str, message: str):
    with pytest.raises(BenchmarkError) as raised:
        run_process(program(text), {}, 1, "m", 1.0 if "sleep" in text else 60.0)
    assert message in str(raised.value)


def test_the_last_words_of_a_crash_are_told(program):
    with pytest.raises(BenchmarkError, match="ValueError: no luck"):
        run_process(program("raise ValueError('no luck')"), {}, 1, "m", 60.0)


def test_a_provider_that_fails_in_the_process_stays_a_provider_error(program):
    told = '{"error": {"type": "ProviderError", "message": "runs elsewhere", "remedy": "look"}}'
    with pytest.raises(ProviderError, match="Measuring m failed: runs elsewhere\nlook"):
        run_process(program(f"print('''{told}''')"), {}, 1, "m", 60.0)


def test_an_interrupt_leaves_no_process_behind(program, monkeypatch):
    started = []

    class Interrupted(subprocess.Popen):
        def communicate(self, *arguments, **options):
            if self not in started:
                started.append(self)
                raise KeyboardInterrupt
            return super().communicate(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_process(program("import time; time.sleep(60)"), {}, 1, "m", 60.0)
    assert started[0].returncode == -9


def test_all_thread_pools_of_a_process_have_one_size():
    found = environment(3, {"OMP_NUM_THREADS": "64", "PATH": "/bin"})
    assert {found[name] for name in found if name.endswith("_NUM_THREADS")} == {"3"}
    assert found["PATH"] == "/bin"


def test_a_file_named_like_a_library_in_the_users_folder_is_not_imported(program, tmp_path: Path, monkeypatch):
    program("import json; print('{}')")
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(folder)
    assert run_process("stand_in", {}, 1, "m", 60.0) == {}
