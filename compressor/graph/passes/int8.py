"""Rewrite a fused fp32 encoder to int8 arithmetic, with standard ONNX operators.

Every matrix product becomes ``MatMulInteger`` of uint8 activations and int8 weights with one scale per output column.
onnxruntime merges the product, its conversion and its scales into one kernel when it loads the file, and the bias
behind it too. It multiplies that bias by a scale that is not one for all tokens (wrongly, up to release 1.32 at least;
``MatMulIntegerToFloat`` in matmul_integer.cc): such a bias is added by a ``Sum``, which it leaves alone. The modes
differ in how activations are scaled:

- ``per-token``: one scale for each token, with a constant zero point. A token's arithmetic then depends on that token
  alone, so a text gets the same logits alone, padded or in a batch.
- ``smooth``, the default: behind layer norms a fixed step for each channel, from training texts; else as ``per-token``.
  A token's arithmetic depends on that token alone as well.
- ``dynamic``: one scale for the whole tensor (``DynamicQuantizeLinear``), as onnxruntime's own quantizer does it. The
  neighbours in a batch, and the padding, change a text's logits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compressor.graph.files import CONTRIB, LAYERS_KEY
from compressor.graph.passes.scales import Activation, Quantized, fixed, per_tensor, per_token
from compressor.graph.passes.walk import origin

QUERY_KEY_VALUE = "query_key_value"
KEY_VALUE = "key_value"
_STANDS_FOR = {QUERY_KEY_VALUE: 3, KEY_VALUE: 2}
# Below this, storing a table in half the bytes saves nothing worth a node.
HALF_STORED_ELEMENTS = 1 << 16
_LIMIT = 127
_CONTRIBUTED = ("MultiHeadAttention", "Gelu")

Array = npt.NDArray[Any]
MODES: Mapping[str, Activation] = {"per-token": per_token, "smooth": per_token, "dynamic": per_tensor}


def quantize_weight(
    weight: Array, axis: int, *, bounded: bool = False
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize symmetrically to whole numbers in [-127, 127].

    Args:
        weight: Float array of two dimensions.
        axis: The axis that a scale spans: 0 gives one scale per column, 1 one per row.
        bounded: Choose scales with which two neighbours of one sign along that axis (the first and second, the third
            and fourth, ...) add up to at most 128. Their products with two unsigned bytes then fit into 16 bits,
            where x86 without VNNI adds them.

    Returns:
        The weights in int8, and their scales in float32 with ``axis`` kept as 1.
    """
    moved = np.moveaxis(weight, axis, 0)
    peak = _pairs(moved).max(axis=0) if bounded else np.maximum(moved.max(axis=0), -moved.min(axis=0))
    # A row that pruning emptied has no range; any scale gives its zeros back.
    scale = np.expand_dims(np.where(peak == 0, 1.0, peak / _LIMIT), axis).astype(np.float32)
    scaled = weight / scale
    np.clip(np.rint(scaled, out=scaled), -_LIMIT, _LIMIT, out=scaled)
    return scaled.astype(np.int8), scale


def _pairs(weight: Array) -> Array:
    """Magnitude of the sums of neighbours along the first axis, those of one sign only."""
    even = np.concatenate([weight, np.zeros_like(weight[: len(weight) % 2])])
    first, second = even[0::2], even[1::2]
    above, below = (np.maximum(sign * first, 0) + np.maximum(sign * second, 0) for sign in (1, -1))
    sums: Array = np.maximum(above, below)
    return sums


def rewrite(
    model: ir.Model,
    mode: str,
    *,
    bounded: bool,
    keep: Collection[str] = (),
    steps: Mapping[str, Array] | None = None,
) -> None:
    """Quantize an encoder that ``fusion.fuse`` wrote, in place.

    The products of the layers become int8; so do the word embeddings, with one scale per row. The rest (the head,
    position embeddings) is stored in fp16 where it is large, and converted back once, when onnxruntime loads the file.

    Args:
        model: The graph, with its encoder layers marked.
        mode: A key of ``MODES``.
        bounded: The products' weights are chosen so that 16 bits hold two products: ``quantize_weight``.
        keep: Modules whose products stay in floating point.
        steps: Of activations whose steps are fixed, by name: ``smooth.choose_steps``.
    """
    _Writer(model.graph, MODES[mode], bounded=bounded, steps=steps).rewrite(model.metadata_props[LAYERS_KEY], keep)
    RemoveUnusedNodesPass()(model)


def shrink_tables(model: ir.Model) -> None:
    """Store the word embeddings in int8 and other large tables in fp16, as ``rewrite`` does beside the products."""
    writer = _Writer(model.graph, MODES["per-token"], bounded=False)
    writer.embeddings()
    writer.halve()
    RemoveUnusedNodesPass()(model)


def products_of(node: ir.Node) -> int:
    """How many products of the model a node stands for: an attention, or a packed one of Q, K and V, for three."""
    if node.op_type == "Attention":
        return _STANDS_FOR[QUERY_KEY_VALUE]
    # A node may have a mark behind its name: of a layer's second run, or onnxruntime's of four-bit weights.
    part = (node.name or "").rpartition(".")[2]
    return next((count for packed, count in _STANDS_FOR.items() if part.startswith(packed)), 1)


class _Writer:
    """Inserts nodes into one graph, each shared constant and each quantized activation once."""

    def __init__(
        self, graph: ir.Graph, activation: Activation, *, bounded: bool, steps: Mapping[str, Array] | None = None
    ) -> None:
        self.graph = graph
        self.activation = activation
        self.steps = steps or {}
        self.bounded = bounded
        self.constants: dict[str, ir.Value] = {}
        self.quantized: dict[ir.Value, Quantized] = {}
        self.one: ir.Value | None = None

    def rewrite(self, layers: str, keep: Collection[str]) -> None:
        for node in list(self.graph):
            if not (node.name or "").startswith(f"{layers}.") or origin(node.name or "") in keep:
                continue
            if node.op_type == "MatMul" and _array(node.inputs[1]) is not None:
                name = node.name or ""
                product, left = self.product(node, node.inputs[0], _array(node.inputs[1]), name, origin(name))
                _replace(node, product)
                self.place_bias(product, left)
            elif node.op_type == "Attention" and node.domain == CONTRIB:
                self.attention(node)
        self.embeddings()
        self.halve()

    def add(self, before: ir.Node, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> Any:
        """Insert a node; return its output, or a tuple of them."""
        domain = CONTRIB if op_type in _CONTRIBUTED else ""
        node = ir.node(op_type, inputs, attributes, domain=domain, num_outputs=outputs)
        self.graph.insert_before(before, node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def constant(self, name: str, array: Array | np.generic) -> ir.Value:
        if name not in self.constants:
            tensor = ir.tensor(np.asarray(array), name=name)
            value = ir.Value(
                name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            self.graph.register_initializer(value)
            self.constants[name] = value
        return self.constants[name]

    def computed_one(self) -> ir.Value:
        # A constant scale would be multiplied with the columns' when the file is loaded, and nothing be merged.
        if self.one is None:
            first = self.graph[0]
            ids = next(value for value in self.graph.inputs if value.name == "input_ids")
            sign = self.add(first, "Sign", self.add(first, "Size", ids))
            self.one = self.add(first, "Cast", sign, to=ir.DataType.FLOAT)
        return self.one

    def product(
        self, before: ir.Node, source: ir.Value | None, weight: Array, name: str, weights: str
    ) -> tuple[ir.Value, Quantized]:
        """A matrix product with a constant weight, in int8; nodes of one ``weights`` share them.

        Returns:
            The product, and what was multiplied.
        """
        assert source is not None  # noqa: S101 - a product has two inputs
        if source not in self.quantized:
            step = self.steps.get(source.name or "")
            self.quantized[source] = (
                self.activation(self, before, source) if step is None else fixed(self, before, source, step)
            )
        left = self.quantized[source]
        unit = np.asarray(left.unit, np.float32)
        rounded, scale = quantize_weight(weight * unit[:, None] if unit.ndim else weight, 0, bounded=self.bounded)
        right = self.constant(f"{weights}.weight.int8", rounded)
        columns = self.constant(f"{weights}.weight.scale", scale[0] if unit.ndim else scale[0] * unit)
        accumulated = self.add(before, "MatMulInteger", left.value, right, left.zero_point)
        accumulated.producer().name = name
        # In this form, and in no other, onnxruntime merges the four nodes into one (MatMulIntegerToFloat).
        scales = self.add(before, "Mul", left.scale, columns)
        return self.add(before, "Mul", self.add(before, "Cast", accumulated, to=ir.DataType.FLOAT), scales), left

    def place_bias(self, product: ir.Value, left: Quantized) -> None:
        """Put the bias behind a product where onnxruntime's kernel adds it, or where it surely leaves it alone."""
        for node in [use.node for use in product.uses()]:
            bias = _bias_of(node)
            if bias is None:
                continue
            if not left.is_shared:
                if node.op_type == "Add":
                    _replace(node, self.add(node, "Sum", *node.inputs))
                continue
            rest = [value for value in node.inputs if value not in (product, bias)]
            biased = self.add(node, "Add", product, bias)
            if node.op_type == "BiasGelu":
                biased = self.add(node, "Gelu", biased)
            elif rest:
                biased = self.add(node, "Sum", biased, *rest)
            _replace(node, biased)

    def attention(self, node: ir.Node) -> None:
        """Take Q, K and V out of a fused attention, as one product of one quantized activation."""
        source, weight, bias, key_mask, _, attention_bias = (*node.inputs, None, None, None)[:6]
        sizes = node.attributes.get_ints("qkv_hidden_sizes")
        packed, left = self.product(
            node,
            source,
            _array(weight),
            f"{node.name}.{QUERY_KEY_VALUE}",
            f"{origin(node.name or '')}.{QUERY_KEY_VALUE}",
        )
        if left.is_shared and bias is not None:
            packed, bias = self.add(node, "Add", packed, bias), None
        split = self.constant(f"{origin(node.name or '')}.sizes", np.array(sizes, np.int64))
        parts = self.add(node, "Split", packed, split, outputs=3, axis=-1)
        attributes: dict[str, Any] = {"num_heads": node.attributes.get_int("num_heads")}
        if "scale" in node.attributes:
            attributes["scale"] = node.attributes.get_float("scale")
        _replace(node, self.add(node, "MultiHeadAttention", *parts, bias, key_mask, attention_bias, **attributes))

    def embeddings(self) -> None:
        """Store the word embeddings in int8, one scale per row: only the rows that a text uses are converted."""
        ids = next(value for value in self.graph.inputs if value.name == "input_ids")
        for node in [use.node for use in ids.uses()]:
            source = node.inputs[0]
            table = _array(source) if node.op_type == "Gather" else None
            if source is None or table is None:
                continue
            name = source.name
            rows, scale = quantize_weight(table, axis=1)
            picked = self.add(node, "Gather", self.constant(f"{name}.int8", rows), ids, axis=0)
            scales = self.add(node, "Gather", self.constant(f"{name}.scale", scale), ids, axis=0)
            _replace(node, self.add(node, "Mul", self.add(node, "Cast", picked, to=ir.DataType.FLOAT), scales))

    def halve(self) -> None:
        """Store what is left in fp32 and large in fp16: a thousand times finer than the int8 beside it."""
        for value in list(self.graph.initializers.values()):
            array = _array(value)
            if not value.uses() or array is None or array.dtype != np.float32 or array.size < HALF_STORED_ELEMENTS:
                continue
            if array.ndim != 2 or np.abs(array).max() > np.finfo(np.float16).max:
                continue
            half = self.constant(f"{value.name}.fp16", array.astype(np.float16))
            value.replace_all_uses_with(self.add(self.graph[0], "Cast", half, to=ir.DataType.FLOAT))


def _bias_of(node: ir.Node) -> ir.Value | None:
    """The constant vector that a node adds to a product."""
    if node.op_type not in ("Add", "Sum", "BiasGelu"):
        return None
    vectors = [value for value in node.inputs if value is not None and len(value.shape or ()) == 1]
    return next((value for value in vectors if value.is_initializer()), None)


def _array(value: ir.Value | None) -> Any:
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _replace(node: ir.Node, new: ir.Value) -> None:
    new.shape, new.type = node.outputs[0].shape, node.outputs[0].type
    node.outputs[0].replace_all_uses_with(new)
