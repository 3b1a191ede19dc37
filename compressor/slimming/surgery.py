"""Cut heads and neurons out of an encoder for good: smaller matrices, the same function as with those units zeroed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressor.architectures import Architecture
from compressor.slimming.blocks import Block, Encoder, blocks, rows_of
from compressor.slimming.units import Units
from compressor.slimming.widths import Widths, read_widths, write_widths

HEAD_COUNTS = ("num_attention_heads", "n_heads")
"""What attention modules call their number of heads."""

ALL_HEADS = "all_head_size"
"""What attention modules call the width of all heads together."""

HEAD_BIASES = ("position_bias",)
"""Arguments of an attention module's forward with one slice per head, shape (batch, heads, query, key).

MPNet's encoder computes one such bias and hands it to every layer, so a layer that has lost heads picks its own slices.
"""


def cut(model: Encoder, architecture: Architecture, kept: Units) -> None:
    """Keep only the given heads and neurons, in place.

    The config is told: an even feed-forward width becomes its own, which plain transformers reloads; anything else is
    noted under ``compressor_widths``, which ``load_student`` reads. A model may be cut more than once.

    Args:
        model: An encoder, with or without a head.
        architecture: Its row.
        kept: True where a unit of the model as it is now stays; at least one of each kind in every layer.

    Raises:
        ValueError: The masks do not fit the model, or would empty a layer.
    """
    found = blocks(model, architecture)
    _check(found, kept)
    before = read_widths(model.config) or Widths.uncut(found)
    with torch.no_grad():
        for block, heads, neurons in zip(found, kept.heads, kept.neurons, strict=True):
            _cut_heads(block, torch.from_numpy(np.flatnonzero(heads)))
            _cut_neurons(block, torch.from_numpy(np.flatnonzero(neurons)))
    write_widths(
        model.config,
        Widths(
            heads=tuple(
                tuple(old[index] for index in np.flatnonzero(mask))
                for old, mask in zip(before.heads, kept.heads, strict=True)
            ),
            neurons=tuple(int(mask.sum()) for mask in kept.neurons),
        ),
    )


def silence(found: tuple[Block, ...], kept: Mapping[str, tuple[Tensor, ...]]) -> None:
    """Zero what units outside of ``kept`` feed into the products that follow, so that they have no effect.

    Args:
        found: Layers to change in place.
        kept: ``heads`` and ``neurons``: one bool tensor per layer, on the device of the weights.
    """
    with torch.no_grad():
        for block, heads, neurons in zip(found, kept["heads"], kept["neurons"], strict=True):
            block.output.weight.mul_(heads.repeat_interleave(block.head_size))
            block.narrow.weight.mul_(neurons)


def remaining(found: tuple[Block, ...], kept: Units) -> dict[int, Tensor]:
    """Find what ``cut`` would leave of each product's weight.

    Args:
        found: The layers.
        kept: True where a unit stays.

    Returns:
        From the ``id`` of a weight to bools of its shape, on its device; False where it goes.
    """
    left: dict[int, Tensor] = {}
    for block, heads, neurons in zip(found, kept.heads, kept.neurons, strict=True):
        for linear, mask, width in (
            *((part, heads, block.head_size) for part in block.inward),
            (block.widen, neurons, 1),
        ):
            stays = torch.zeros(linear.out_features, dtype=torch.bool)
            stays[rows_of(linear, len(mask), width)[torch.from_numpy(mask)].flatten()] = True
            left[id(linear.weight)] = stays.to(linear.weight.device)[:, None].expand_as(linear.weight)
        for linear, mask, width in ((block.output, heads, block.head_size), (block.narrow, neurons, 1)):
            stays = torch.from_numpy(mask).repeat_interleave(width)
            left[id(linear.weight)] = stays.to(linear.weight.device).expand_as(linear.weight)
    return left


def audible(found: tuple[Block, ...]) -> Units:
    """Read from the weights which units have any effect: what ``silence`` has zeroed has none."""

    def alive(weight: Tensor, width: int) -> Any:
        return (weight.detach() != 0).any(0).reshape(-1, width).any(1).cpu().numpy()

    return Units(
        tuple(alive(block.output.weight, block.head_size) for block in found),
        tuple(alive(block.narrow.weight, 1) for block in found),
    )


def _check(found: tuple[Block, ...], kept: Units) -> None:
    given = [(len(heads), len(neurons)) for heads, neurons in zip(kept.heads, kept.neurons, strict=True)]
    sizes = [(block.heads, block.neurons) for block in found]
    if given != sizes:
        raise ValueError(f"masks for (heads, neurons) {given} do not fit layers of {sizes}")
    if not all(mask.any() for mask in (*kept.heads, *kept.neurons)):
        raise ValueError("a layer would be left without a head or a neuron")


def _cut_heads(block: Block, heads: Tensor) -> None:
    if len(heads) == block.heads:
        return
    _choose_bias(block.attention, heads)
    for part in block.inward:
        _keep_rows(part, rows_of(part, block.heads, block.head_size)[heads].flatten().sort().values)
    _keep_columns(block.output, (heads[:, None] * block.head_size + torch.arange(block.head_size)).flatten())
    for name in HEAD_COUNTS:
        if hasattr(block.attention, name):
            setattr(block.attention, name, len(heads))
    if hasattr(block.attention, ALL_HEADS):
        setattr(block.attention, ALL_HEADS, len(heads) * block.head_size)


def _cut_neurons(block: Block, neurons: Tensor) -> None:
    if len(neurons) < block.neurons:
        _keep_rows(block.widen, rows_of(block.widen, block.neurons, 1)[neurons].flatten().sort().values)
        _keep_columns(block.narrow, neurons)


def _keep_rows(linear: nn.Linear, rows: Tensor) -> None:
    rows = rows.to(linear.weight.device)
    linear.weight = nn.Parameter(linear.weight[rows].clone(), linear.weight.requires_grad)
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows].clone(), linear.bias.requires_grad)
    linear.out_features = len(rows)


def _keep_columns(linear: nn.Linear, columns: Tensor) -> None:
    columns = columns.to(linear.weight.device)
    linear.weight = nn.Parameter(linear.weight[:, columns].clone(), linear.weight.requires_grad)
    linear.in_features = len(columns)


def _choose_bias(attention: nn.Module, heads: Tensor) -> None:
    """Let an attention that takes a bias per head pick the slices of the heads it still has."""
    parameters = inspect.signature(attention.forward).parameters
    names = tuple(name for name in HEAD_BIASES if name in parameters)
    if names:
        attention.register_forward_pre_hook(_BiasChoice(names, heads), with_kwargs=True)


@dataclass(frozen=True)
class _BiasChoice:
    """Narrows the biases per head on their way into an attention module."""

    names: tuple[str, ...]
    heads: Tensor

    def __call__(
        self, attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = inspect.signature(attention.forward).bind(*args, **kwargs)
        for name in self.names:
            bias = bound.arguments.get(name)
            if bias is not None:
                # It is the same for every text, so that one row of it will do, and is less to copy.
                bound.arguments[name] = bias[:1].index_select(1, self.heads.to(bias.device))
        return bound.args, bound.kwargs
