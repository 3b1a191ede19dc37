"""Structured pruning while a student learns: units fall silent during the training and are cut out after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressor import processes
from compressor.architectures import Architecture
from compressor.slimming.blocks import Encoder, blocks
from compressor.slimming.importance import Taylor, magnitude
from compressor.slimming.plan import Choice
from compressor.slimming.schedule import last_choice
from compressor.slimming.surgery import audible, cut, remaining, silence
from compressor.slimming.units import Units, everything

STATE = "slimming.safetensors"
FADE = 0.5
"""What was gathered before a choice counts half after it: the model has changed since."""


class Slimmer(TrainerCallback):
    """Silences ever more heads and neurons on the cubic schedule, and holds them silent to the end.

    A silent unit feeds zeros into the product that follows it: the function is that of the smaller model, and
    the optimizer still finds all of its parameters. Once silent, a unit gets no gradient and does not come back.
    ``remove`` cuts the silent units out when the training is over.

    Args:
        model: In training; changed in place.
        architecture: Its row.
        choose: Which units go, from ``plan``.
        importance: ``taylor`` watches the gradients of the training itself, so it is the training's own loss that
            is asked; ``magnitude`` reads the weights.
    """

    def __init__(
        self,
        model: Encoder,
        architecture: Architecture,
        choose: Choice,
        importance: Literal["taylor", "magnitude"] = "taylor",
    ) -> None:
        self._model = model
        self._architecture = architecture
        self._blocks = blocks(model, architecture)
        self._choose = choose
        self._taylor = Taylor(self._blocks) if importance == "taylor" else None
        self._reached = 0.0
        self._masks: dict[str, tuple[Tensor, ...]] = {}
        self._kept = everything(
            tuple(block.heads for block in self._blocks), tuple(block.neurons for block in self._blocks)
        )

    @property
    def kept(self) -> Units:
        """True where a unit is still heard."""
        return self._kept

    @property
    def weights(self) -> list[nn.Parameter]:
        """What is zeroed: an average of the weights has to be zero where they are."""
        return [product.get_parameter("weight") for block in self._blocks for product in (block.output, block.narrow)]

    def remaining(self) -> dict[int, Tensor]:
        """What will be left of each weight, as ``surgery.remaining`` has it."""
        return remaining(self._blocks, self._kept)

    def finished(self) -> bool:
        """Say whether the whole cut is reached; earlier weights must not be kept as the best."""
        return self._reached >= 1

    def remove(self) -> None:
        """Cut the silent units out of the model; the training must be over."""
        cut(self._model, self._architecture, self._kept)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Watch the gradients; take up what an interrupted run had chosen and gathered."""
        if state.global_step > 0:
            self._restore(_state_file(args, state))
            self._reached = last_choice(state.global_step, state.max_steps)[1]
        if self._taylor is not None:
            self._taylor.attach()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Choose at the steps of the schedule; silence at every step, because the optimizer moves what is zero."""
        step, due = last_choice(state.global_step, state.max_steps)
        if step == state.global_step and due > self._reached:
            self._keep(self._choose(self._importance(), self._kept, due))
            self._reached = due
        if self._reached > 0:
            silence(self._blocks, self._masks)
        self._store(args, state, control)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Put masks and gathered importance into the checkpoint that is about to be written."""
        self._store(args, state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop watching."""
        if self._taylor is not None:
            self._taylor.detach()

    def _store(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        if not control.should_save:
            return
        if self._taylor is not None:
            self._taylor.share()
        if not processes.here().is_first:
            return
        content = {f"kept.heads.{index}": torch.from_numpy(mask) for index, mask in enumerate(self._kept.heads)}
        content |= {f"kept.neurons.{index}": torch.from_numpy(mask) for index, mask in enumerate(self._kept.neurons)}
        # Before the Trainer's own files: a checkpoint counts as whole when its last one is there.
        path = _state_file(args, state)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(content | (self._taylor.state() if self._taylor else {}), path)

    def _importance(self) -> Units:
        if self._taylor is None:
            return magnitude(self._blocks)
        self._taylor.share()
        found = self._taylor.read()
        self._taylor.fade(FADE)
        return found

    def _keep(self, kept: Units) -> None:
        self._kept = kept
        self._masks = {
            "heads": _tensors(kept.heads, [block.output.weight for block in self._blocks]),
            "neurons": _tensors(kept.neurons, [block.narrow.weight for block in self._blocks]),
        }

    def _restore(self, path: Path) -> None:
        """Read the state; without it, the zeros themselves tell."""
        try:
            found = load_file(path)
            layers = range(len(self._blocks))
            self._keep(
                Units(
                    tuple(found[f"kept.heads.{index}"].numpy() for index in layers),
                    tuple(found[f"kept.neurons.{index}"].numpy() for index in layers),
                )
            )
            if self._taylor is not None:
                self._taylor.restore(found)
        except (OSError, KeyError, SafetensorError):
            self._keep(audible(self._blocks))


def _tensors(masks: Sequence[Any], weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(mask).to(weight.device) for mask, weight in zip(masks, weights, strict=True))


def _state_file(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / STATE
