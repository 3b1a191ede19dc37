"""A layer norm and the sum before it: two nodes for a CPU, one fused operator for a GPU.

onnxruntime has fast CPU kernels for ``LayerNormalization`` from release 1.30 on, and none for the fused
``SkipLayerNormalization``, which takes several times as long as sum and norm together. When it loads a file it would
still fuse an ``Add`` and a norm; a ``Sum`` it leaves alone. ``benchmarks/norms.py`` has the times of each release.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compressor.graph.files import CONTRIB
from compressor.graph.passes.walk import consumer, module, producer, replace, split_bias


def norms_of(graph: ir.Graph) -> list[ir.Node]:
    """The layer norms of a graph."""
    return [node for node in graph if node.op_type == "LayerNormalization"]


def keep_sums(graph: ir.Graph) -> list[str]:
    """Write the sum before each layer norm so that onnxruntime leaves it alone; return the modules of the norms."""
    found = []
    for norm in norms_of(graph):
        added = producer(norm.inputs[0], "Add", "Sum")
        if added is None or any(len(value.shape or ()) != 3 for value in added.inputs if value is not None):
            continue
        if added.op_type == "Add":
            replace(added.outputs[0], ir.node("Sum", added.inputs))
            graph.remove(added, safe=True)
        norm.name = module(norm)
        found.append(norm.name)
    return found


def fuse_norms(model: ir.Model) -> None:
    """Replace each layer norm of a sum (and of the bias before it) by one node, in place.

    Where the sum is used beside the norm too (norms before the attention, as in ModernBERT), the node gives both.

    Args:
        model: Its sums as ``keep_sums`` wrote them.
    """
    for norm in norms_of(model.graph):
        added = producer(norm.inputs[0], "Sum")
        if added is None:
            continue
        left, right = _by_batch(added.inputs)
        source, bias = left, None
        for candidate, other in ((left, right), (right, left)):
            biased = split_bias(candidate.producer())
            if biased and consumer(candidate, "Sum") is added and _same_shape(candidate, other):
                source, right, bias = biased[0], other, biased[1]
                break
        scale, shift = norm.inputs[1], norm.inputs[2] if len(norm.inputs) > 2 else None
        inputs = [source, right, scale, shift, *([bias] if bias is not None else [])]
        alone = consumer(added.outputs[0], "LayerNormalization") is norm
        node = ir.node(
            "SkipLayerNormalization",
            inputs,
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


def _by_batch(values: Iterable[ir.Value | None]) -> tuple[ir.Value, ir.Value]:
    """Put the operand that the batch broadcasts, such as position embeddings of shape (1, S, H), second."""
    first, second = values
    # A sum that ``keep_sums`` wrote has two operands.
    assert first is not None  # noqa: S101
    assert second is not None  # noqa: S101
    broadcast = first.shape is not None and len(first.shape) > 0 and first.shape[0] == 1
    return (second, first) if broadcast else (first, second)


def _same_shape(first: ir.Value, second: ir.Value) -> bool:
    return first.shape is not None and second.shape is not None and first.shape[0] == second.shape[0]
