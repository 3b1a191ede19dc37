"""Q, K and V out of a fused attention, as one product that a quantizer can see."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compressor.graph.files import CONTRIB
from compressor.graph.passes.int8 import QUERY_KEY_VALUE
from compressor.graph.passes.walk import initializer, origin, replace


def unpack_attentions(model: ir.Model) -> None:
    """Replace each fused attention by ``MatMul``, ``Split`` and ``MultiHeadAttention``, in place."""
    for node in list(model.graph):
        if node.op_type == "Attention" and node.domain == CONTRIB:
            _unpack(model.graph, node)


def _unpack(graph: ir.Graph, node: ir.Node) -> None:
    source, weight, bias, key_mask, _, attention_bias = (*node.inputs, None, None, None)[:6]
    sizes = node.attributes.get_ints("qkv_hidden_sizes")
    product = ir.node("MatMul", [source, weight], name=f"{node.name}.{QUERY_KEY_VALUE}")
    split = ir.node(
        "Split",
        [product.outputs[0], initializer(graph, f"{origin(node.name or '')}.sizes", np.array(sizes, np.int64))],
        {"axis": -1},
        num_outputs=3,
    )
    for new in (product, split):
        graph.insert_before(node, new)
    attributes: dict[str, int | float] = {"num_heads": node.attributes.get_int("num_heads") or 0}
    if "scale" in node.attributes:
        attributes["scale"] = node.attributes.get_float("scale") or 0.0
    attention = ir.node(
        "MultiHeadAttention",
        [*split.outputs, bias, key_mask, attention_bias],
        attributes,
        domain=CONTRIB,
        name=node.name,
    )
    replace(node.outputs[0], attention)
    graph.remove(node, safe=True)
