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

import ast
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass, RemoveUnusedNodesPass

from compressor import onnx_files
from compressor.artifacts import FusionCount

CONTRIB = "com.microsoft"
LAYERS_KEY = "compressor.layers"
MASK_SHAPES = ((2, 5), (1, 7), (3, 4))


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
    gelus = _fuse_gelus(graph)
    attentions = _fuse_attentions(model)
    norms = _fuse_norms(graph)
    RemoveUnusedNodesPass()(model)
    model.opset_imports[CONTRIB] = 1
    inside = f"{layers}."
    return (
        FusionCount("attention", layer_count, sum(name.startswith(inside) for name in attentions)),
        # Two in each layer, and the one that ends the embeddings.
        FusionCount("skip layer norm", 2 * layer_count + 1, len(norms)),
        FusionCount(
            "gelu", layer_count if "gelu" in activation else 0, sum(name.startswith(inside) for name in gelus)
        ),
    )


# --- names ------------------------------------------------------------------------------------


def _module(node: ir.Node) -> str:
    """Path of the torch module that a node was exported from, as in ``bert.encoder.layer.0.output.dense``."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    return ast.literal_eval(scopes)[-2] if scopes else ""


def _name_by_module(graph: ir.Graph) -> None:
    """Call each matrix product by its module, and its weight too where no other node shares it."""
    for node in graph:
        if node.op_type == "MatMul" and (weight := node.inputs[1]) is not None and weight.is_initializer():
            node.name = _module(node)
            if len(weight.uses()) == 1:
                weight.name = f"{node.name}.weight.T"


# --- walking ----------------------------------------------------------------------------------


def _producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types else None


def _consumer(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The one consumer of a value, if it is of these types."""
    nodes = {use.node for use in value.uses()}
    return next(iter(nodes)) if len(nodes) == 1 and next(iter(nodes)).op_type in op_types else None


def _scalar(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return float(value.const_value.numpy().item())


def _split_constant(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Input and factor of a product or quotient with a constant number."""
    first, second = node.inputs
    if node.op_type == "Div":
        number = _scalar(second)
        return (first, 1.0 / number) if first is not None and number else None
    for value, other in ((first, second), (second, first)):
        number = _scalar(other)
        if value is not None and number is not None:
            return value, number
    return None


def _split_bias(node: ir.Node | None) -> tuple[ir.Value, ir.Value] | None:
    """Input and bias of an addition of a constant vector."""
    if node is None or node.op_type != "Add":
        return None
    for value, bias in (tuple(node.inputs), tuple(reversed(node.inputs))):
        if value is not None and bias is not None and bias.is_initializer() and len(bias.shape or ()) == 1:
            return value, bias
    return None


def _replace(old: ir.Value, node: ir.Node) -> None:
    """Put a node in the place of the one that made ``old``, under the same value name."""
    maker = old.producer()
    assert maker is not None and maker.graph is not None  # noqa: S101 - only called with values found by walking
    new = node.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    maker.graph.insert_before(maker, node)
    old.name = f"{old.name}_unfused"
    old.replace_all_uses_with(new)


# --- attention --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Projection:
    """A linear map of the hidden states, split into heads."""

    source: ir.Value
    product: ir.Node
    bias: ir.Value | None
    factor: float
    heads: int
    head_size: int


@dataclass(frozen=True)
class _Attention:
    """What one block of attention was found to be."""

    query: _Projection
    key: _Projection
    value: _Projection
    scale: float
    addends: tuple[ir.Value, ...]
    output: ir.Value


def _fuse_attentions(model: ir.Model) -> list[str]:
    """Replace each attention by one node; return the modules they come from."""
    graph = model.graph
    masks: dict[ir.Value, bool] = {}
    found = []
    key_mask: ir.Value | None = None
    for node in [node for node in graph if node.op_type == "Softmax"]:
        block = _match_attention(node)
        if block is None:
            continue
        for addend in block.addends:
            if addend not in masks:
                masks[addend] = _is_padding_mask(model, addend)
        padding = [addend for addend in block.addends if masks[addend]]
        biases = [_unexpanded(addend) for addend in block.addends if not masks[addend]]
        if len(biases) > 1:
            continue
        if padding and key_mask is None:
            key_mask = _key_mask(graph)
        fused = _attention_node(graph, block, key_mask if padding else None, biases[0] if biases else None)
        _replace(block.output, fused)
        found.append(fused.name or "")
    return found


def _match_attention(softmax: ir.Node) -> _Attention | None:
    scores = _match_scores(softmax.inputs[0])
    context = _match_context(softmax.outputs[0])
    if scores is None or context is None:
        return None
    product, factor, addends = scores
    output, values = context
    query, key, value = (_match_projection(item) for item in (product.inputs[0], product.inputs[1], values))
    if query is None or key is None or value is None or len({query.source, key.source, value.source}) != 1:
        return None
    if not math.isclose(value.factor, 1.0):
        return None
    return _Attention(query, key, value, factor * query.factor * key.factor, addends, output)


def _match_scores(value: ir.Value | None) -> tuple[ir.Node, float, tuple[ir.Value, ...]] | None:
    """Find Q·K behind scalings and additions: the product, its scale, and what is added afterwards."""
    if product := _producer(value, "MatMul"):
        weight = product.inputs[1]
        return None if weight is not None and weight.is_initializer() else (product, 1.0, ())
    if scaled := _producer(value, "Mul", "Div"):
        split = _split_constant(scaled)
        inner = _match_scores(split[0]) if split else None
        # A scale after an addition would scale the addend as well.
        return (inner[0], inner[1] * split[1], ()) if split and inner and not inner[2] else None
    if added := _producer(value, "Add"):
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
    product = _consumer(weights, "MatMul")
    transposed = _consumer(product.outputs[0], "Transpose") if product else None
    merged = _consumer(transposed.outputs[0], "Reshape") if transposed else None
    if product is None or merged is None or product.inputs[0] is not weights:
        return None
    return merged.outputs[0], product.inputs[1]


def _match_projection(value: ir.Value | None) -> _Projection | None:
    """Walk back through head splitting and scaling to the matrix product with a constant weight."""
    factor = 1.0
    heads: tuple[int, int] | None = None
    while value is not None:
        if (node := _producer(value, "Mul", "Div")) and (split := _split_constant(node)):
            value, factor = split[0], factor * split[1]
        elif node := _producer(value, "Reshape", "Transpose"):
            shape = node.outputs[0].shape
            # The reshape nearest to the product is [batch, sequence, heads, head size].
            if node.op_type == "Reshape" and shape is not None and len(shape) == 4:
                sizes = shape[2], shape[3]
                heads = (sizes[0], sizes[1]) if isinstance(sizes[0], int) and isinstance(sizes[1], int) else heads
            value = node.inputs[0]
        else:
            break
    biased = _split_bias(_producer(value, "Add"))
    product = _producer(biased[0] if biased else value, "MatMul")
    if product is None or heads is None:
        return None
    source, weight = product.inputs
    if source is None or weight is None or not weight.is_initializer():
        return None
    return _Projection(source, product, biased[1] if biased else None, factor, *heads)


def _attention_node(
    graph: ir.Graph, block: _Attention, key_mask: ir.Value | None, bias: ir.Value | None
) -> ir.Node:
    """Pack the three projections into one weight, so that one product (and one int8 scale of its input) serves all."""
    parts = (block.query, block.key, block.value)
    name = (block.query.product.name or "").rpartition(".")[0]
    weight = np.concatenate([_array(part.product.inputs[1]) for part in parts], axis=1)
    sizes = [part.heads * part.head_size for part in parts]
    biases = np.concatenate(
        [_array(part.bias) if part.bias is not None else np.zeros(size, weight.dtype) for part, size in
         zip(parts, sizes, strict=True)]
    )  # fmt: skip
    attributes: dict[str, Any] = {"num_heads": block.query.heads, "qkv_hidden_sizes": sizes}
    if not math.isclose(block.scale, block.query.head_size**-0.5, rel_tol=1e-5):
        attributes["scale"] = block.scale
    return ir.node(
        "Attention",
        [
            block.query.source,
            _initializer(graph, f"{name}.query_key_value.weight.T", weight),
            _initializer(graph, f"{name}.query_key_value.bias", biases),
            key_mask,
            None,
            bias,
        ],
        attributes,
        domain=CONTRIB,
        name=name,
    )


def _array(value: ir.Value | None) -> np.ndarray[Any, Any]:
    assert value is not None and value.const_value is not None  # noqa: S101 - checked when it was matched
    return value.const_value.numpy()


def _initializer(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _unexpanded(value: ir.Value) -> ir.Value:
    """An attention bias before its expansion to the batch: the fused operator broadcasts by itself."""
    expand = _producer(value, "Expand")
    source = expand.inputs[0] if expand else None
    return source if source is not None and source.shape is not None and len(source.shape) == 4 else value


# --- padding masks ----------------------------------------------------------------------------


def _key_mask(graph: ir.Graph) -> ir.Value:
    """The attention mask as int32 of shape (batch, sequence), which the fused operator takes as it is."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    cast = ir.node("Cast", [mask], {"to": ir.DataType.INT32})
    cast.outputs[0].name = "key_mask"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(ir.DataType.INT32), mask.shape
    graph.insert_before(graph[0], cast)
    return cast.outputs[0]


def _is_padding_mask(model: ir.Model, addend: ir.Value) -> bool:
    """Tell whether an addend does nothing but hide the padding of the keys.

    Transformers builds its masks in many ways, so the subgraph is not matched but run, on masks of several shapes
    with padding left, right and inside: a padding mask is 0 where the key may be seen and at most -10000 where not.
    """
    if not _depends_only_on_mask(addend):
        return False
    names = [value.name for value in model.graph.inputs]
    run = _evaluator(model, addend)
    rng = np.random.default_rng(0)
    for shape in MASK_SHAPES:
        mask = rng.integers(0, 2, shape)
        mask[:, 1] = 1
        feed = {name: mask if name == "attention_mask" else np.zeros(shape, np.int64) for name in names}
        bias = run(feed)
        seen = np.broadcast_to(mask[:, None, None, :] == 1, (shape[0], 1, shape[1], shape[1]))
        try:
            bias = np.broadcast_to(bias, seen.shape)
        except ValueError:
            return False
        if not ((bias[seen] == 0).all() and (bias[~seen] <= -1e4).all()):
            return False
    return True


def _depends_only_on_mask(value: ir.Value) -> bool:
    """Whether the only input whose content, not only shape, reaches a value is the attention mask."""
    pending, seen, reached = [value], set(), set()
    while pending:
        item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        node = item.producer()
        if node is None:
            if item.is_graph_input():
                reached.add(item.name)
        elif node.op_type != "Shape":
            pending.extend(entry for entry in node.inputs if entry is not None)
    return reached <= {"attention_mask"} and bool(reached)


def _evaluator(model: ir.Model, value: ir.Value) -> Any:
    """A function from inputs to the content of one value inside the graph."""
    import onnxruntime
    from onnx_ir.convenience import extract

    part = extract(model.graph, model.graph.inputs, [value])
    proto = ir.to_proto(ir.Model(part, ir_version=model.ir_version))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {item.name for item in session.get_inputs()}
    return lambda feed: session.run(None, {name: array for name, array in feed.items() if name in names})[0]


# --- GELU and layer norm ----------------------------------------------------------------------


def _fuse_gelus(graph: ir.Graph) -> list[str]:
    """Replace x·(1 + erf(x/√2))/2, with the bias before it where there is one; return the modules."""
    found = []
    for erf in [node for node in graph if node.op_type == "Erf"]:
        scaled = _producer(erf.inputs[0], "Div", "Mul")
        split = _split_constant(scaled) if scaled else None
        output = _match_gelu(erf, split[0]) if split and math.isclose(split[1], 0.5**0.5, rel_tol=1e-5) else None
        if split is None or output is None:
            continue
        biased = _split_bias(split[0].producer())
        inputs, op_type = ([biased[0], biased[1]], "BiasGelu") if biased else ([split[0]], "Gelu")
        name = _module(erf)
        _replace(output, ir.node(op_type, inputs, domain=CONTRIB, name=name))
        found.append(name)
    return found


def _match_gelu(erf: ir.Node, source: ir.Value) -> ir.Value | None:
    """Follow ``erf`` through +1, and the factors 1/2 and ``source`` in either order; return the product."""
    added = _consumer(erf.outputs[0], "Add")
    if added is None or 1.0 not in (_scalar(added.inputs[0]), _scalar(added.inputs[1])):
        return None
    value = added.outputs[0]
    missing = {"half", "source"}
    while missing:
        product = _consumer(value, "Mul")
        if product is None:
            return None
        other = product.inputs[1] if product.inputs[0] is value else product.inputs[0]
        factor = "source" if other is source else "half" if _scalar(other) == 0.5 else ""
        if factor not in missing:
            return None
        missing.discard(factor)
        value = product.outputs[0]
    return value


def _fuse_norms(graph: ir.Graph) -> list[str]:
    """Replace each layer norm of a sum (and of the bias before it) by one node; return the modules."""
    found = []
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        added = _producer(norm.inputs[0], "Add")
        if added is None or _consumer(added.outputs[0], "LayerNormalization") is None or len(norm.inputs) != 3:
            continue
        left, right = _by_batch(added.inputs)
        if left is None or right is None or len(left.shape or ()) != 3 or len(right.shape or ()) != 3:
            continue
        source, bias = left, None
        for candidate, other in ((left, right), (right, left)):
            biased = _split_bias(candidate.producer())
            if biased and _consumer(candidate, "Add") is added and _same_shape(candidate, other):
                source, right, bias = biased[0], other, biased[1]
                break
        name = _module(norm)
        inputs = [source, right, norm.inputs[1], norm.inputs[2], *([bias] if bias is not None else [])]
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        _replace(
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
