"""What goes on beside a training: checkpoints by the clock, patience, and progress for the listener."""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressor import processes
from compressor.events import Listener, Progress
from compressor.training.objectives import Figures

READ_EVERY = 0.2
"""Seconds between two readings of the figures."""


class Clock(TrainerCallback):
    """Asks for a checkpoint whenever the last one is old enough."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for one; the end of an epoch has its own, which comes after the evaluation."""
        # A whole one from before it would be continued from without that evaluation.
        if float(state.epoch or 0.0).is_integer() or state.global_step >= state.max_steps:
            return control
        # No two processes have the same clock, and all of them take part in a checkpoint.
        if processes.by_first(lambda: time.monotonic() - self._saved >= self._seconds):
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock again."""
        self._saved = time.monotonic()


class Patience(EarlyStoppingCallback):
    """Ends a training whose evaluations gain nothing; an interrupted one counts on from where it was."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over the count of the checkpoint that is continued from."""
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call]
        kept: Any = state.stateful_callbacks
        kept.setdefault(Patience.__name__, kept.pop(EarlyStoppingCallback.__name__, self.state()))
        self.early_stopping_patience_counter = waited(state)


def waited(state: TrainerState) -> int:
    """Count the evaluations without a gain that a training's state ends with."""
    kept: Any = state.stateful_callbacks
    # Before there was a class of its own, it was that of transformers.
    found = kept.get(Patience.__name__) or kept.get(EarlyStoppingCallback.__name__) or {}
    return int(found.get("attributes", {}).get("early_stopping_patience_counter", 0))


class Reporter(TrainerCallback):
    """Hands the Trainer's progress to the listener.

    Args:
        stage: Its name.
        listen: Hears of every step, with figures that are ``READ_EVERY`` seconds old at most, and those of the last
            step then.
        figures: Running values by name, changed by the Trainer; on its device.
    """

    def __init__(self, stage: str, listen: Listener, figures: Figures) -> None:
        self._stage = stage
        self._listen = listen
        self._figures = figures
        self._shown: dict[str, float] = {}
        self._read = -math.inf

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell it."""
        now = time.monotonic()
        if now - self._read >= READ_EVERY or state.global_step == state.max_steps:
            # Reading makes a GPU finish what it has been given, and nothing new is given to it meanwhile.
            self._shown = {name: float(value) for name, value in self._figures.items()}
            self._read = now
        self._listen(Progress(self._stage, state.global_step, state.max_steps, dict(self._shown)))
