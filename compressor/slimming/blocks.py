"""One encoder layer, seen as what can be cut: attention heads and feed-forward neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compressor.architectures import Architecture
from compressor.errors import TeacherError

PRODUCTS = (4, 6)
"""Matrix products of a layer that can be cut: Q, K, V apart or packed in one; output; widen; narrow."""

POSITION_PRODUCTS = ("pos_key_proj", "pos_query_proj")
"""What attention modules call further products with one part per head, of relative positions (DeBERTa)."""


class Encoder(Protocol):
    """A model of transformers, with or without a head, or what holds one under its prefix."""

    base_model_prefix: str
    config: Any


@dataclass(frozen=True)
class Block:
    """The products of one layer, as live modules.

    Attributes:
        attention: The module that splits its hidden states into heads.
        inward: What makes queries, keys and values: three weights of shape (heads * head_size, hidden), or the three
            packed into one on top of each other; and products of positions, where a family has them.
        output: Weight of shape (hidden, heads * head_size).
        widen: Weight of shape (neurons, hidden), or (2 * neurons, hidden) with gates below the values or above them.
        narrow: Weight of shape (hidden, neurons).
        head_size: Width of one head. Cutting heads leaves it as it is.
    """

    attention: nn.Module
    inward: tuple[nn.Linear, ...]
    output: nn.Linear
    widen: nn.Linear
    narrow: nn.Linear
    head_size: int

    @property
    def heads(self) -> int:
        """Heads that the layer has at present."""
        return self.output.in_features // self.head_size

    @property
    def neurons(self) -> int:
        """Neurons that ``narrow`` reads at present."""
        return self.narrow.in_features


def check_family(architecture: Architecture) -> None:
    """Make sure that the layers of a family have heads and neurons that can be told apart.

    Raises:
        TeacherError: They do not consist of the products that are known.
    """
    if len(architecture.linears) not in PRODUCTS:
        raise TeacherError(
            f"Heads and neurons of {architecture.model_type!r} models cannot be pruned: "
            f"their layers are built otherwise, of {len(architecture.linears)} kinds of products.",
            "Run without --prune-heads, --prune-ffn and --target-speedup.",
        )


def blocks(model: Encoder, architecture: Architecture) -> tuple[Block, ...]:
    """Find what can be cut in each layer of an encoder.

    Args:
        model: Any model of the family.
        architecture: Its row; ``linears`` names a layer's products in the order of ``PRODUCTS``.

    Returns:
        One block per set of weights: a layer that is run several times is one block.

    Raises:
        TeacherError: The family's layers do not consist of these products.
    """
    check_family(architecture)
    head_size = model.config.hidden_size // model.config.num_attention_heads
    return tuple(_block(layer, architecture.linears, head_size) for layer in layer_list(model, architecture).children())


def layer_list(model: Encoder, architecture: Architecture) -> nn.Module:
    """Find the module whose children are the encoder's layers."""
    # The table's path starts at a model with a head; an encoder alone starts one step further down.
    encoder: Any = getattr(model, model.base_model_prefix, model)
    layers: nn.Module = encoder.get_submodule(architecture.layers.removeprefix(f"{model.base_model_prefix}."))
    return layers


def rows_of(linear: nn.Linear, units: int, width: int) -> Tensor:
    """Find which rows of a product's weight make which unit.

    Args:
        linear: Its outputs are ``units * width``, once or packed several times on top of each other.
        units: Heads or neurons.
        width: Of one unit in one packed part.

    Returns:
        Row numbers, int64 of shape (units, packed * width).
    """
    rows = torch.arange(linear.out_features).reshape(-1, units, width)  # [packed, units, width]
    return rows.transpose(0, 1).reshape(units, -1)


def _block(layer: nn.Module, paths: tuple[str, ...], head_size: int) -> Block:
    # A path that names something else is a mistake in the table, not of the user.
    found = [module for module in map(layer.get_submodule, paths) if isinstance(module, nn.Linear)]
    *inward, output, widen, narrow = found
    attention = layer.get_submodule(paths[0].rpartition(".")[0])
    positions = [getattr(attention, name, None) for name in POSITION_PRODUCTS]
    inward += [module for module in positions if isinstance(module, nn.Linear)]
    return Block(attention, tuple(inward), output, widen, narrow, head_size)
