"""Attention, however it is spelled out, as one fused operator with packed weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from compressor.graph.files import CONTRIB
from compressor.graph.passes.padding import int32_mask, is_padding_mask
from compressor.graph.passes.rotary import match_rotated, rotated_node, window_of
from compressor.graph.passes.walk import (
    array,
    consumer,
    initializer,
    module,
    producer,
    replace,
    split_bias,
    split_constant,
)


@dataclass(frozen=True)
class _Projection:
    """A linear map of the hidden states, split into heads.

    Attributes:
        value: What the linear map gives, of shape (batch, sequence, heads * head size).
        alone: Nothing but this attention reads it.
    """

    source: ir.Value
    product: ir.Node
    bias: ir.Value | None
    factor: float
    heads: int
    head_size: int
    value: ir.Value
    alone: bool


@dataclass(frozen=True)
class _Attention:
    """What one block of attention was found to be."""

    query: _Projection
    key: _Projection
    value: _Projection
    scale: float
    addends: tuple[ir.Value, ...]
    output: ir.Value

    @property
    def packs(self) -> bool:
        """The three projections can be one product: of one input, and needed for nothing else."""
        parts = (self.query, self.key, self.value)
        return len({part.source for part in parts}) == 1 and all(part.alone for part in parts)


def fuse_attentions(model: ir.Model) -> list[str]:
    """Replace each attention by one node; return the modules they come from."""
    graph = model.graph
    masks = _Masks(model)
    found = []
    for node in [node for node in graph if node.op_type == "Softmax"]:
        fused = _fuse_straight(graph, node, masks) or _fuse_rotated(graph, node, masks)
        if fused is not None:
            replace(*fused)
            found.append(fused[1].name or "")
    return found


class _Masks:
    """What is added to scores, sorted into padding and the rest, each addend and each node once."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._known: dict[ir.Value, bool] = {}
        self._windows: dict[ir.Value, ir.Value | None] = {}
        self._key_mask: ir.Value | None = None

    def split(self, addends: tuple[ir.Value, ...]) -> tuple[ir.Value | None, list[ir.Value]]:
        """The mask of padded keys, if one of the addends is no more than that, and the other addends."""
        for addend in addends:
            if addend not in self._known:
                self._known[addend] = is_padding_mask(self._model, addend)
        hidden = any(self._known[addend] for addend in addends)
        return self.key_mask() if hidden else None, [addend for addend in addends if not self._known[addend]]

    def key_mask(self) -> ir.Value:
        self._key_mask = self._key_mask or int32_mask(self._model.graph)
        return self._key_mask

    def window(self, addend: ir.Value) -> ir.Value | None:
        """An addend without the padding that it hides too."""
        if addend not in self._windows:
            self._windows[addend] = window_of(addend)
        return self._windows[addend]


def _fuse_straight(graph: ir.Graph, softmax: ir.Node, masks: _Masks) -> tuple[ir.Value, ir.Node] | None:
    block = _match_attention(softmax)
    if block is None:
        return None
    key_mask, others = masks.split(block.addends)
    if len(others) > 1:
        return None
    build = _packed_node if block.packs else _parallel_node
    return block.output, build(graph, block, key_mask, _unexpanded(others[0]) if others else None)


def _fuse_rotated(graph: ir.Graph, softmax: ir.Node, masks: _Masks) -> tuple[ir.Value, ir.Node] | None:
    scores, context = _match_scores(softmax.inputs[0]), _match_context(softmax.outputs[0])
    if scores is None or context is None:
        return None
    product, factor, addends = scores
    query, key, value = (match_rotated(item) for item in (*product.inputs, context[1]))
    if query is None or key is None or value is None:
        return None
    key_mask, others = masks.split(addends)
    if others:
        bias = masks.window(others[0]) if len(addends) == 1 else None
        if bias is None:
            return None
        key_mask = masks.key_mask()
    node = rotated_node(graph, softmax, (query, key, value), factor, key_mask, bias if others else None)
    if node is None:
        return None
    node.name = module(softmax)
    return context[0], node


def _match_attention(softmax: ir.Node) -> _Attention | None:
    scores = _match_scores(softmax.inputs[0])
    context = _match_context(softmax.outputs[0])
    if scores is None or context is None:
        return None
    product, factor, addends = scores
    output, values = context
    query, key, value = (_match_projection(item) for item in (product.inputs[0], product.inputs[1], values))
    if query is None or key is None or value is None:
        return None
    if not math.isclose(value.factor, 1.0):
        return None
    return _Attention(query, key, value, factor * query.factor * key.factor, addends, output)


def _match_scores(value: ir.Value | None) -> tuple[ir.Node, float, tuple[ir.Value, ...]] | None:
    """Find Q·K behind scalings and additions: the product, its scale, and what is added afterwards."""
    if product := producer(value, "MatMul"):
        weight = product.inputs[1]
        return None if weight is not None and weight.is_initializer() else (product, 1.0, ())
    if scaled := producer(value, "Mul", "Div"):
        split = split_constant(scaled)
        inner = _match_scores(split[0]) if split else None
        # A scale after an addition would scale the addend as well.
        return (inner[0], inner[1] * split[1], ()) if split and inner and not inner[2] else None
    if added := producer(value, "Add"):
        for left, right in (tuple(added.inputs), tuple(reversed(added.inputs))):
            inner = _match_scores(left)
            if inner is not None and right is not None:
                return inner[0], inner[1], (*inner[2], right)
    return None


def _match_context(weights: ir.Value) -> tuple[ir.Value, ir.Value | None] | None:
    """Follow the attention weights to the merged heads: that value, and the values that were weighted."""
    # scaled_dot_product_attention gives 0 where a whole row is masked: Where(IsNaN(p), 0, p).
    safe = [use.node for use in weights.uses() if use.node.op_type == "Where"]
    if safe:
        weights = safe[0].outputs[0]
    product = consumer(weights, "MatMul")
    transposed = consumer(product.outputs[0], "Transpose") if product else None
    merged = consumer(transposed.outputs[0], "Reshape") if transposed else None
    if product is None or merged is None or product.inputs[0] is not weights:
        return None
    return merged.outputs[0], product.inputs[1]


def _match_projection(value: ir.Value | None) -> _Projection | None:
    """Walk back through head splitting and scaling to the matrix product with a constant weight."""
    factor, alone = 1.0, True
    heads: tuple[int, int] | None = None
    while value is not None:
        alone = alone and len({use.node for use in value.uses() if use.node.op_type != "Shape"}) == 1
        if (node := producer(value, "Mul", "Div")) and (split := split_constant(node)):
            value, factor = split[0], factor * split[1]
        elif node := producer(value, "Reshape", "Transpose"):
            shape = node.outputs[0].shape
            # The reshape nearest to the product is [batch, sequence, heads, head size].
            if node.op_type == "Reshape" and shape is not None and len(shape) == 4:
                sizes = shape[2], shape[3]
                heads = (sizes[0], sizes[1]) if isinstance(sizes[0], int) and isinstance(sizes[1], int) else heads
            value = node.inputs[0]
        else:
            break
    biased = split_bias(producer(value, "Add"))
    product = producer(biased[0] if biased else value, "MatMul")
    if product is None or heads is None:
        return None
    source, weight = product.inputs
    if source is None or weight is None or not weight.is_initializer():
        return None
    # Walked off the last value, there would have been no product.
    assert value is not None  # noqa: S101
    return _Projection(source, product, biased[1] if biased else None, factor, *heads, value, alone)


def _parallel_node(graph: ir.Graph, block: _Attention, key_mask: ir.Value | None, bias: ir.Value | None) -> ir.Node:
    """Leave the projections as they are: they have several inputs (MobileBERT), or other readers (DeBERTa)."""
    name = (block.query.product.name or "").rpartition(".")[0]
    return ir.node(
        "MultiHeadAttention",
        [block.query.value, block.key.value, block.value.value, None, key_mask, bias],
        {"num_heads": block.query.heads, "scale": block.scale},
        domain=CONTRIB,
        name=name,
    )


def _packed_node(graph: ir.Graph, block: _Attention, key_mask: ir.Value | None, bias: ir.Value | None) -> ir.Node:
    """Pack the three projections into one weight, so that one product (and one int8 scale of its input) serves all."""
    parts = (block.query, block.key, block.value)
    name = (block.query.product.name or "").rpartition(".")[0]
    weight = np.concatenate([array(part.product.inputs[1]) for part in parts], axis=1)
    sizes = [part.heads * part.head_size for part in parts]
    biases = np.concatenate(
        [array(part.bias) if part.bias is not None else np.zeros(size, weight.dtype) for part, size in
         zip(parts, sizes, strict=True)]
    )  # fmt: skip
    attributes: dict[str, Any] = {"num_heads": block.query.heads, "qkv_hidden_sizes": sizes}
    if not math.isclose(block.scale, block.query.head_size**-0.5, rel_tol=1e-5):
        attributes["scale"] = block.scale
    return ir.node(
        "Attention",
        [
            block.query.source,
            initializer(graph, f"{name}.query_key_value.weight.T", weight),
            initializer(graph, f"{name}.query_key_value.bias", biases),
            key_mask,
            None,
            bias,
        ],
        attributes,
        domain=CONTRIB,
        name=name,
    )


def _unexpanded(value: ir.Value) -> ir.Value:
    """An attention bias before its expansion to the batch: the fused operator broadcasts by itself."""
    expand = producer(value, "Expand")
    source = expand.inputs[0] if expand else None
    return source if source is not None and source.shape is not None and len(source.shape) == 4 else value
