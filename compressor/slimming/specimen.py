"""A copy of a student at a size that is to be measured."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np
from torch import nn

from compressor.architectures import Architecture
from compressor.slimming.blocks import Encoder, blocks, layer_list
from compressor.slimming.latency import Point
from compressor.slimming.surgery import cut
from compressor.slimming.units import Units

Model = TypeVar("Model", bound=Encoder)


def specimen(model: Model, architecture: Architecture, point: Point) -> Model:
    """Copy the first layers of a model, each with its first heads and neurons.

    Which units stay makes no difference to the time that they take.

    Args:
        model: The student before it is pruned; it is left as it is.
        architecture: Its row.
        point: The size; no larger than the student.
    """
    found = copy.deepcopy(model)
    found.config.num_hidden_layers = point.layers
    layers = layer_list(found, architecture)
    if isinstance(layers, nn.ModuleList):
        del layers[point.layers :]
    whole = blocks(found, architecture)
    kept = Units(
        tuple(np.arange(block.heads) < point.heads for block in whole),
        tuple(np.arange(block.neurons) < point.neurons for block in whole),
    )
    cut(found, architecture, kept)
    return found
