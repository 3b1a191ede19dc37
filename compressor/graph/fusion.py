"""Rewrite an exported encoder into onnxruntime's fused operators, and count what was found.

onnxruntime fuses layer norms and GELU by itself when it loads a file, but not the attention of a graph that
``torch.onnx.export(dynamo=True)`` writes. The rewrites here follow the dataflow around one anchor (Softmax, Erf,
LayerNormalization), so they do not depend on how a release of the exporter orders or reshapes what lies between.
What is read off the graph is not trusted: the caller compares the result with torch.

The operators are onnxruntime's own (domain ``com.microsoft``): they are in every build of onnxruntime, on its CPU,
CUDA and web providers, and in no other engine.
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compressor.artifacts import FusionCount
from compressor.graph.files import CONTRIB, LAYERS_KEY
from compressor.graph.passes.activations import fuse_gelus, fuse_norms
from compressor.graph.passes.attention import fuse_attentions
from compressor.graph.passes.walk import module


def fuse(model: ir.Model, layers: str, layer_count: int, activation: str) -> tuple[FusionCount, ...]:
    """Fuse attention, layer norms and GELU of an encoder, in place.

    Matrix products and fused nodes are named by the torch module that they come from, and the path of the layers is
    noted in the model's metadata: quantization finds the encoder's products by it.

    Args:
        model: As ``torch.onnx.export(dynamo=True)`` returns it, with the exporter's metadata on its nodes.
        layers: Path of the encoder's layer list, as in ``bert.encoder.layer``.
        layer_count: Layers of the encoder.
        activation: The config's name of the activation between the two feed-forward products.

    Returns:
        Expected and found blocks of each kind.
    """
    graph = model.graph
    _name_by_module(graph)
    model.metadata_props[LAYERS_KEY] = layers
    gelus = fuse_gelus(graph)
    attentions = fuse_attentions(model)
    norms = fuse_norms(graph)
    RemoveUnusedNodesPass()(model)
    model.opset_imports[CONTRIB] = 1
    inside = f"{layers}."
    return (
        FusionCount("attention", layer_count, sum(name.startswith(inside) for name in attentions)),
        # Two in each layer, and the one that ends the embeddings.
        FusionCount("skip layer norm", 2 * layer_count + 1, len(norms)),
        FusionCount("gelu", layer_count if "gelu" in activation else 0, sum(name.startswith(inside) for name in gelus)),
    )


def _name_by_module(graph: ir.Graph) -> None:
    """Call each matrix product by its module, and its weight too where no other node shares it."""
    for node in graph:
        if node.op_type == "MatMul" and (weight := node.inputs[1]) is not None and weight.is_initializer():
            node.name = module(node)
            if node.name and len(weight.uses()) == 1:
                weight.name = f"{node.name}.weight.T"
