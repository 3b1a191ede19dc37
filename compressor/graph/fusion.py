"""Rewrite an exported encoder into onnxruntime's fused operators, and count what was found.

onnxruntime fuses GELU by itself when it loads a file, but not the attention of a graph that
``torch.onnx.export(dynamo=True)`` writes; and layer norms it fuses into an operator that is slow on a CPU. The rewrites
here follow the dataflow around one anchor (Softmax, Erf, LayerNormalization), so they do not depend on how a release of
the exporter orders or reshapes what lies between. What is read off the graph is not trusted: the caller compares the
result with torch.

The operators are onnxruntime's own (domain ``com.microsoft``): they are in every build of onnxruntime, on its CPU,
CUDA and web providers, and in no other engine.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compressor.architectures import Architecture
from compressor.artifacts import FusionCount
from compressor.graph.files import CONTRIB, LAYERS_KEY
from compressor.graph.passes.activations import fuse_gelus
from compressor.graph.passes.attention import fuse_attentions
from compressor.graph.passes.norms import keep_sums, norms_of
from compressor.graph.passes.walk import array, computed, initializer, module, once, producer


def fuse(model: ir.Model, row: Architecture, layer_count: int, activation: str) -> tuple[FusionCount, ...]:
    """Fuse attention and GELU of an encoder, and write its layer norms as a CPU is fastest at, in place.

    Matrix products and fused nodes are named by the torch module that they come from, and the path of the layers is
    noted in the model's metadata: quantization finds the encoder's products by it.

    Args:
        model: As ``torch.onnx.export(dynamo=True)`` returns it, with the exporter's metadata on its nodes.
        row: Where its layers are, and what fuses in them.
        layer_count: Layers that a text passes through.
        activation: The config's name of the activation between the two feed-forward products.

    Returns:
        Expected and found blocks of each kind.
    """
    graph = model.graph
    _fold_transposes(graph)
    _name_by_module(graph)
    model.metadata_props[LAYERS_KEY] = row.layers
    # A norm that the exporter spelled out is no LayerNormalization any more: the row knows how many there should be.
    sums = max(sum(producer(node.inputs[0], "Add") is not None for node in norms_of(graph)), row.norms * layer_count)
    gelus = fuse_gelus(graph)
    attentions = fuse_attentions(model)
    norms = keep_sums(graph)
    RemoveUnusedNodesPass()(model)
    once(graph)
    model.opset_imports[CONTRIB] = 1
    inside = f"{row.layers}."
    return (
        FusionCount("attention", layer_count, sum(name.startswith(inside) for name in attentions)),
        FusionCount("layer norm", sums, len(norms)),
        FusionCount("gelu", layer_count if "gelu" in activation else 0, sum(name.startswith(inside) for name in gelus)),
    )


def _fold_transposes(graph: ir.Graph) -> None:
    """Store large weights as their products read them, each once.

    The exporter does so itself, but leaves a ``Transpose`` where a large weight has several readers: a layer that is
    run again (ALBERT), or projections of contents and positions (DeBERTa). A table that is looked up too, as that of
    word pieces by a tied decoder, stays as it is: it would else lie in the file twice.
    """
    for weight in list(graph.initializers.values()):
        readers = [use.node for use in weight.uses()]
        turns = [tuple(node.attributes.get_ints("perm", ())) for node in readers if node.op_type == "Transpose"]
        if not turns or len(turns) < len(readers) or set(turns) - {(1, 0), ()} or len(weight.shape or ()) != 2:
            continue
        turned = initializer(graph, f"{weight.name}.T", np.ascontiguousarray(array(weight).T))
        for node in readers:
            node.outputs[0].replace_all_uses_with(turned)


def _name_by_module(graph: ir.Graph) -> None:
    """Call each matrix product by its module, and its weight too where no other module shares it.

    A product of constants (DeBERTa projects its table of positions) keeps its name: onnxruntime computes it once, when
    it loads the file.
    """
    values = computed(graph)
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is None or not weight.is_initializer() or node.inputs[0] not in values:
            continue
        node.name = module(node)
        name = f"{node.name}.weight.T"
        if node.name and weight.name != name and {module(use.node) for use in weight.uses()} == {node.name}:
            weight.name = name
