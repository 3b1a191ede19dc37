"""A layer norm and the sum before it: two nodes for a CPU, one fused operator for a GPU.

onnxruntime has a fast CPU kernel for ``LayerNormalization`` from release 1.30 on, and none for the fused
``SkipLayerNormalization``. When it loads a file it would still fuse an ``Add`` and a norm; a ``Sum`` it leaves alone.
``benchmarks/norms.py`` has the times of several releases.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compressor.graph.files import CONTRIB
from compressor.graph.passes.walk import consumer, module, producer, replace, split_bias


def norms_of(graph: ir.Graph) -> list[ir.Node]:
    """The layer norms of a graph."""
    return [node for node in graph if node.op_type == "LayerNormalization"]


def keep_sums(graph: ir.Graph) -> list[str]:
    """Write the sum before each layer norm, with the bias in it, so that onnxruntime leaves it alone.

    Returns:
        The modules of these norms.
    """
    found = []
    for norm in norms_of(graph):
        added = producer(norm.inputs[0], "Add", "Sum")
        if added is None or any(len(value.shape or ()) != 3 for value in _tokens(added)):
            continue
        if added.op_type == "Add":
            replace(added.outputs[0], ir.node("Sum", [part for value in added.inputs for part in _parts(value, added)]))
            graph.remove(added, safe=True)
        norm.name = module(norm)
        found.append(norm.name)
    return found


def _tokens(added: ir.Node) -> list[ir.Value]:
    """Operands of a sum, less the bias."""
    return [value for value in added.inputs if value is not None and not _is_bias(value)]


def _is_bias(value: ir.Value) -> bool:
    return value.is_initializer() and len(value.shape or ()) == 1


def _parts(value: ir.Value | None, added: ir.Node) -> tuple[ir.Value | None, ...]:
    """An operand, or what it is made of: a product and its bias, where nothing else reads them together."""
    biased = split_bias(value.producer()) if value is not None and consumer(value, added.op_type) is added else None
    return biased or (value,)


def fuse_norms(model: ir.Model) -> None:
    """Replace each layer norm of a sum (and of the bias before it) by one node, in place.

    Where the sum is used beside the norm too (norms before the attention, as in ModernBERT), the node gives both.

    Args:
        model: Its sums as ``keep_sums`` wrote them.
    """
    for norm in norms_of(model.graph):
        added = producer(norm.inputs[0], "Sum")
        operands = _tokens(added) if added is not None else []
        if added is None or len(operands) != 2:
            continue
        biases = [value for value in added.inputs if value is not None and _is_bias(value)]
        scale, shift = norm.inputs[1], norm.inputs[2] if len(norm.inputs) > 2 else None
        alone = consumer(added.outputs[0], "LayerNormalization") is norm
        node = ir.node(
            "SkipLayerNormalization",
            # What the batch broadcasts, such as position embeddings of shape (1, S, H), has to be second.
            [*sorted(operands, key=_is_broadcast), scale, shift, *biases],
            {"epsilon": norm.attributes.get_float("epsilon", 1e-5)},
            domain=CONTRIB,
            name=norm.name,
            num_outputs=1 if alone else 4,
        )
        if alone:
            replace(norm.outputs[0], node)
        else:
            _give_both(added, norm, node)
    RemoveUnusedNodesPass()(model)


def _is_broadcast(value: ir.Value) -> bool:
    return value.shape is not None and value.shape[0] == 1


def _give_both(added: ir.Node, norm: ir.Node, node: ir.Node) -> None:
    """Put a node in the place of a sum and its norm; mean and deviation, its outputs between the two, stay unused."""
    for old, new in ((norm.outputs[0], node.outputs[0]), (added.outputs[0], node.outputs[3])):
        new.name, new.shape, new.type = old.name, old.shape, old.type
        old.name = f"{old.name}_unfused"
    node.outputs[1].name = node.outputs[2].name = ""
    graph = added.graph
    # Both were found by walking a graph.
    assert graph is not None  # noqa: S101
    graph.insert_before(added, node)
    norm.outputs[0].replace_all_uses_with(node.outputs[0], replace_graph_outputs=True)
    added.outputs[0].replace_all_uses_with(node.outputs[3], replace_graph_outputs=True)
