"""Train the head of a teacher that came without one."""

from __future__ import annotations

from pathlib import Path

from compressor.artifacts import Teacher, Tokenized, TrainingCurve
from compressor.events import Listener
from compressor.recipe import Recipe
from compressor.training.batches import BucketSampler, Collator
from compressor.training.engine import TEACHER_STAGE, TrainingData, TrainingSettings, train
from compressor.training.masking import mask_token_of, training_rows
from compressor.training.objectives import supervised
from compressor.training.validation import Score

PATIENCE = 2
"""Epochs without a better score after which a teacher has learnt enough."""


def fine_tune(
    teacher: Teacher,
    tokenized: Tokenized,
    collate: Collator,
    recipe: Recipe,
    folder: Path,
    listen: Listener,
    *,
    score: Score | None = None,
    metric: str | None = None,
) -> TrainingCurve:
    """Train a fresh head, and the encoder with it, in place.

    Args:
        teacher: Ends with the weights of its best validation score.
        tokenized: Its train and validation splits.
        collate: Pads a list of rows to one batch.
        recipe: Teacher epochs and learning rate; batch size, precision, seed and device of the run.
        folder: Checkpoints; an interrupted training found here is continued.
        listen: Receives ``Progress``.
        score: Judges the answers about the validation rows. Default: accuracy, for single labels alone.
        metric: Figure of the score that says which weights are best. Default: the task's.

    Raises:
        ValueError: The task has no labels (feature extraction).
    """
    task = tokenized.task
    rows = training_rows(tokenized, teacher.tokenizer, recipe.seed)
    lengths = tokenized.splits["train"]["length"][:]
    return train(
        teacher.model,
        TrainingData(
            train=rows,
            sampler=BucketSampler(lengths, recipe.distill.batch_size, recipe.seed, rows),
            validation=tokenized.splits["validation"],
            collate=collate,
            task=task,
            score=score,
            metric=metric or task.metric,
            mask_token_id=mask_token_of(teacher.tokenizer),
            longest=max(lengths),
        ),
        TrainingSettings(
            stage=TEACHER_STAGE,
            epochs=recipe.teacher.epochs,
            learning_rate=recipe.teacher.learning_rate,
            batch_size=recipe.distill.batch_size,
            seed=recipe.seed,
            patience=PATIENCE,
            precision=recipe.distill.precision,
            device=recipe.device,
            checkpoint_minutes=recipe.distill.checkpoint_minutes,
        ),
        folder,
        listen,
        supervised(task),
    )
