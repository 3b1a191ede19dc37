"""Learning rates: the wider a student, and the lower a layer, the smaller its steps."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from compressor.architectures import Architecture
from compressor.recipe.learning import LEARNING_RATE

# The Trainer's own rule: neither biases nor normalisations decay.
_UNDECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]

_NARROW = 384

# Inside the encoder, but behind its layers.
_ABOVE = ("pooler", "final_norm")


def peak_of(width: int) -> float:
    """Learning rate for a student, where none is asked for.

    What Adam may change at once in a matrix falls with the number of its inputs (Yang et al. 2022,
    https://arxiv.org/abs/2203.03466, table 3). The constant was found for MiniLM.

    Args:
        width: Of its hidden states.
    """
    return LEARNING_RATE * min(1.0, _NARROW / width)


def parameter_groups(
    model: nn.Module, architecture: Architecture, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Group the weights of a model for an optimiser.

    A layer has the learning rate of the layer above it times ``layer_decay``; the head has the full one, the
    embeddings (and MPNet's position bias, which all layers share) the smallest (Howard and Ruder 2018,
    https://arxiv.org/abs/1801.06146, section 3.2, with 1/2.6; Clark et al. 2020, https://arxiv.org/abs/2003.10555,
    table 7, with 0.8 and 0.9).

    Args:
        model: Weights that need no gradient are left out.
        architecture: Says where its layers are.
        learning_rate: Of the head, and of all where ``layer_decay`` is 1: then the groups are the Trainer's own.
        layer_decay: Above 0, at most 1.
        weight_decay: Of matrices; biases and normalisations have none.

    Returns:
        Groups with ``params``, ``lr`` and ``weight_decay``, the full learning rate first.
    """
    decayed = set(get_parameter_names(model, [nn.LayerNorm], _UNDECAYED))  # type: ignore[no-untyped-call]
    total = len(list(model.get_submodule(architecture.layers).children()))
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            depth = 0 if layer_decay == 1 else depth_of(name, architecture.layers, total)
            groups.setdefault((depth, name not in decayed), []).append(weight)
    return [
        {
            "params": weights,
            "lr": learning_rate * layer_decay**depth,
            "weight_decay": 0.0 if undecayed else weight_decay,
        }
        for (depth, undecayed), weights in sorted(groups.items(), key=lambda item: item[0])
    ]


def depth_of(name: str, layers: str, total: int) -> int:
    """Say how far a weight lies below the head.

    Args:
        name: Of the weight in the model.
        layers: Path of the encoder's layers.
        total: Number of layers that have weights of their own.

    Returns:
        0 for the head, the pooler and a last norm, 1 for the last layer, ``total`` for the first, ``total + 1`` for the
        embeddings and what all layers share.
    """
    if name.startswith(f"{layers}."):
        return total - int(name[len(layers) + 1 :].partition(".")[0])
    base = layers.partition(".")[0]
    is_below = name.startswith(f"{base}.") and not any(part in name for part in _ABOVE)
    return total + 1 if is_below else 0
