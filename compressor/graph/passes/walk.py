"""Steps along the dataflow of a graph: who makes a value, who uses it, what a constant holds."""

from __future__ import annotations

import ast
from typing import Any

import numpy.typing as npt
import onnx_ir as ir


def module(node: ir.Node) -> str:
    """Path of the torch module that a node was exported from, as in ``bert.encoder.layer.0.output.dense``."""
    scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
    return ast.literal_eval(scopes)[-2] if scopes else ""


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes a value, if it is of these types."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types else None


def consumer(value: ir.Value, *op_types: str) -> ir.Node | None:
    """The one consumer of a value, if it is of these types."""
    nodes = {use.node for use in value.uses()}
    return next(iter(nodes)) if len(nodes) == 1 and next(iter(nodes)).op_type in op_types else None


def scalar(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    return float(value.const_value.numpy().item())


def split_constant(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Input and factor of a product or quotient with a constant number."""
    first, second = node.inputs
    if node.op_type == "Div":
        number = scalar(second)
        return (first, 1.0 / number) if first is not None and number else None
    for value, other in ((first, second), (second, first)):
        number = scalar(other)
        if value is not None and number is not None:
            return value, number
    return None


def split_bias(node: ir.Node | None) -> tuple[ir.Value, ir.Value] | None:
    """Input and bias of an addition of a constant vector."""
    if node is None or node.op_type != "Add":
        return None
    for value, bias in (tuple(node.inputs), tuple(reversed(node.inputs))):
        if value is not None and bias is not None and bias.is_initializer() and len(bias.shape or ()) == 1:
            return value, bias
    return None


def replace(old: ir.Value, node: ir.Node) -> None:
    """Put a node in the place of the one that made ``old``, under the same value name."""
    maker = old.producer()
    # Only called with values that were found by walking from a node of a graph.
    assert maker is not None  # noqa: S101
    assert maker.graph is not None  # noqa: S101
    new = node.outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    maker.graph.insert_before(maker, node)
    old.name = f"{old.name}_unfused"
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def once(graph: ir.Graph) -> None:
    """Give every node a name of its own, as onnxruntime wants it: a layer that is run again gets ``/1``, ``/2``, ..."""
    met: dict[str, int] = {}
    for node in graph:
        if node.name:
            count = met[node.name] = met.get(node.name, -1) + 1
            node.name = f"{node.name}/{count}" if count else node.name


def origin(name: str) -> str:
    """A node's name without the mark that ``once`` gave it: that of its module."""
    return name.partition("/")[0]


def computed(graph: ir.Graph) -> set[ir.Value]:
    """Values that depend on the graph's inputs; all others are constants, whatever computes them."""
    found = set(graph.inputs)
    for node in graph:
        if any(value in found for value in node.inputs if value is not None):
            found.update(node.outputs)
    return found


def array(value: ir.Value | None) -> npt.NDArray[Any]:
    """Content of a constant that a match has found."""
    # Checked when the block was matched.
    assert value is not None  # noqa: S101
    assert value.const_value is not None  # noqa: S101
    return value.const_value.numpy()


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """Add a constant, or find it again under its name: a layer that is run twice brings its weights along twice."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
