"""fusion: what is fused, what may not be, and what a fused graph does with padding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from compressor.architectures import ARCHITECTURES
from compressor.events import Event, Warned
from compressor.graph import files as onnx_files
from compressor.graph import parity
from compressor.graph.passes.norms import fuse_norms
from compressor.graph.passes.padding import is_padding_mask
from compressor.graph.quantize import quantize_onnx
from compressor.tasks import TASKS
from tests.exported import MAX_LENGTH, PACKED, PARALLEL, classifier, folder, run, sample, strengthen, texts

MODEL_TYPES = tuple(ARCHITECTURES)


def nodes(model_type: str) -> list[onnx.NodeProto]:
    return read(sample(model_type).exported.path)


def read(path: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(path).graph.node)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_nothing_is_left_of_attention_masks_and_erf_in_the_graph(model_type: str) -> None:
    left = Counter(node.op_type for node in nodes(model_type))
    assert left.keys().isdisjoint({"Softmax", "Erf", "GatherND", "IsNaN", "Identity"})
    packed = 0 if model_type in PARALLEL else 2 if model_type == "albert" else 1
    # The last layer answers for one token, and takes its query apart; ALBERT's is its first one, run again.
    assert (left["Attention"], left["MultiHeadAttention"]) == (packed, 2 - packed)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_onnxruntime_leaves_the_sum_before_a_layer_norm_alone(model_type: str, tmp_path: Path) -> None:
    """Its own fusion of the two is slow on a CPU; an ``Add`` it would take."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "as_run.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine alone
    exported = sample(model_type).exported
    onnxruntime.InferenceSession(exported.path, options, providers=["CPUExecutionProvider"])
    as_run = Counter(node.op_type for node in read(tmp_path / "as_run.onnx"))
    assert as_run["LayerNormalization"] >= {count.kind: count.found for count in exported.fusions}["layer norm"]
    assert not any(op_type.startswith("SkipLayerNorm") for op_type in as_run)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_sums_and_norms_are_one_operator_again_where_a_gpu_runs_them(model_type: str) -> None:
    item = sample(model_type)
    model = onnx_files.load(item.exported.path)
    fuse_norms(model)
    path = folder() / f"{model_type}-for-a-gpu.onnx"
    onnx_files.save(model, path)
    before, after = (Counter(node.op_type for node in read(file)) for file in (item.exported.path, path))
    fused = after["SkipLayerNormalization"]
    assert fused + after["LayerNormalization"] == before["LayerNormalization"]
    assert fused == {count.kind: count.found for count in item.exported.fusions}["layer norm"]
    expected, actual = (parity.onnx_logits(file, item.batches) for file in (item.exported.path, path))
    for one, other in zip(expected, actual, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_attention_reads_the_padding_mask_itself(model_type: str) -> None:
    masks = {node.input[3] for node in nodes(model_type) if node.op_type == "Attention"}
    masks |= {node.input[4] for node in nodes(model_type) if node.op_type == "MultiHeadAttention"}
    assert masks == {"key_mask"}


def test_a_local_layer_of_modernbert_has_its_window_as_bias_and_a_global_one_has_none() -> None:
    biases = [
        node.input[5] if len(node.input) > 5 else ""
        for node in nodes("modernbert")
        if node.op_type == "MultiHeadAttention"
    ]
    assert [bool(bias) for bias in biases] == [False, True]
    assert sum(node.op_type == "RotaryEmbedding" for node in nodes("modernbert")) == 2 * 2


def test_a_token_of_modernbert_does_not_see_beyond_its_windows() -> None:
    """Two local layers, each of four tokens to either side: a change is felt eight tokens away, not nine."""
    model = classifier("modernbert", "token-classification", layer_types=["sliding_attention"] * 2)
    path = folder() / "windows.onnx"
    names, rows = ("input_ids", "attention_mask"), texts("modernbert")
    batches = parity.parity_batches(rows, names, 0, MAX_LENGTH)
    run("modernbert", model, batches, path, kind="token-classification")
    ids = np.full((2, 30), 7, np.int64)
    ids[1, 10] = 8
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    first, second = parity.onnx_logits(path, [batch], TASKS["token-classification"])[0].reshape(2, 30, -1)
    changed = np.flatnonzero(np.abs(first - second).max(axis=-1))
    assert changed.tolist() == list(range(2, 19))


def test_the_bias_of_deberta_is_one_score_for_each_pair_of_tokens_and_head() -> None:
    biases = [node.input[5] for node in nodes("deberta-v2") if node.op_type == "MultiHeadAttention"]
    assert len(set(biases)) == 2
    left = Counter(node.op_type for node in nodes("deberta-v2"))
    assert (left["GatherElements"], left["Tile"], left["Log"]) == (2 * 2, 0, 0)


def test_the_relative_positions_of_mpnet_enter_the_attention_as_its_bias() -> None:
    first, last = (node for node in nodes("mpnet") if "Attention" in node.op_type)
    # The last layer's single query reads the first row of the same scores, twice.
    makers = {node.output[0]: node for node in nodes("mpnet") if node.output}
    row = makers[last.input[5]].input
    assert row[0] == row[1]
    assert makers[row[0]].op_type == "Slice"
    assert first.input[5]
    assert makers[row[0]].input[0] == first.input[5]


@pytest.mark.parametrize("model_type", sorted(set(PACKED) - {"mpnet"}))
def test_an_attention_without_relative_positions_has_no_bias(model_type: str) -> None:
    assert all(len(node.input) < 6 or not node.input[5] for node in nodes(model_type) if node.op_type == "Attention")


@pytest.mark.parametrize("model_type", PACKED)
def test_query_key_and_value_are_packed_into_one_constant_weight(model_type: str) -> None:
    item = sample(model_type)
    row = ARCHITECTURES[model_type]
    layer = item.model.get_submodule(f"{row.layers}.0")
    expected = np.concatenate([layer.get_submodule(path).weight.detach().numpy().T for path in row.linears[:3]], 1)
    weights = {tensor.name: tensor for tensor in onnx.load(item.exported.path).graph.initializer}
    attention = next(node for node in nodes(model_type) if node.op_type == "Attention")
    assert attention.name.startswith(f"{row.layers}.0.")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weights[attention.input[1]]), expected)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("mask", [[0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1]], ids=["left", "holes"])
def test_padding_anywhere_agrees_with_torch(model_type: str, mask: list[int]) -> None:
    if model_type == "deberta-v2" and not mask[0]:
        pytest.skip("its head reads the first token, and what padding sees is not the same in the fused form")
    item = sample(model_type)
    batch = one_text(model_type, mask)
    expected, actual = parity.torch_logits(item.model, [batch]), parity.onnx_logits(item.exported.path, [batch])
    np.testing.assert_allclose(actual[0], expected[0], atol=1e-4)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_text_of_padding_alone_gives_finite_logits(model_type: str) -> None:
    logits = parity.onnx_logits(sample(model_type).exported.path, [one_text(model_type, [0] * 6)])[0]
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_mask_matters_to_these_models(model_type: str) -> None:
    """Without this, agreement with padding would prove nothing."""
    masks = ([1] * 6, [1, 1, 1, 0, 0, 0])
    path = sample(model_type).exported.path
    first, second = parity.onnx_logits(path, [one_text(model_type, mask) for mask in masks])
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("model_type", ["albert", "deberta-v2"])
def test_large_weights_with_several_readers_are_stored_once_and_as_their_products_read_them(
    model_type: str, tmp_path: Path
) -> None:
    """The exporter leaves a Transpose between such a weight and its products; fusion and int8 would pass it by."""
    model = classifier(model_type, hidden_size=128)
    exported = run(model_type, model, sample(model_type).batches, tmp_path / "model.onnx")
    assert exported.warnings == ()
    tensors = onnx.load(exported.path).graph.initializer
    large = [tensor for tensor in tensors if list(tensor.dims) in ([128, 128], [128, 3 * 128])]
    assert len({onnx.numpy_helper.to_array(tensor).tobytes() for tensor in large}) == len(large)
    small = quantize_onnx(
        exported.path,
        tmp_path / "int8.onnx",
        target="any",
        expected=2 * 6,
        batches=sample(model_type).batches,
        calibration=lambda: sample(model_type).batches,
    )
    assert small.quantized == 2 * 6


@pytest.mark.slow
def test_a_tied_decoder_does_not_bring_the_vocabulary_twice(tmp_path: Path) -> None:
    model = classifier("bert", "fill-mask", hidden_size=128, vocab_size=1000)
    strengthen(model, 0.1)
    exported = run("bert", model, sample("bert", "fill-mask").batches, tmp_path / "model.onnx", kind="fill-mask")
    tables = [tensor for tensor in onnx.load(exported.path).graph.initializer if 1000 in tensor.dims]
    assert [list(tensor.dims) for tensor in tables if len(tensor.dims) == 2] == [[1000, 128]]


def test_an_activation_that_is_not_fused_is_a_warning(tmp_path: Path) -> None:
    heard: list[Event] = []
    model = classifier("distilbert", activation="quick_gelu")
    exported = run("distilbert", model, sample("distilbert").batches, tmp_path / "model.onnx", listen=heard.append)
    text = "Fusion found 0 gelu blocks where 2 were expected: the model is right, but slower than it could be."
    assert exported.warnings == (text,)
    assert [event for event in heard if isinstance(event, Warned)] == [Warned(text)]
    assert {count.kind: count.found for count in exported.fusions} == {"attention": 2, "layer norm": 5, "gelu": 0}


# --- padding masks ----------------------------------------------------------------------------

HEADER = """<ir_version: 10, opset_import: ["" : 18]>
g (int64[batch_size, sequence_length] input_ids, int64[batch_size, sequence_length] attention_mask)
=> (float[batch_size, 1, q, k] bias)
<float hide = {-1e5}, float zero = {0}, int64[2] axes = {1, 2}, int64 one = {1}, int64[1] last = {-1}>
"""
PADDING = """{
    keys = Unsqueeze(attention_mask, axes)
    seen = Cast<to = 9>(keys)
    bias = Where(seen, zero, hide)
}"""
# Keys before the query are hidden as well: a decoder.
CAUSAL = """{
    shape = Shape(attention_mask)
    length = Gather<axis = 0>(shape, one)
    lengths = Unsqueeze(length, last)
    square = Concat<axis = 0>(lengths, lengths)
    ones = Expand(one, square)
    lower = Trilu<upper = 0>(ones)
    keys = Unsqueeze(attention_mask, axes)
    both = Mul(keys, lower)
    seen = Cast<to = 9>(both)
    bias = Where(seen, zero, hide)
}"""
# The tokens decide what may be seen, whatever the mask says.
BY_TOKEN = """{
    keys = Unsqueeze(input_ids, axes)
    seen = Cast<to = 9>(keys)
    bias = Where(seen, zero, hide)
}"""
# Padding is made a little less likely, not hidden.
SOFT = PADDING.replace("Where(seen, zero, hide)", "Where(seen, zero, one_half)").replace(
    "{\n", "{\n    one_half = Constant<value_float = -0.5>()\n", 1
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(PADDING, True), (CAUSAL, False), (BY_TOKEN, False), (SOFT, False)],
    ids=["padding", "causal", "by token", "soft"],
)
def test_only_a_mask_that_hides_padding_and_nothing_else_is_taken_for_one(body: str, expected: bool) -> None:
    model = ir.from_onnx_text(HEADER + body)
    assert is_padding_mask(model, model.graph.outputs[0]) is expected


def one_text(model_type: str, mask: list[int]) -> parity.Batch:
    # Padding holds the padding token: RoBERTa and MPNet count positions by it.
    ids = [token if seen else 0 for token, seen in zip([2, 7, 30, 16, 25, 3], mask, strict=True)]
    arrays = {"input_ids": [ids], "attention_mask": [mask], "token_type_ids": [[0] * 6]}
    names = sample(model_type).exported.input_names
    return {name: np.array(arrays[name], np.int64) for name in names}
