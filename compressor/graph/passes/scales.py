"""How an activation becomes uint8: by fixed steps, one scale for each token, or one for the whole tensor.

One scale per token costs four small nodes a product where onnxruntime has a single one for a whole tensor, so they are
chosen by their time: docs/quantization.md has what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Quantized:
    """An activation in uint8.

    Attributes:
        value: uint8 of shape (batch, sequence, width).
        scale: Of shape (batch, sequence, 1), or a scalar; 1 where the unit says all.
        is_shared: It is a scalar: one for all tokens.
        zero_point: A scalar.
        unit: What ``scale`` still has to be multiplied with: a number, which goes into the weights' scales, or one for
            each channel, which goes into the weights.
    """

    value: ir.Value
    scale: ir.Value
    is_shared: bool
    zero_point: ir.Value
    unit: float | Array


class Writer(Protocol):
    """What inserts nodes into a graph, and shares what can be shared."""

    def add(self, before: ir.Node, op_type: str, *inputs: ir.Value | None, outputs: int = 1, **attributes: Any) -> Any:
        """Insert a node; return its output, or a tuple of them."""

    def constant(self, name: str, array: Array | np.generic) -> ir.Value:
        """A constant of this name and content."""

    def computed_one(self) -> ir.Value:
        """The scalar 1, of which onnxruntime does not know that it is constant."""


@dataclass(frozen=True)
class _Range:
    """The bytes that an activation may become.

    Attributes:
        zero_point: The byte of 0.
        bound: An activation is never below ``-bound``; ``None`` where nothing is known.
    """

    zero_point: int
    bound: float | None

    @property
    def levels(self) -> int:
        """Bytes above that of 0: those that the largest value is divided into."""
        return 255 - self.zero_point

    @property
    def least_peak(self) -> float:
        """With a smaller largest value, the bytes below that of 0 would not reach ``-bound``."""
        return (self.bound or 0.0) * self.levels / max(self.zero_point, 1)


_SYMMETRIC = _Range(128, None)
# The least value of GELU is -0.16997, at -0.7518: few bytes hold what is negative, which leaves 223 in place of 127
# for the rest. A token without a value above 1.2 keeps the steps of that peak.
_GELU = _Range(32, 0.17)
_RANGES: Mapping[str, _Range] = {"Relu": _Range(0, 0.0), "BiasGelu": _GELU, "Gelu": _GELU, "FastGelu": _GELU}
_NOT_ZERO = 1e-10


def per_token(writer: Writer, before: ir.Node, source: ir.Value) -> Quantized:
    """Quantize x to round(x · levels / max|x|) + zero point, the maximum taken over each token.

    Args:
        writer: Of the graph.
        before: Where the nodes go.
        source: float32 of shape (batch, sequence, width).
    """
    producer = maker(source)
    found = _RANGES.get(producer.op_type, _SYMMETRIC) if producer is not None else _SYMMETRIC
    axes = writer.constant("int8.last_axis", np.array([-1], np.int64))
    # An activation function bounds its own minimum: there is nothing to look for on that side.
    magnitude = writer.add(before, "Abs", source) if found.bound is None else source
    peak = writer.add(before, "ReduceMax", magnitude, axes, keepdims=1)
    if producer is None or not _is_never_zero(producer):
        least = max(found.least_peak, _NOT_ZERO)
        peak = writer.add(before, "Clip", peak, writer.constant(f"int8.least_{least:.4g}", np.float32(least)))
    unit = np.float32(1 / found.levels)
    zero_point = writer.constant(f"int8.zero_point_{found.zero_point}", np.uint8(found.zero_point))
    # The quantizer's scale is one constant. A scale for each block (opset 21) would save the division, but the
    # CUDA provider takes such a node and has no kernel for its bytes. The unit goes into the weights' scales.
    shares = writer.add(before, "Div", source, peak)
    value = writer.add(before, "QuantizeLinear", shares, writer.constant(f"int8.unit_{found.levels}", unit), zero_point)
    return Quantized(value, peak, False, zero_point, float(unit))


def per_tensor(writer: Writer, before: ir.Node, source: ir.Value) -> Quantized:
    """Quantize with one scale and zero point for all tokens of a batch, as onnxruntime's own quantizer does."""
    value, scale, zero_point = writer.add(before, "DynamicQuantizeLinear", source, outputs=3)
    return Quantized(value, scale, True, zero_point, 1.0)


def fixed(writer: Writer, before: ir.Node, source: ir.Value, step: Array) -> Quantized:
    """Quantize with steps that were found beforehand; what is out of their reach becomes the largest byte.

    Args:
        writer: Of the graph.
        before: Where the nodes go.
        source: float32 of shape (batch, sequence, width).
        step: float32 of shape (width,).
    """
    zero_point = writer.constant(f"int8.zero_point_{_SYMMETRIC.zero_point}", np.uint8(_SYMMETRIC.zero_point))
    # onnxruntime's quantizer with a scale for each channel is a slow loop.
    scaled = writer.add(before, "Mul", source, writer.constant(f"{source.name}.per_step", 1 / step))
    value = writer.add(before, "QuantizeLinear", scaled, writer.constant("int8.one", np.float32(1)), zero_point)
    return Quantized(value, writer.computed_one(), True, zero_point, step)


def maker(value: ir.Value) -> ir.Node | None:
    """The node that makes a value's numbers, whichever of its tokens were picked."""
    node = value.producer()
    return maker(node.inputs[0]) if node is not None and node.op_type == "Slice" and node.inputs[0] else node


def _is_never_zero(node: ir.Node) -> bool:
    """Whether a token is never zero as a whole: a layer norm adds its bias even to a token without any contrast."""
    bias = node.inputs[2] if node.op_type == "LayerNormalization" and len(node.inputs) > 2 else None
    return bias is not None and bias.const_value is not None and bool(bias.const_value.numpy().any())


Activation = Callable[[Writer, ir.Node, ir.Value], Quantized]
