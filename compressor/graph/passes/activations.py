"""GELU with the bias before it, and layer norm with the sum before it, as fused operators."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

from compressor.graph.files import CONTRIB
from compressor.graph.passes.walk import consumer, module, producer, replace, scalar, split_bias, split_constant


def fuse_gelus(graph: ir.Graph) -> list[str]:
    """Replace each GELU, with the bias before it where there is one; return the modules."""
    found = []
    for anchor in list(graph):
        match = _match_gelu(anchor)
        if match is None:
            continue
        source, output, op_types = match
        biased = split_bias(source.producer())
        inputs, op_type = ([biased[0], biased[1]], op_types[1]) if biased else ([source], op_types[0])
        name = module(anchor)
        replace(output, ir.node(op_type, inputs, domain=CONTRIB, name=name))
        found.append(name)
    return found


def _match_gelu(anchor: ir.Node) -> tuple[ir.Value, ir.Value, tuple[str, str]] | None:
    """Find the input and output of a GELU, and the operators that do it without and with a bias.

    From opset 20 on it is one node; before, it is x·(1 + erf(x/√2))/2.
    """
    if anchor.op_type == "Gelu" and anchor.domain == "" and anchor.inputs[0] is not None:
        tanh = anchor.attributes.get_string("approximate", "none") == "tanh"
        # FastGelu takes its bias as an optional second input.
        return anchor.inputs[0], anchor.outputs[0], ("FastGelu", "FastGelu") if tanh else ("Gelu", "BiasGelu")
    scaled = producer(anchor.inputs[0], "Div", "Mul") if anchor.op_type == "Erf" else None
    split = split_constant(scaled) if scaled else None
    if split is None or not math.isclose(split[1], 0.5**0.5, rel_tol=1e-5):
        return None
    output = _follow_erf(anchor, split[0])
    return (split[0], output, ("Gelu", "BiasGelu")) if output is not None else None


def _follow_erf(erf: ir.Node, source: ir.Value) -> ir.Value | None:
    """Follow ``erf`` through +1, and the factors 1/2 and ``source`` in either order; return the product."""
    added = consumer(erf.outputs[0], "Add")
    if added is None or 1.0 not in (scalar(added.inputs[0]), scalar(added.inputs[1])):
        return None
    value = added.outputs[0]
    missing = {"half", "source"}
    while missing:
        product = consumer(value, "Mul")
        if product is None:
            return None
        other = product.inputs[1] if product.inputs[0] is value else product.inputs[0]
        factor = "source" if other is source else "half" if scalar(other) == 0.5 else ""
        if factor not in missing:
            return None
        missing.discard(factor)
        value = product.outputs[0]
    return value


def fuse_norms(graph: ir.Graph) -> list[str]:
    """Replace each layer norm of a sum (and of the bias before it) by one node; return the modules."""
    found = []
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        added = producer(norm.inputs[0], "Add")
        if added is None or consumer(added.outputs[0], "LayerNormalization") is None or len(norm.inputs) != 3:
            continue
        left, right = _by_batch(added.inputs)
        if left is None or right is None or len(left.shape or ()) != 3 or len(right.shape or ()) != 3:
            continue
        source, bias = left, None
        for candidate, other in ((left, right), (right, left)):
            biased = split_bias(candidate.producer())
            if biased and consumer(candidate, "Add") is added and _same_shape(candidate, other):
                source, right, bias = biased[0], other, biased[1]
                break
        name = module(norm)
        inputs = [source, right, norm.inputs[1], norm.inputs[2], *([bias] if bias is not None else [])]
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        replace(
            norm.outputs[0],
            ir.node("SkipLayerNormalization", inputs, {"epsilon": epsilon}, domain=CONTRIB, name=name),
        )
        found.append(name)
    return found


def _by_batch(values: Iterable[ir.Value | None]) -> tuple[ir.Value | None, ir.Value | None]:
    """Put the operand that the batch broadcasts, such as position embeddings of shape (1, S, H), second."""
    first, second = values
    broadcast = first is not None and first.shape is not None and len(first.shape) > 0 and first.shape[0] == 1
    return (second, first) if broadcast else (first, second)


def _same_shape(first: ir.Value, second: ir.Value) -> bool:
    return first.shape is not None and second.shape is not None and first.shape[0] == second.shape[0]
