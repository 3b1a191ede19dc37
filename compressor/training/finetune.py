"""Train the head of a teacher that came without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from compressor.artifacts import Teacher, Tokenized, TrainingCurve
from compressor.events import Listener
from compressor.recipe import Recipe
from compressor.training.batches import BucketSampler
from compressor.training.engine import TrainingData, TrainingSettings, train


def fine_tune(
    teacher: Teacher,
    tokenized: Tokenized,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    recipe: Recipe,
    folder: Path,
    listen: Listener,
) -> TrainingCurve:
    """Train a fresh head, and the encoder with it, in place.

    Args:
        teacher: Ends with the weights of its best validation accuracy.
        tokenized: Its train and validation splits.
        collate: Pads a list of rows to one batch.
        recipe: Teacher epochs and learning rate; batch size, precision, seed and device of the run.
        folder: Checkpoints; an interrupted training found here is continued.
        listen: Receives ``Progress``.
    """
    rows = tokenized.splits["train"]
    return train(
        teacher.model,
        TrainingData(
            train=rows,
            sampler=BucketSampler(rows["length"], recipe.distill.batch_size, recipe.seed),
            validation=tokenized.splits["validation"],
            collate=collate,
        ),
        TrainingSettings(
            stage="fine-tune",
            epochs=recipe.teacher.epochs,
            learning_rate=recipe.teacher.learning_rate,
            batch_size=recipe.distill.batch_size,
            seed=recipe.seed,
            precision=recipe.distill.precision,
            device=recipe.device,
            checkpoint_minutes=recipe.distill.checkpoint_minutes,
        ),
        folder,
        listen,
    )
