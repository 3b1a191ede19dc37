"""fusion: what is fused, what may not be, and what a fused graph does with padding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from compressor.architectures import ARCHITECTURES
from compressor.events import Event, Warned
from compressor.graph import parity
from compressor.graph.passes.padding import is_padding_mask
from tests.exported import classifier, run, sample

MODEL_TYPES = tuple(ARCHITECTURES)


def nodes(model_type: str) -> list[onnx.NodeProto]:
    return list(onnx.load(sample(model_type).exported.path).graph.node)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_nothing_is_left_of_attention_masks_and_erf_in_the_graph(model_type: str) -> None:
    left = Counter(node.op_type for node in nodes(model_type))
    assert left.keys().isdisjoint({"Softmax", "Erf", "LayerNormalization", "GatherND", "IsNaN", "Identity"})
    assert left["Attention"] == 2


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_attention_reads_the_padding_mask_itself(model_type: str) -> None:
    masks = {node.input[3] for node in nodes(model_type) if node.op_type == "Attention"}
    assert masks == {"key_mask"}


def test_the_relative_positions_of_mpnet_enter_the_attention_as_its_bias() -> None:
    attentions = [node for node in nodes("mpnet") if node.op_type == "Attention"]
    assert len({node.input[5] for node in attentions}) == 1
    assert attentions[0].input[5]


@pytest.mark.parametrize("model_type", sorted(set(MODEL_TYPES) - {"mpnet"}))
def test_an_attention_without_relative_positions_has_no_bias(model_type: str) -> None:
    assert all(len(node.input) < 6 or not node.input[5] for node in nodes(model_type) if node.op_type == "Attention")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_query_key_and_value_are_packed_into_one_constant_weight(model_type: str) -> None:
    item = sample(model_type)
    row = ARCHITECTURES[model_type]
    layer = item.model.get_submodule(f"{row.layers}.1")
    expected = np.concatenate([layer.get_submodule(path).weight.detach().numpy().T for path in row.linears[:3]], 1)
    weights = {tensor.name: tensor for tensor in onnx.load(item.exported.path).graph.initializer}
    attention = [node for node in nodes(model_type) if node.op_type == "Attention"][1]
    assert attention.name.startswith(f"{row.layers}.1.")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weights[attention.input[1]]), expected)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("mask", [[0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1]], ids=["left", "holes"])
def test_padding_anywhere_agrees_with_torch(model_type: str, mask: list[int]) -> None:
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


def test_an_activation_that_is_not_fused_is_a_warning(tmp_path: Path) -> None:
    heard: list[Event] = []
    model = classifier("distilbert", activation="gelu_new")
    exported = run("distilbert", model, sample("distilbert").batches, tmp_path / "model.onnx", listen=heard.append)
    text = "Fusion found 0 gelu blocks where 2 were expected: the model is right, but slower than it could be."
    assert exported.warnings == (text,)
    assert [event for event in heard if isinstance(event, Warned)] == [Warned(text)]
    assert {count.kind: count.found for count in exported.fusions} == {"attention": 2, "skip layer norm": 5, "gelu": 0}


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
