"""Which addend of an attention score does nothing but hide the padding: found by running it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

MASK_SHAPES = ((2, 5), (1, 7), (3, 4))


def int32_mask(graph: ir.Graph) -> ir.Value:
    """The attention mask as int32 of shape (batch, sequence), which the fused operator takes as it is."""
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    cast = ir.node("Cast", [mask], {"to": ir.DataType.INT32})
    cast.outputs[0].name = "key_mask"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(ir.DataType.INT32), mask.shape
    graph.insert_before(graph[0], cast)
    return cast.outputs[0]


def is_padding_mask(model: ir.Model, addend: ir.Value) -> bool:
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
    return reads(value) == {"attention_mask"}


def reads(value: ir.Value) -> set[str]:
    """Names of the inputs whose content, not only shape, reaches a value."""
    pending, seen, reached = [value], set(), set()
    while pending:
        item = pending.pop()
        if item in seen:
            continue
        seen.add(item)
        node = item.producer()
        if node is None:
            if item.is_graph_input():
                reached.add(item.name or "")
        elif node.op_type != "Shape":
            pending.extend(entry for entry in node.inputs if entry is not None)
    return reached


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
