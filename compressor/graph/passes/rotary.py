"""Attention with rotated queries and keys, of one product that makes Q, K and V, as fused operators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from compressor.graph.files import CONTRIB
from compressor.graph.passes.padding import reads
from compressor.graph.passes.walk import initializer, producer, scalar, split_constant

# As onnxruntime hides padding: far below every score, and finite, so that a query that sees nothing stays a number.
_HIDDEN = np.float32(-1e4)


@dataclass(frozen=True)
class Rotated:
    """A third of a product, split into heads, and rotated or not.

    Attributes:
        product: What the product gives, of shape (batch, sequence, 3 * heads * head size).
        part: 0 for queries, 1 for keys, 2 for values.
        angles: Of shape (1, sequence, head size / 2); ``None`` where nothing is rotated.
        factor: What it is multiplied with.
    """

    product: ir.Value
    part: int
    angles: ir.Value | None
    factor: float
    heads: int
    head_size: int


def match_rotated(value: ir.Value | None) -> Rotated | None:
    """Walk back from heads of queries, keys or values to their product."""
    factor, angles = 1.0, None
    while value is not None:
        if (node := producer(value, "Mul", "Div")) and (split := split_constant(node)):
            value, factor = split[0], factor * split[1]
        elif node := producer(value, "Reshape", "Transpose", "Squeeze"):
            value = node.inputs[0]
        elif (turn := _turned(value)) and angles is None:
            value, angles = turn
        else:
            break
    cut = producer(value, "Slice")
    whole = producer(cut.inputs[0], "Reshape") if cut else None
    shape = whole.outputs[0].shape if whole else None
    part = scalar(cut.inputs[1]) if cut else None
    if cut is None or whole is None or shape is None or len(shape) != 5 or shape[2] != 3 or part is None:
        return None
    heads, head_size, product = shape[3], shape[4], whole.inputs[0]
    if (
        product is None
        or not isinstance(heads, int)
        or not isinstance(head_size, int)
        or scalar(cut.inputs[3]) not in (2, -3)
    ):
        return None
    return Rotated(product, int(part), angles, factor, heads, head_size)


def _turned(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """Find x and the angles in x·cos + (-x₂, x₁)·sin, x₁ and x₂ the halves of x."""
    added = producer(value, "Add")
    if added is None:
        return None
    for first, second in (added.inputs, reversed(added.inputs)):
        straight, crossed = producer(first, "Mul"), producer(second, "Mul")
        if straight is None or crossed is None:
            continue
        source, cosine = straight.inputs
        halves, sine = crossed.inputs
        angles = _angles(cosine, "Cos")
        if source is not None and angles is not None and angles is _angles(sine, "Sin") and _swaps(halves, source):
            return source, angles
    return None


def _angles(value: ir.Value | None, op_type: str) -> ir.Value | None:
    unsqueezed = producer(value, "Unsqueeze")
    waves = producer(unsqueezed.inputs[0], op_type) if unsqueezed else None
    twice = producer(waves.inputs[0], "Concat") if waves else None
    if twice is None or len(twice.inputs) != 2 or twice.inputs[0] is not twice.inputs[1]:
        return None
    return twice.inputs[0]


def _swaps(value: ir.Value | None, source: ir.Value) -> bool:
    """Whether a value is the halves of another, the second negated and first."""
    joined = producer(value, "Concat")
    if joined is None or len(joined.inputs) != 2:
        return False
    negated = producer(joined.inputs[0], "Neg")
    upper, lower = (producer(item, "Slice") for item in (negated.inputs[0] if negated else None, joined.inputs[1]))
    if upper is None or lower is None or upper.inputs[0] is not source or lower.inputs[0] is not source:
        return False
    return scalar(lower.inputs[1]) == 0 and scalar(lower.inputs[2]) == scalar(upper.inputs[1])


def rotated_node(
    graph: ir.Graph,
    before: ir.Node,
    parts: tuple[Rotated, Rotated, Rotated],
    scale: float,
    key_mask: ir.Value | None,
    bias: ir.Value | None,
) -> ir.Node | None:
    """Build the attention of rotated queries and keys; ``None`` where its parts are not of one product."""
    query, key, value = parts
    if [part.part for part in parts] != [0, 1, 2] or len({part.product for part in parts}) != 1:
        return None
    if query.angles is None or query.angles is not key.angles or value.angles is not None:
        return None
    if not math.isclose(value.factor, 1.0):
        return None
    sizes = initializer(graph, f"split_{query.heads * query.head_size}", np.full(3, query.heads * query.head_size))
    split = _insert(before, ir.node("Split", [query.product, sizes], {"axis": -1}, num_outputs=3))
    start = initializer(graph, "first_position", np.zeros(1, np.int64))
    batch = initializer(graph, "batch_axis", np.zeros(1, np.int64))
    caches = [
        _insert(before, ir.node("Squeeze", [_insert(before, ir.node(wave, [query.angles])).outputs[0], batch])).outputs[
            0
        ]
        for wave in ("Cos", "Sin")
    ]
    turned = [
        _insert(
            before,
            ir.node("RotaryEmbedding", [item, start, *caches], {"num_heads": query.heads}, domain=CONTRIB),
        ).outputs[0]
        for item in split.outputs[:2]
    ]
    return ir.node(
        "MultiHeadAttention",
        [*turned, split.outputs[2], None, key_mask, bias],
        {"num_heads": query.heads, "scale": scale * query.factor * key.factor},
        domain=CONTRIB,
    )


def window_of(addend: ir.Value) -> ir.Value | None:
    """Take the padding out of an addend that hides padding and what is too far away; what is left is finite.

    Returns:
        Of shape (1, 1, queries, keys), or ``None`` where it is of another form.
    """
    choice = producer(addend, "Where")
    seen = choice.inputs[0] if choice else None
    if choice is None or seen is None or scalar(choice.inputs[1]) != 0.0 or choice.graph is None:
        return None
    while seen is not None and "attention_mask" in reads(seen):
        both = producer(seen, "And")
        seen = next((item for item in both.inputs if item is not None and not reads(item)), None) if both else None
    if seen is None or seen.shape is None or choice.inputs[1] is None:
        return None
    hidden = initializer(choice.graph, "too_far", np.asarray(_HIDDEN))
    node = _insert(choice, ir.node("Where", [seen, choice.inputs[1], hidden]))
    node.outputs[0].shape, node.outputs[0].type = seen.shape, addend.type
    return node.outputs[0]


def _insert(before: ir.Node, node: ir.Node) -> ir.Node:
    # Only called with nodes that were found by walking a graph.
    assert before.graph is not None  # noqa: S101
    before.graph.insert_before(before, node)
    return node
