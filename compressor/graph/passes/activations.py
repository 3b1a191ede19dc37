"""GELU, with the bias before it, as a fused operator."""

from __future__ import annotations

import math

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

    From opset 20 on it is one node; before, it is x·(1 + erf(x/√2))/2, or for ``gelu_new`` at every opset
    x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
    """
    if anchor.op_type == "Gelu" and anchor.domain == "" and anchor.inputs[0] is not None:
        tanh = anchor.attributes.get_string("approximate", "none") == "tanh"
        # FastGelu takes its bias as an optional second input.
        return anchor.inputs[0], anchor.outputs[0], ("FastGelu", "FastGelu") if tanh else ("Gelu", "BiasGelu")
    if anchor.op_type not in ("Erf", "Tanh"):
        return None
    factor = 0.5**0.5 if anchor.op_type == "Erf" else (2 / math.pi) ** 0.5
    scaled = producer(anchor.inputs[0], "Div", "Mul")
    split = split_constant(scaled) if scaled else None
    if split is None or not math.isclose(split[1], factor, rel_tol=1e-5):
        return None
    source = split[0] if anchor.op_type == "Erf" else _of_cubic(split[0])
    output = _follow(anchor, source) if source is not None else None
    if source is None or output is None:
        return None
    return source, output, ("Gelu", "BiasGelu") if anchor.op_type == "Erf" else ("FastGelu", "FastGelu")


def _of_cubic(value: ir.Value) -> ir.Value | None:
    """Find x in x + 0.044715·x³."""
    added = producer(value, "Add")
    for source, cubic in (added.inputs, reversed(added.inputs)) if added else ():
        product = producer(cubic, "Mul")
        split = split_constant(product) if product else None
        power = producer(split[0], "Pow") if split and math.isclose(split[1], 0.044715, rel_tol=1e-5) else None
        if power is not None and power.inputs[0] is source and scalar(power.inputs[1]) == 3.0:
            return source
    return None


def _follow(anchor: ir.Node, source: ir.Value) -> ir.Value | None:
    """Follow a value through +1, and the factors 1/2 and ``source`` in any order; return the product."""
    added = consumer(anchor.outputs[0], "Add")
    if added is None or 1.0 not in (scalar(added.inputs[0]), scalar(added.inputs[1])):
        return None
    value = added.outputs[0]
    missing = {"half", "source"}
    while missing:
        product = consumer(value, "Mul")
        if product is None:
            return None
        other = product.inputs[1] if product.inputs[0] is value else product.inputs[0]
        halved = producer(other, "Mul")
        if halved is not None and split_constant(halved) == (source, 0.5):
            factors = {"half", "source"}
        else:
            factors = {"source"} if other is source else {"half"} if scalar(other) == 0.5 else set()
        if not factors or not factors <= missing:
            return None
        missing -= factors
        value = product.outputs[0]
    return value
