"""Gradients of several processes, averaged before each step.

Each process has gathered the gradients of its share of the batch, by as many backward passes as are accumulated. One
exchange follows, so that modules need no wrapper: what hangs on them, and which of them take part in a loss, is left to
the objective.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor import processes
from compressor.errors import StageError


class SharedGradients:
    """Averages the gradients of a model, and the loss, over the processes.

    Args:
        model: Its weights are the same in all of them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._moved: list[bool] = []
        self._own: Tensor | None = None

    def after_backward(self, loss: Tensor, *, is_step: bool) -> Tensor:
        """Take note of a backward pass; before a step, average.

        Args:
            loss: Of this process, over the number of passes that are accumulated.
            is_step: Whether a step follows.

        Returns:
            What to count as the loss: the sum over the passes before a step is the mean over the processes.
        """
        so_far = loss if self._own is None else self._own + loss
        if not is_step:
            self._own = so_far
            return loss
        self._own = None
        mean = so_far.detach().clone()
        processes.average([*self._gradients(), mean])
        return loss + (mean - so_far)

    def _gradients(self) -> list[Tensor]:
        has = [weight.grad is not None for weight in self._weights]
        if not self._moved:
            # A weight outside of the loss has none anywhere, and the optimiser must not decay it.
            self._moved = [any(each) for each in zip(*processes.gathered(has), strict=True)]
        if any(own and not moved for own, moved in zip(has, self._moved, strict=True)):
            raise StageError(
                "A weight got its first gradient after the first step, which the processes cannot exchange.",
                "Run the command in one process.",
            )
        found = []
        for weight, moved in zip(self._weights, self._moved, strict=True):
            if moved and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            if weight.grad is not None:
                found.append(weight.grad)
        return found
