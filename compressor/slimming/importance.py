"""How much each attention head and each feed-forward neuron matters, by magnitude or by first-order Taylor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compressor import processes
from compressor.slimming.blocks import Block, rows_of
from compressor.slimming.units import Units

Loss = Callable[[PreTrainedModel, Mapping[str, Tensor]], Tensor]
"""(model, batch) -> mean loss over the batch, a scalar."""


def magnitude(blocks: Sequence[Block]) -> Units:
    """Norm of all weights that would go with a unit.

    A head owns its rows of Q, K and V and its columns of the output product, a neuron its row of ``widen`` and its
    column of ``narrow``: ``sqrt(sum of squares)`` over these (Han et al. 2015, https://arxiv.org/abs/1506.02626, for
    whole units as in Li et al. 2017, https://arxiv.org/abs/1608.08710).
    """
    return Units(
        tuple(_norms(block.inward, block.output, block.heads) for block in blocks),
        tuple(_norms([block.widen], block.narrow, block.neurons) for block in blocks),
    )


class Taylor:
    """First-order estimate of the loss that removing a unit would cost, gathered while gradients flow.

    A gate of 1 on a unit's output y has the gradient ``sum(y * dL/dy)``, which is the change of the loss to first order
    when the gate closes. Its absolute value is taken for each example and averaged over examples: for heads as in
    Michel et al. (2019, https://arxiv.org/abs/1905.10650, equation 2), for neurons as in Molchanov et al. (2017,
    https://arxiv.org/abs/1611.06440, equation 8). No gate is built: y and its gradient are at hand where y enters the
    product that follows, so this costs one elementwise pass beside the products of a step.

    Forward passes without gradients (evaluation) leave no trace. The loss has to be a mean over the batch. A layer that
    is run several times has the mean of its runs.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = tuple(blocks)
        self._sums = {f"heads.{index}": torch.zeros(block.heads) for index, block in enumerate(blocks)}
        self._sums |= {f"neurons.{index}": torch.zeros(block.neurons) for index, block in enumerate(blocks)}
        self._rows = dict.fromkeys(self._sums, 0.0)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def attach(self) -> None:
        """Begin to watch."""
        for index, block in enumerate(self._blocks):
            self._watch(block.output, f"heads.{index}", block.head_size)
            self._watch(block.narrow, f"neurons.{index}", 1)

    def detach(self) -> None:
        """Stop watching; what was gathered stays."""
        while self._hooks:
            self._hooks.pop().remove()

    def read(self) -> Units:
        """Mean over the examples seen; all zeros before the first."""
        found = {name: _array(total / max(self._rows[name], 1e-12)) for name, total in self._sums.items()}
        layers = range(len(self._blocks))
        return Units(
            tuple(found[f"heads.{index}"] for index in layers), tuple(found[f"neurons.{index}"] for index in layers)
        )

    def share(self) -> None:
        """Let every process have the mean of what all of them have gathered, so that all choose alike."""
        if processes.here().count == 1:
            return
        rows = torch.tensor(list(self._rows.values()), dtype=torch.float64)
        processes.average([rows])
        self._rows = dict(zip(self._rows, rows.tolist(), strict=True))
        processes.average(self._sums.values())

    def fade(self, factor: float) -> None:
        """Let what was gathered so far count less than what comes."""
        for name in self._sums:
            self._sums[name] = self._sums[name] * factor
            self._rows[name] *= factor

    def state(self) -> dict[str, Tensor]:
        """What was gathered, as named tensors; ``restore`` takes it up again."""
        rows = {f"rows.{name}": torch.tensor(count, dtype=torch.float64) for name, count in self._rows.items()}
        return rows | {f"sums.{name}": total.cpu() for name, total in self._sums.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what ``state`` returned."""
        self._rows = {name: float(state[f"rows.{name}"]) for name in self._sums}
        self._sums = {name: state[f"sums.{name}"] for name in self._sums}

    def _watch(self, product: nn.Linear, name: str, width: int) -> None:
        def entering(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entered = inputs[0]
            if not entered.requires_grad:
                return
            kept = entered.detach()
            entered.register_hook(lambda gradient: self._add(kept, gradient, name, width))  # type: ignore[no-untyped-call]

        self._hooks.append(product.register_forward_pre_hook(entering))

    def _add(self, entered: Tensor, gradient: Tensor, name: str, width: int) -> None:
        examples = len(entered)
        # [batch, ..., units * width] -> [batch, units]; the loss is a mean, so a gradient is 1/batch of an example's.
        gates = (entered.float() * gradient.float()).reshape(examples, -1, entered.shape[-1] // width, width)
        found = gates.sum((1, 3)).abs().sum(0) * examples
        # A step of mixed precision that overflowed is skipped by the optimizer too.
        self._sums[name] = self._sums[name].to(found.device) + found.nan_to_num(nan=0.0, posinf=0.0)
        self._rows[name] += examples


def taylor(
    model: PreTrainedModel, blocks: Sequence[Block], batches: Iterable[Mapping[str, Tensor]], objective: Loss
) -> Units:
    """Measure Taylor importance over batches, outside of any training.

    Args:
        model: Its mode (dropout on or off) is left as it is; its gradients are dropped afterwards.
        blocks: Of this model.
        batches: What ``objective`` takes.
        objective: The loss that matters, for example the distillation loss.
    """
    watch = Taylor(blocks)
    watch.attach()
    try:
        for batch in batches:
            objective(model, batch).backward()  # type: ignore[no-untyped-call]
            model.zero_grad()
    finally:
        watch.detach()
    return watch.read()


def _norms(inward: Sequence[nn.Linear], outward: nn.Linear, units: int) -> Any:
    width = outward.in_features // units
    squares = outward.weight.detach().float().square().sum(0).reshape(units, width).sum(1)
    for linear in inward:
        per_row = linear.weight.detach().float().square().sum(1)
        squares = squares + per_row[rows_of(linear, units, width).to(per_row.device)].sum(1)
    return _array(squares.sqrt())


def _array(tensor: Tensor) -> Any:
    return tensor.cpu().double().numpy().astype(np.float64)
