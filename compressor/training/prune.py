"""Unstructured magnitude pruning while a student learns.

The sparsity rises along the cubic schedule of Zhu and Gupta (2017, https://arxiv.org/abs/1710.01878) and the
threshold is global over all linear weights of the encoder's layers, as in the magnitude baseline of Sanh et
al. (2020, https://arxiv.org/abs/2005.07683). Zeros shrink the compressed file; onnxruntime does not run
faster on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressor.architectures import Architecture
from compressor.slimming.schedule import last_choice


def encoder_weights(model: nn.Module, architecture: Architecture) -> list[nn.Parameter]:
    """Weights of every linear product in the encoder's layers, in order."""
    layers = model.get_submodule(architecture.layers).children()
    return [layer.get_parameter(f"{path}.weight") for layer in layers for path in architecture.paths(layer)]


def magnitude_masks(
    weights: list[nn.Parameter], sparsity: float, remaining: Mapping[int, Tensor] | None = None
) -> list[Tensor]:
    """Choose the smallest weights of all matrices together.

    Args:
        weights: Matrices that share one threshold.
        sparsity: Share to remove, in 0..1.
        remaining: From the ``id`` of a matrix to bools of its shape, False where it will be cut off: such weights
            neither count nor are chosen.

    Returns:
        One boolean mask per matrix, True where a weight stays; ``round(sparsity * total)`` are False, and
        with them any weight of the same magnitude as the largest removed one.
    """
    left = [(remaining or {}).get(id(weight)) for weight in weights]
    candidates = [
        weight.detach().abs().flatten() if mask is None else weight.detach().abs()[mask]
        for weight, mask in zip(weights, left, strict=True)
    ]
    count = round(sparsity * sum(part.numel() for part in candidates))
    if count == 0:
        return [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    threshold = torch.cat(candidates).kthvalue(count).values
    return [
        weight.detach().abs() > threshold if mask is None else (weight.detach().abs() > threshold) | ~mask
        for weight, mask in zip(weights, left, strict=True)
    ]


class MagnitudePruner(TrainerCallback):
    """Holds the masks during training.

    Args:
        weights: Matrices to prune.
        sparsity: Sparsity at the end, in 0..1.
        remaining: What a slimmer will leave of the matrices, at present; see ``magnitude_masks``.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        sparsity: float,
        remaining: Callable[[], Mapping[int, Tensor]] = dict,
    ) -> None:
        self._weights = weights
        self._remaining = remaining
        self._final = sparsity
        self._masks: list[Tensor] = []
        self._reached = 0.0

    def finished(self) -> bool:
        """Say whether the full sparsity is reached; earlier weights must not be kept as the best."""
        return self._reached >= self._final

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take up the masks of an interrupted run: what is zero stays zero."""
        if state.global_step > 0:
            self._reached = self._planned(state)[1]
            self._masks = [weight.detach() != 0 for weight in self._weights]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Raise the sparsity at the steps of the schedule; hold the masks at every step."""
        step, sparsity = self._planned(state)
        if step == state.global_step and sparsity > self._reached:
            self._masks = magnitude_masks(self._weights, sparsity, self._remaining())
            self._reached = sparsity
        for weight, mask in zip(self._weights, self._masks, strict=False):
            weight.data.mul_(mask)

    def _planned(self, state: TrainerState) -> tuple[int, float]:
        """Return the latest step, up to now, at which masks are chosen, and the sparsity due there."""
        step, share = last_choice(int(state.global_step), int(state.max_steps))
        return step, share * self._final
