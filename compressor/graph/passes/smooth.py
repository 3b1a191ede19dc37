"""Fixed steps for the activations that layer norms write: one for each channel, taken up by the products' weights.

A scale per token is as coarse as the token's largest channel, and a few channels of a layer norm are ten times as large
as the others. A step for each channel, from training texts, is finer for the rest and needs no look at the token; as it
does not depend on the neighbours, a text keeps its one answer. Attention and GELU have no such channels, and GELU's
values reach too far to be fixed: they keep one scale per token.

Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models (2023),
https://arxiv.org/abs/2211.10438
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from compressor.graph.files import LAYERS_KEY
from compressor.graph.passes.scales import maker
from compressor.graph.passes.walk import array

Array = npt.NDArray[Any]
# How much of a channel's size the weights take up: SmoothQuant's alpha.
_ALPHA = 0.85
_LEVELS = 127
_TINY = 1e-6


def sources(model: ir.Model) -> dict[str, list[ir.Value]]:
    """Activations whose steps can be fixed, by name, and the weights that they are multiplied with.

    Args:
        model: A graph that ``fusion.fuse`` wrote.
    """
    inside = f"{model.metadata_props[LAYERS_KEY]}."
    found: dict[ir.Value, list[ir.Value]] = {}
    for node in model.graph:
        weight = node.inputs[1] if node.op_type in ("MatMul", "Attention") else None
        value = node.inputs[0] if node.inputs else None
        if weight is None or value is None or not weight.is_initializer() or not (node.name or "").startswith(inside):
            continue
        made_by = maker(value)
        if made_by is not None and made_by.op_type == "LayerNormalization":
            found.setdefault(value, []).append(weight)
    # Layers that share their weights would have to share the steps too.
    return {
        value.name or "": weights
        for value, weights in found.items()
        if all(len(weight.uses()) == 1 for weight in weights)
    }


def choose_steps(model: ir.Model, peaks: Mapping[str, Array]) -> dict[str, Array]:
    """Choose the steps of a byte.

    Args:
        model: The graph.
        peaks: For each of ``sources`` the largest magnitude of each channel.

    Returns:
        For each name a float32 array of shape (width,).
    """
    steps = {}
    for name, weights in sources(model).items():
        peak = np.maximum(peaks[name].astype(np.float64), _TINY)
        rows = np.maximum(np.max([np.abs(array(weight)).max(axis=1) for weight in weights], axis=0), _TINY)
        factor = peak**_ALPHA / rows ** (1 - _ALPHA)
        steps[name] = (factor * ((peak / factor).max() / _LEVELS)).astype(np.float32)
    return steps
