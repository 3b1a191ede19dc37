"""Short distillations, by which layers, or the parameters of the training, are compared before the long one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from compressor.aside import scratch
from compressor.events import ignore
from compressor.recipe import DistillRecipe, PruneRecipe, StudentRecipe
from compressor.student import build_student
from compressor.training.distill import WithSoftLabels, distill
from compressor.training.validation import Score

if TYPE_CHECKING:
    from compressor.answers import Answers, Ints
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
    forms: Ints | None = None,
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
        forms: As for ``distill``.
        seed: Which rows; order and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        From teacher layers in ascending order to a student of them, in eval mode, on the CPU.
    """
    part, heard, same = _part(tokenized, answers, forms, STEPS * recipe.batch_size, seed)
    said = answers["validation"]
    part = replace(part, splits={**part.splits, "validation": tokenized.splits["validation"].select(range(1))})
    heard["validation"] = None if said is None else said.select([0])  # nobody reads the score of this training
    brief = _brief(recipe, epochs=1.0, intermediate_epochs=0.0)

    def train_briefly(layers: tuple[int, ...]) -> nn.Module:
        pupil = build_student(teacher, StudentRecipe(layers=layers), seed)
        unread = {tokenized.task.metric: 0.0}
        _train(teacher, pupil, part, heard, same, collate, brief, seed, device, lambda _: unread)
        return pupil.model

    return train_briefly


def attempts(
    teacher: Teacher,
    tokenized: Tokenized,
    answers: Mapping[SplitName, Answers | None],
    collate: Collator,
    layers: StudentRecipe,
    *,
    forms: Ints | None = None,
    seed: int,
    device: str,
    score: Score,
) -> tuple[Callable[[DistillRecipe, Callable[[float], None]], None], int]:
    """Make another short distillation: of other recipes, by the same student, on the same rows.

    Args:
        teacher: As for ``distill``.
        tokenized: At most ``TRIAL_ROWS`` of its training texts are taken, in all of their forms, and all of its
            validation rows.
        answers: The teacher's.
        collate: Pads a list of rows to one batch.
        layers: Which layers the student copies.
        forms: As for ``distill``.
        seed: Which rows; order and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.
        score: Judges the answers about the validation rows.

    Returns:
        From a recipe, and what hears the deciding score after each epoch of the answers, to nothing; and the number of
        rows of an epoch. A trial has ``trial_epochs`` of the recipe's epochs. An exception that the hearer raises ends
        it.
    """
    metric = tokenized.task.metric
    part, heard, same = _part(tokenized, answers, forms, TRIAL_ROWS, seed)
    rows = len(part.splits["train"]) if same is None else len(np.unique(same))

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
        _train(teacher, pupil, part, heard, same, collate, brief, seed, device, judged)

    return attempt, rows


def trial_epochs(epochs: float) -> float:
    """How long a trial of a recipe with so many epochs is, in epochs of its own rows."""
    return min(epochs, TRIAL_EPOCHS)


def _part(
    tokenized: Tokenized, answers: Mapping[SplitName, Answers | None], forms: Ints | None, most: int, seed: int
) -> tuple[Tokenized, dict[SplitName, Answers | None], Ints | None]:
    """Take some training texts, in all of their forms, with their answers, beside all of the other splits."""
    rows, found = tokenized.splits["train"], answers["train"]
    texts = np.arange(len(rows)) if forms is None else np.unique(forms)
    taken = np.random.default_rng(seed).permutation(texts)[:most]
    chosen = np.sort(taken) if forms is None else np.flatnonzero(np.isin(forms, taken))
    part = replace(tokenized, splits={**tokenized.splits, "train": rows.select(chosen)})
    heard = {**answers, "train": None if found is None else found.select(chosen)}
    return part, heard, None if forms is None else forms[chosen]


def _brief(recipe: DistillRecipe, **changes: float | None) -> DistillRecipe:
    """Shorten a recipe; an average over many steps would still hold the student as it began."""
    short: dict[str, float | None] = {"gradient_accumulation_steps": 1, "ema": 0.0, "checkpoint_minutes": 1e6}
    return recipe.model_copy(update={**short, **changes})


def _train(
    teacher: Teacher,
    pupil: Student,
    part: Tokenized,
    heard: Mapping[SplitName, Answers | None],
    forms: Ints | None,
    collate: Collator,
    recipe: DistillRecipe,
    seed: int,
    device: str,
    score: Score,
) -> None:
    with scratch("rehearsal") as folder:
        distill(
            teacher, pupil, part, heard, collate, recipe, PruneRecipe(), forms=forms, seed=seed, device=device,
            folder=folder, listen=ignore, score=score, metric=part.task.metric,
        )  # fmt: skip
