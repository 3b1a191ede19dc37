"""What goes on beside a training: checkpoints by the clock, and progress for the listener."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressor.events import Listener, Progress


class Clock(TrainerCallback):
    """Asks for a checkpoint whenever the last one is old enough."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for one."""
        if time.monotonic() - self._saved >= self._seconds:
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock again."""
        self._saved = time.monotonic()


class Reporter(TrainerCallback):
    """Hands the Trainer's progress to the listener."""

    def __init__(self, stage: str, listen: Listener, figures: dict[str, float]) -> None:
        self._stage = stage
        self._listen = listen
        self._figures = figures

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell it."""
        self._listen(Progress(self._stage, state.global_step, state.max_steps, dict(self._figures)))
