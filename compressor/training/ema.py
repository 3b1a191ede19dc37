"""A moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressor import processes

TRAINED = "trained_weights.safetensors"
"""Beside a checkpoint's model, which is the average: the weights that the optimiser continues from."""


def decay_at(step: int, decay: float) -> float:
    """Decay of the average after a step: lower at first, or a short training would keep its start.

    ``min(decay, (1 + step) / (10 + step))``, as in TensorFlow's ``ExponentialMovingAverage``.

    Args:
        step: Optimiser steps done.
        decay: To be reached, in 0..1.
    """
    return min(decay, (1 + step) / (10 + step))


class WeightAverage(TrainerCallback):
    """Averages the weights after every step; evaluations and checkpoints see the average.

    ``average = d * average + (1 - d) * weights`` (Polyak averaging with a decay; Tarvainen and Valpola 2017,
    https://arxiv.org/abs/1703.01780, use such an average as a teacher). The weights proper come back before the next
    step. A checkpoint holds both, so that a resumed training goes on bit for bit. After the training the model has the
    average, or the best of those that were evaluated where the Trainer loads the best one.

    It must come after every callback that asks for an evaluation or a checkpoint at the end of a step.

    Args:
        model: The model that is trained.
        decay: Share of the old average that is kept, in 0..1; see ``decay_at``.
        sparse: Pruned weights: where one is 0, its average becomes 0.
    """

    def __init__(self, model: nn.Module, decay: float, sparse: Sequence[nn.Parameter] = ()) -> None:
        self._model = model
        self._decay = decay
        self._sparse = {id(weight) for weight in sparse}
        self._average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start from the weights, or take up both from the checkpoint that is continued from.

        A checkpoint without the weights proper was written without an average, which then begins here.
        """
        self._average = {name: weight.detach().clone() for name, weight in self._model.named_parameters()}
        self._trained = None
        path = _checkpoint(args, state) / TRAINED
        if state.global_step > 0 and path.is_file():
            self._write(load_file(path))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Average, and show the average where it is about to be evaluated or saved."""
        kept = decay_at(state.global_step, self._decay)
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                average = self._average[name].lerp_(weight.detach(), 1 - kept)
                if id(weight) in self._sparse:
                    average.mul_(weight != 0)
        self._show(args, state, control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the average where it is about to be evaluated or saved."""
        self._show(args, state, control)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Train on with the weights proper."""
        if self._trained is not None:
            self._write(self._trained)
            self._trained = None

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leave the average in the model, unless the Trainer has loaded the best one."""
        if self._trained is None and state.best_model_checkpoint is None:
            self._write(self._average)
        self._average, self._trained = {}, None

    def _show(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        if not (control.should_evaluate or control.should_save):
            return
        if self._trained is None:
            self._trained = {name: weight.detach().clone() for name, weight in self._model.named_parameters()}
            self._write(self._average)
        if control.should_save and processes.here().is_first:
            # Before the Trainer's own files: a checkpoint counts as whole when its last one is there.
            folder = _checkpoint(args, state)
            folder.mkdir(parents=True, exist_ok=True)
            save_file({name: weight.cpu().contiguous() for name, weight in self._trained.items()}, folder / TRAINED)

    def _write(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                weight.copy_(weights[name])


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
