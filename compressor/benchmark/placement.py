"""Which execution provider runs which node, and whether that is where the model was to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compressor.benchmark.plan import EXECUTION_PROVIDERS, Provider
from compressor.errors import ProviderError

# Nodes on shapes and masks stay on the CPU on purpose; these are where an encoder's time goes.
HEAVY = ("MatMul", "Gemm", "Attention", "LayerNorm", "Gelu", "Softmax", "Einsum", "Conv", "Erf")


@dataclass(frozen=True)
class PlacedNode:
    """One node of the graph.

    Attributes:
        op_type: Its operator, as in ``MatMul``.
        provider: What runs it, as in ``CPUExecutionProvider``.
    """

    op_type: str
    provider: str

    @property
    def is_heavy(self) -> bool:
        """Whether it computes on the hidden states: a matrix product, an attention, a norm."""
        return any(name in self.op_type for name in HEAVY)


def read_placement(inner: Any) -> tuple[PlacedNode, ...] | None:
    """Read where the nodes of a session run.

    Args:
        inner: onnxruntime's session, opened with ``record_placement``.

    Returns:
        The nodes as they were when onnxruntime divided the graph among the providers; fusions that come
        later stay on a node's provider. ``None`` before onnxruntime 1.24, which does not tell.
    """
    tell = getattr(inner, "get_provider_graph_assignment_info", None)
    if tell is None:
        return None
    return tuple(PlacedNode(node.op_type, part.ep_name) for part in tell() for node in part.get_nodes())


def nodes_by_provider(placed: Sequence[PlacedNode]) -> Mapping[str, int]:
    """Count the nodes of each execution provider, the busiest first."""
    return dict(Counter(node.provider for node in placed).most_common())


def check_placement(name: str, provider: Provider, placed: Sequence[PlacedNode] | None) -> None:
    """Make sure that a model computes where it was to.

    A session whose first provider is CUDA can still leave any node without a CUDA kernel to the CPU,
    and says nothing.

    Args:
        name: The file, for the message.
        provider: Where it was to run.
        placed: From ``read_placement``.

    Raises:
        ProviderError: A node that computes on the hidden states runs elsewhere, or on a GPU nobody knows.
    """
    wanted = EXECUTION_PROVIDERS[provider]
    if placed is None:
        if provider == "cpu":
            return  # there is nowhere else
        raise ProviderError(
            f"Where the nodes of {name} run is not known: this onnxruntime does not tell.",
            "Install onnxruntime-gpu 1.24 or later, or measure with --provider cpu.",
        )
    strays = [node for node in placed if node.is_heavy and node.provider != wanted]
    if strays:
        heavy = sum(node.is_heavy for node in placed)
        types = ", ".join(f"{op} ({count})" for op, count in Counter(node.op_type for node in strays).most_common())
        places = ", ".join(dict.fromkeys(node.provider for node in strays))
        raise ProviderError(
            f"{name} was to run on {wanted}, but {len(strays)} of its {heavy} heavy nodes run on {places}: {types}.",
            "These have no kernel there, as dynamic int8 has none on CUDA. Measure an fp32 or fp16 file, "
            "or measure with --provider cpu.",
        )
