"""The last layer of a classifier, computed for the one token that its head reads.

A head that reads the first token throws the others away, and with them most of the last layer's work: the query, the
output projection and the whole feed-forward net are wanted for one token; only keys and values are wanted for all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from compressor.graph.files import CONTRIB
from compressor.graph.passes.int8 import KEY_VALUE
from compressor.graph.passes.walk import array, initializer, replace, scalar

_BY_TOKEN = frozenset(
    {"Add", "Sum", "Sub", "Mul", "Div", "Tanh", "Relu", "Gelu", "BiasGelu", "FastGelu", "Sigmoid", "LayerNormalization"}
)
_TOKENS, _QUERIES = 1, 2


def narrow_last_layer(model: ir.Model) -> bool:
    """Compute for the first token alone what nothing but the head's choice of that token reads, in place.

    Args:
        model: A graph that ``fusion.fuse`` wrote.

    Returns:
        Whether there was such work: not where the head reads all tokens (taggers, means over tokens).
    """
    graph = model.graph
    picks = [node for node in graph if _picks_first(node)]
    states = {node.inputs[0] for node in picks}
    last = states.pop() if len(states) == 1 else None
    if last is None:
        return False
    found = _narrow(last, picks)
    narrow = [node for node in graph if node in found]
    if not any(node.op_type == "MatMul" for node in narrow):
        return False
    _Writer(graph).narrow(narrow)
    RemoveUnusedNodesPass()(model)
    return True


def _picks_first(node: ir.Node) -> bool:
    """``states[:, 0]`` of (batch, sequence, width)."""
    if node.op_type != "Gather" or not _has_tokens(node.inputs[0]):
        return False
    index = node.inputs[1]
    single = index is not None and index.shape is not None and len(index.shape) == 0
    return node.attributes.get_int("axis", 0) == _TOKENS and single and scalar(index) == 0


def _narrow(states: ir.Value, readers: Collection[ir.Node]) -> set[ir.Node]:
    """Nodes that all their readers want for the first token alone.

    The walk ends at attentions that pack Q, K and V, and at keys and values: they are wanted for all tokens.
    """
    wanting, found = set(readers), set()
    pending = [states]
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is None or node in found or not _by_token(node) or not _wanted_once(node, wanting):
            continue
        found.add(node)
        wanting.add(node)
        pending.extend(_states_of(node))
    return found


def _wanted_once(node: ir.Node, wanting: Collection[ir.Node]) -> bool:
    """Whether nothing else reads a node, and nobody reads all tokens of it."""
    uses = [use for output in node.outputs for use in output.uses()]
    return (
        not any(output.is_graph_output() for output in node.outputs)
        and all(use.node in wanting for use in uses)
        and not any(_is_attention(use.node) and use.idx for use in uses)
    )


def _by_token(node: ir.Node) -> bool:
    """Whether a node computes each token of (batch, sequence, width) from the same token of its inputs."""
    if not _has_tokens(node.outputs[0]):
        return False
    if node.op_type == "Attention":
        # Layers that share their weights read them packed: apart, they would lie in the file twice.
        return _is_attention(node) and node.inputs[1] is not None and len(node.inputs[1].uses()) == 1
    if node.op_type == "MultiHeadAttention":
        return _has_tokens(node.inputs[0]) and all(_has_tokens(value) for value in node.inputs[1:3])
    if node.op_type == "Split":
        return node.attributes.get_int("axis", 0) in (-1, _TOKENS + 1)
    if node.op_type == "MatMul":
        return node.inputs[1] is not None and node.inputs[1].is_initializer()
    return node.op_type in _BY_TOKEN and all(
        value is None or _has_tokens(value) or (value.is_initializer() and len(value.shape or ()) <= 1)
        for value in node.inputs
    )


def _states_of(node: ir.Node) -> Iterator[ir.Value]:
    """Inputs of which a node reads the token that it writes."""
    inputs = node.inputs[:1] if _is_attention(node) else node.inputs
    yield from (value for value in inputs if value is not None and node.op_type != "Attention" and _has_tokens(value))


def _has_tokens(value: ir.Value | None) -> bool:
    """Of shape (batch, sequence, width)."""
    return (
        value is not None
        and not value.is_initializer()
        and value.shape is not None
        and len(value.shape) == 3
        and not isinstance(value.shape[_TOKENS], int)
    )


def _is_attention(node: ir.Node) -> bool:
    return node.domain == CONTRIB and node.op_type in ("Attention", "MultiHeadAttention")


class _Writer:
    """Changes one graph; each value is cut to its first token once."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.cuts: dict[ir.Value, ir.Value] = {}

    def narrow(self, nodes: list[ir.Node]) -> None:
        """Let nodes compute the first token alone; they are in the order of the graph."""
        inside = {output for node in nodes for output in node.outputs}
        outside = [{value for value in _states_of(node) if value not in inside} for node in nodes]
        for output in inside:
            if output.shape is not None:
                output.shape = ir.Shape([1 if axis == _TOKENS else size for axis, size in enumerate(output.shape)])
        for node, values in zip(nodes, outside, strict=True):
            for place, value in enumerate(node.inputs):
                if value in values and not (place and _is_attention(node)):
                    node.replace_input_with(place, self.cut(node, value))
            if node.op_type == "Attention":
                self.split(node)
            elif node.op_type == "MultiHeadAttention":
                query, key, value, bias, key_mask, scores = (*node.inputs, None, None, None)[:6]
                self.answer(node, query, (key, value), bias, key_mask, scores)

    def split(self, node: ir.Node) -> None:
        """Take the packed Q, K and V apart: a query of one token, keys and values of all."""
        source, weight, bias, key_mask, _, scores = (*node.inputs, None, None, None)[:6]
        # The operator has its hidden states: without them, the walk would not have come here.
        assert source is not None  # noqa: S101
        sizes = list(node.attributes.get_ints("qkv_hidden_sizes"))
        query_weight, other_weight = np.split(array(weight), sizes[:1], axis=1)
        query = self.product(node, self.cut(node, source), query_weight, "query")
        both = self.product(node, source, other_weight, KEY_VALUE)
        lengths = initializer(self.graph, f"{node.name}.sizes", np.array(sizes[1:], np.int64))
        parts = ir.node("Split", [both, lengths], {"axis": -1}, num_outputs=2)
        self.graph.insert_before(node, parts)
        self.answer(node, query, tuple(parts.outputs), bias, key_mask, scores)

    def answer(
        self,
        node: ir.Node,
        query: ir.Value | None,
        rest: tuple[ir.Value | None, ...],
        bias: ir.Value | None,
        key_mask: ir.Value | None,
        scores: ir.Value | None,
    ) -> None:
        """Put an attention of one query in the place of another.

        The query goes in twice: onnxruntime multiplies a single row by another routine, which adds up in an order that
        depends on how many keys there are, so that padding would change the last bits.
        """
        queries = self.add(node, "Concat", [query, query], axis=_TOKENS)
        if scores is not None:
            row = self.first(node, scores, _QUERIES)
            scores = self.add(node, "Concat", [row, row], axis=_QUERIES)
        attributes = {name: node.attributes[name] for name in ("num_heads", "scale") if name in node.attributes}
        attention = ir.Node(
            CONTRIB,
            "MultiHeadAttention",
            [queries, *rest, bias, key_mask, scores],
            attributes.values(),
            name=node.name,
        )
        output = node.outputs[0]
        attention.outputs[0].type, attention.outputs[0].name = output.type, f"{output.name}_twice"
        self.graph.insert_before(node, attention)
        answered = self.first(node, attention.outputs[0], _TOKENS)
        # ``replace`` wants the node that the value comes from.
        maker = answered.producer()
        assert maker is not None  # noqa: S101 - it was made above
        self.graph.remove(maker)
        replace(output, maker)

    def cut(self, before: ir.Node, value: ir.Value | None) -> ir.Value:
        """A value's first token, of shape (batch, 1, width)."""
        # Narrow nodes were matched by the inputs that are cut here.
        assert value is not None  # noqa: S101
        if value not in self.cuts:
            self.cuts[value] = self.first(before, value, _TOKENS)
        return self.cuts[value]

    def first(self, before: ir.Node, value: ir.Value, axis: int) -> ir.Value:
        bounds = [self.number(number) for number in (0, 1, axis)]
        found = self.add(before, "Slice", [value, *bounds])
        found.type = value.type
        if value.shape is not None:
            found.shape = ir.Shape([1 if place == axis else size for place, size in enumerate(value.shape)])
        return found

    def product(self, before: ir.Node, source: ir.Value, weight: np.ndarray, part: str) -> ir.Value:
        name = f"{before.name}.{part}"
        constant = initializer(self.graph, f"{name}.weight.T", np.ascontiguousarray(weight))
        found = self.add(before, "MatMul", [source, constant])
        maker = found.producer()
        assert maker is not None  # noqa: S101 - it was made above
        maker.name = name
        found.shape, found.type = ir.Shape([*(source.shape or ())[:2], weight.shape[1]]), source.type
        return found

    def add(self, before: ir.Node, op_type: str, inputs: list[ir.Value | None], **attributes: int) -> ir.Value:
        node = ir.node(op_type, inputs, attributes)
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def number(self, number: int) -> ir.Value:
        return initializer(self.graph, f"first_token.{number}", np.array([number], np.int64))
