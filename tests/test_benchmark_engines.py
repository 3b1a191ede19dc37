"""The engines: bound calls answer as plain ones do, and what needs a GPU is refused or skipped with its reason."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save
from onnxruntime import OrtValue

from compressor.benchmark import engines
from compressor.benchmark.engines import Skipped, open_engine
from compressor.benchmark.placement import PlacedNode
from compressor.errors import ProviderError
from compressor.runtime import open_session, session
from compressor.runtime.binding import bound_call
from compressor.tasks import TASKS
from tests import deployed, tiny

FED = ("input_ids", "token_type_ids", "attention_mask")
CUDA = "CUDAExecutionProvider"


def feed(rows: int, tokens: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(rows).integers(5, 30, (rows, tokens))
    mask = np.ones_like(ids)
    mask[-1, tokens // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return open_session(deployed.save_classifier(tmp_path_factory.mktemp("engines") / "model.onnx"), threads=1)


# --- binding: on the CPU, where the interface is the same ----------------------------------------


@pytest.mark.parametrize("shape", [(1, 8), (4, 12), (3, 5)])
def test_a_bound_call_gives_the_answer_of_a_plain_one(opened, shape):
    (bound,) = bound_call(opened.inner, "cpu")(["logits"], feed(*shape))
    assert (bound.dtype, bound.shape) == (np.float32, (shape[0], 3))
    np.testing.assert_array_equal(bound, opened.run(feed(*shape)))


def test_bound_calls_of_several_threads_do_not_mix_their_answers(opened):
    call = partial(bound_call(opened.inner, "cpu"), ["logits"])
    feeds = [feed(rows, 6) for rows in range(1, 9)] * 4
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(call, feeds))
    for (answer,), fed in zip(answers, feeds, strict=True):
        np.testing.assert_array_equal(answer, opened.run(fed))


def test_a_bound_call_copies_ids_to_the_device_and_waits_for_it_on_both_sides():
    done = []
    binding = SimpleNamespace(
        bind_ortvalue_input=lambda name, value: done.append(("in", name, value.device_name())),
        bind_output=lambda name, device, index: done.append(("out", name, device, index)),
        synchronize_inputs=lambda: done.append("inputs there"),
        synchronize_outputs=lambda: done.append("outputs there"),
        copy_outputs_to_cpu=lambda: done.append("copied") or [np.ones((1, 2), np.float16)],
    )
    inner = SimpleNamespace(io_binding=lambda: binding, run_with_iobinding=lambda bound, options: done.append("run"))
    (answer,) = bound_call(inner, "cpu")(["logits"], {"input_ids": np.ones((1, 4), np.int64)})
    assert done == [
        ("in", "input_ids", "cpu"), ("out", "logits", "cpu", 0), "inputs there", "run", "outputs there", "copied",
    ]  # fmt: skip
    assert answer.dtype == np.float32  # fp16 models answer in fp16


# --- CUDA, without a GPU ------------------------------------------------------------------------


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """A session that says it runs on CUDA, with the nodes that a test places."""

    def open_with(nodes):
        def open_on_cpu(path, *, provider, threads, record_placement):
            assert (provider, record_placement) == ("cuda", True)
            real = open_session(path, threads=threads)
            inner = SimpleNamespace(
                get_providers=lambda: [CUDA, "CPUExecutionProvider"],
                get_inputs=real.inner.get_inputs,
                get_session_options=real.inner.get_session_options,
            )
            return replace(real, provider=provider, inner=inner, _call=session._caller(real.inner, provider))

        monkeypatch.setattr(session, "open_session", open_on_cpu)
        monkeypatch.setattr(engines, "read_placement", lambda inner: nodes)
        monkeypatch.delitem(engines.sys.modules, "torch")
        return open_engine("onnx", deployed.save_classifier(tmp_path / "m.onnx"), "cuda", 1, FED)

    return open_with


def test_a_session_on_cuda_is_called_with_bound_inputs_and_tells_its_nodes(pretended, monkeypatch, opened):
    nodes = [*[PlacedNode("MatMul", CUDA)] * 3, PlacedNode("Shape", "CPUExecutionProvider")]
    engine = pretended(nodes)
    assert engine.provider == "cuda"
    assert engine.nodes == {CUDA: 3, "CPUExecutionProvider": 1}
    devices, real = [], OrtValue.ortvalue_from_numpy
    monkeypatch.setattr(OrtValue, "ortvalue_from_numpy", lambda ids, device, _: devices.append(device) or real(ids))
    (answer,) = engine.call(engine.prepare(feed(2, 4)))
    np.testing.assert_array_equal(answer, opened.run(feed(2, 4)))
    assert devices == ["cuda", "cuda"]


def test_a_session_on_cuda_whose_products_are_on_the_cpu_is_refused(pretended):
    with pytest.raises(ProviderError, match=r"m\.onnx was to run on CUDAExecutionProvider, but 1 of its 2 heavy nodes"):
        pretended([PlacedNode("Attention", CUDA), PlacedNode("MatMulInteger", "CPUExecutionProvider")])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch has CUDA")
def test_torch_without_cuda_is_skipped_with_the_reason(tmp_path):
    with pytest.raises(Skipped, match="this torch has no CUDA"):
        open_engine("torch", tmp_path, "cuda", 1, FED, "fp16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torch_on_cuda_answers_as_on_the_cpu(tmp_path, precision):
    folder = tiny.teacher_folder(tmp_path / "teacher")
    fed = {**feed(2, 8), "token_type_ids": np.zeros((2, 8), np.int64)}
    answers = []
    for provider, wanted in (("cpu", "fp32"), ("cuda", precision)):
        engine = open_engine("torch", folder, provider, 1, FED, wanted)
        answers += engine.call(engine.prepare(fed))
    np.testing.assert_allclose(*answers, atol=2e-2)


# --- torch --------------------------------------------------------------------------------------


def test_callers_of_torch_share_the_threads_of_the_model(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    engine = open_engine("torch", tiny.teacher_folder(tmp_path / "teacher"), "cpu", 4, FED)
    for clients in (1, 2, 8):
        engine.join(clients)
    assert told == [4, 4, 2, 1]  # the first is the loading


SHAPES = {
    "single-label": [(2, 2)],
    "multi-label": [(2, 3)],
    "regression": [(2, 1)],
    "token-classification": [(2, 8, 5)],
    "question-answering": [(2, 8), (2, 8)],
    "fill-mask": [(2, 8, len(tiny.tokenizer()))],
    "feature-extraction": [(2, 32)],
}


@pytest.mark.parametrize("kind", TASKS)
def test_torch_answers_with_the_outputs_of_the_task(monkeypatch, tmp_path, kind):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda count: None)
    folder = tiny.teacher_folder(tmp_path / "teacher", kind=kind, num_hidden_layers=1)
    engine = open_engine("torch", folder, "cpu", 1, FED, task=kind)
    answers = engine.call(engine.prepare({**feed(2, 8), "token_type_ids": np.zeros((2, 8), np.int64)}))
    assert [answer.shape for answer in answers] == SHAPES[kind]


# --- onnx ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("question-answering", ["start_logits", "end_logits"]),
        ("feature-extraction", ["a", "start_logits", "end_logits"]),
    ],
    ids=["those of the task", "all, where one is missing"],
)
def test_a_file_computes_the_outputs_of_its_task(monkeypatch, tmp_path, task, outputs):
    names = ["a", "start_logits", "end_logits"]
    nodes = [helper.make_node("Cast", ["input_ids"], [name], to=TensorProto.FLOAT) for name in names]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "spans", [value("input_ids", TensorProto.INT64, ["b", "s"])],
        [value(name, TensorProto.FLOAT, ["b", "s"]) for name in names],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    monkeypatch.delitem(engines.sys.modules, "torch")
    asked = []
    run_all = session.Session.run_all
    monkeypatch.setattr(
        session.Session, "run_all", lambda self, fed, wanted: asked.append(list(wanted)) or run_all(self, fed, wanted)
    )
    engine = open_engine("onnx", tmp_path / "m.onnx", "cpu", 1, FED, task=task)
    assert len(engine.call(engine.prepare(feed(2, 4)))) == len(outputs)
    assert asked == [outputs]
