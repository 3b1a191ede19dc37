"""Where the nodes of a model run, as onnxruntime tells it, and what is refused."""

from types import SimpleNamespace

import pytest

from compressor.benchmark.placement import PlacedNode, check_placement, nodes_by_provider, read_placement
from compressor.errors import ProviderError
from compressor.runtime import open_session
from tests import deployed

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def placed(**counts: dict[str, int]) -> list[PlacedNode]:
    names = {"cpu": CPU, "cuda": CUDA}
    return [
        PlacedNode(op, names[place])
        for place, types in counts.items()
        for op, count in types.items()
        for _ in range(count)
    ]


def test_every_node_of_a_session_is_read_with_its_operator_and_provider(tmp_path):
    session = open_session(deployed.save_classifier(tmp_path / "model.onnx"), record_placement=True)
    found = read_placement(session.inner)
    assert {node.provider for node in found} == {CPU}
    assert {"Gather", "Mul", "ReduceSum", "Div"} <= {node.op_type for node in found}


def test_nodes_are_counted_by_provider_the_busiest_first():
    assert list(nodes_by_provider(placed(cpu={"Shape": 2}, cuda={"MatMul": 3})).items()) == [(CUDA, 3), (CPU, 2)]


def test_nodes_on_shapes_may_stay_on_the_cpu():
    check_placement("model.onnx", "cuda", placed(cpu={"Shape": 3, "Gather": 2}, cuda={"MatMul": 36, "Attention": 6}))


@pytest.mark.parametrize(
    "op",
    ["MatMul", "MatMulInteger", "MatMulNBits", "Gemm", "QAttention", "SkipLayerNormalization", "BiasGelu", "Softmax"],
)
def test_any_node_that_computes_on_the_hidden_states_is_heavy(op):
    with pytest.raises(ProviderError, match=rf"1 of its 37 heavy nodes run on CPUExecutionProvider: {op} \(1\)\."):
        check_placement("model.onnx", "cuda", placed(cpu={op: 1}, cuda={"Attention": 36}))


def test_a_model_that_fell_back_to_the_cpu_is_refused_with_its_operators_the_most_frequent_first():
    with pytest.raises(ProviderError) as raised:
        check_placement("q.onnx", "cuda", placed(cpu={"MatMulInteger": 20, "Gemm": 2}, cuda={"LayerNormalization": 4}))
    assert str(raised.value) == (
        "q.onnx was to run on CUDAExecutionProvider, but 22 of its 26 heavy nodes run on CPUExecutionProvider: "
        "MatMulInteger (20), Gemm (2).\n"
        "These have no kernel there, as dynamic int8 has none on CUDA. Measure an fp32 or fp16 file, or measure "
        "with --provider cpu."
    )


def test_an_onnxruntime_that_does_not_tell_is_believed_on_the_cpu_and_refused_on_cuda():
    assert read_placement(SimpleNamespace()) is None
    check_placement("model.onnx", "cpu", None)
    with pytest.raises(ProviderError, match=r"Where the nodes of model\.onnx run is not known"):
        check_placement("model.onnx", "cuda", None)
