"""Short distillations, by which layers, or the parameters of the training, are compared before the long one."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from compressor.events import ignore
from compressor.recipe import DistillRecipe, PruneRecipe, StudentRecipe
from compressor.student import build_student
from compressor.training.distill import WithSoftLabels, distill
from compressor.training.validation import Score

if TYPE_CHECKING:
    from compressor.answers import Answers
    from compressor.artifacts import SplitName, Student, Teacher, Tokenized
    from compressor.training.batches import Collator

TEXTS = 256
STEPS = 60
BATCH = 32
TRIAL_ROWS = 3200
TRIAL_EPOCHS = 3


def sample(
    tokenized: Tokenized, answers: Mapping[SplitName, Answers | None], collate: Collator, seed: int
) -> list[dict[str, Tensor]]:
    """Take some validation rows, with the teacher's answers, in batches of similar length.

    Args:
        tokenized: At most ``TEXTS`` of its validation rows are taken.
        answers: The teacher's.
        collate: Pads a list of rows to one batch.
        seed: Which rows.
    """
    rows, found = tokenized.splits["validation"], answers["validation"]
    chosen = np.random.default_rng(seed).permutation(len(rows))[:TEXTS]
    chosen = chosen[np.argsort(np.asarray(rows["length"][:])[chosen], kind="stable")]
    is_masked = tokenized.task.unit == "masked token"
    answered = rows if found is None or is_masked else WithSoftLabels(rows, found, tokenized.task)
    parts = [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]
    return [collate([answered[int(row)] for row in part]) for part in parts]


def rehearse(
    teacher: Teacher,
    tokenized: Tokenized,
    answers: Mapping[SplitName, Answers | None],
    collate: Collator,
    recipe: DistillRecipe,
    *,
    seed: int,
    device: str,
) -> Callable[[tuple[int, ...]], nn.Module]:
    """Make a short distillation: ``STEPS`` steps of the recipe on the same rows for every candidate.

    Args:
        teacher: As for ``distill``.
        tokenized: At most ``STEPS`` batches of its training rows are taken.
        answers: The teacher's.
        collate: Pads a list of rows to one batch.
        recipe: Losses, batch size and learning rate.
        seed: Which rows; order and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        From teacher layers in ascending order to a student of them, in eval mode, on the CPU.
    """
    part, heard = _part(tokenized, answers, STEPS * recipe.batch_size, seed)
    said = answers["validation"]
    part = replace(part, splits={**part.splits, "validation": tokenized.splits["validation"].select(range(1))})
    heard["validation"] = None if said is None else said.select([0])  # nobody reads the score of this training
    brief = _brief(recipe, epochs=1.0, intermediate_epochs=0.0)

    def train_briefly(layers: tuple[int, ...]) -> nn.Module:
        pupil = build_student(teacher, StudentRecipe(layers=layers), seed)
        _train(teacher, pupil, part, heard, collate, brief, seed, device, lambda _: {tokenized.task.metric: 0.0})
        return pupil.model

    return train_briefly


def attempts(
    teacher: Teacher,
    tokenized: Tokenized,
    answers: Mapping[SplitName, Answers | None],
    collate: Collator,
    layers: StudentRecipe,
    *,
    seed: int,
    device: str,
    score: Score,
) -> tuple[Callable[[DistillRecipe, Callable[[float], None]], None], int]:
    """Make another short distillation: of other recipes, by the same student, on the same rows.

    Args:
        teacher: As for ``distill``.
        tokenized: At most ``TRIAL_ROWS`` of its training rows are taken, and all of its validation rows.
        answers: The teacher's.
        collate: Pads a list of rows to one batch.
        layers: Which layers the student copies.
        seed: Which rows; order and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.
        score: Judges the answers about the validation rows.

    Returns:
        From a recipe, and what hears the deciding score after each epoch of the answers, to nothing; and the number of
        training rows. A trial has ``trial_epochs`` of the recipe's epochs. An exception that the hearer raises ends it.
    """
    metric = tokenized.task.metric
    rows = min(len(tokenized.splits["train"]), TRIAL_ROWS)
    part, heard = _part(tokenized, answers, rows, seed)

    def attempt(recipe: DistillRecipe, hear: Callable[[float], None]) -> None:
        brief = _brief(
            recipe,
            epochs=trial_epochs(recipe.epochs),
            intermediate_epochs=min(recipe.intermediate_epochs, 1.0),
            gradient_accumulation_steps=recipe.gradient_accumulation_steps,
            patience=None,
        )
        unheard = math.ceil(brief.intermediate_epochs)  # epochs in which no answers are taught

        def judged(found: Answers) -> Mapping[str, float]:
            nonlocal unheard
            figures = score(found)
            unheard -= 1
            if unheard < 0:
                hear(figures[metric])
            return figures

        pupil = build_student(teacher, layers, seed)
        _train(teacher, pupil, part, heard, collate, brief, seed, device, judged)

    return attempt, rows


def trial_epochs(epochs: float) -> float:
    """How long a trial of a recipe with so many epochs is, in epochs of its own rows."""
    return min(epochs, TRIAL_EPOCHS)


def _part(
    tokenized: Tokenized, answers: Mapping[SplitName, Answers | None], most: int, seed: int
) -> tuple[Tokenized, dict[SplitName, Answers | None]]:
    """Take some training rows with their answers, beside all of the other splits."""
    rows, found = tokenized.splits["train"], answers["train"]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
    part = replace(tokenized, splits={**tokenized.splits, "train": rows.select(chosen)})
    return part, {**answers, "train": None if found is None else found.select(chosen)}


def _brief(recipe: DistillRecipe, **changes: float | None) -> DistillRecipe:
    """Shorten a recipe; an average over many steps would still hold the student as it began."""
    short: dict[str, float | None] = {"gradient_accumulation_steps": 1, "ema": 0.0, "checkpoint_minutes": 1e6}
    return recipe.model_copy(update={**short, **changes})


def _train(
    teacher: Teacher,
    pupil: Student,
    part: Tokenized,
    heard: Mapping[SplitName, Answers | None],
    collate: Collator,
    recipe: DistillRecipe,
    seed: int,
    device: str,
    score: Score,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        distill(
            teacher, pupil, part, heard, collate, recipe, PruneRecipe(), seed=seed, device=device,
            folder=Path(folder), listen=ignore, score=score, metric=part.task.metric,
        )  # fmt: skip
