"""int8 weights as unsigned bytes: the kernels for these add two products in 32 bits on every processor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from compressor.graph.passes.walk import array, initializer

_ZERO_POINT = 3


def use_unsigned_weights(model: ir.Model) -> None:
    """Shift the weights of every product by 128, and say so in its zero point, in place.

    A weight keeps its value to the last bit. onnxruntime's kernel for unsigned weights on x86 without VNNI is slower
    than the one for signed weights, and has no 16-bit sums that saturate.
    """
    graph = model.graph
    shifted: dict[ir.Value, ir.Value] = {}
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMulInteger" else None
        if weight is None or weight.dtype != ir.DataType.INT8:
            continue
        if weight not in shifted:
            values = (array(weight).astype(np.int16) + 128).astype(np.uint8)
            shifted[weight] = initializer(graph, f"{weight.name}.unsigned", values)
        node.resize_inputs(_ZERO_POINT + 1)
        node.replace_input_with(1, shifted[weight])
        node.replace_input_with(_ZERO_POINT, initializer(graph, "int8.weight_zero_point", np.array(128, np.uint8)))
    for weight in shifted:
        graph.initializers.pop(weight.name or "")
