"""Short distillations, by which choices are compared before the long one."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from compressor.answers import Answers
    from compressor.artifacts import SplitName, Teacher, Tokenized
    from compressor.training.batches import Collator

TEXTS = 256
STEPS = 60
BATCH = 32


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
    chosen = chosen[np.argsort(np.asarray(rows["length"])[chosen], kind="stable")]
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
    rows = tokenized.splits["train"]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[: STEPS * recipe.batch_size])
    judged = tokenized.splits["validation"].select(range(1))  # nobody reads the score of a rehearsal
    found, said = answers["train"], answers["validation"]
    part = replace(tokenized, splits={"train": rows.select(chosen), "validation": judged})
    heard: dict[SplitName, Answers | None] = {
        "train": None if found is None else found.select(chosen),
        "validation": None if said is None else said.select([0]),
    }
    brief = recipe.model_copy(
        update={
            "epochs": 1.0, "intermediate_epochs": 0.0, "gradient_accumulation_steps": 1, "ema": 0.0,
            "checkpoint_minutes": 1e6,
        }
    )  # fmt: skip

    def train_briefly(layers: tuple[int, ...]) -> nn.Module:
        pupil = build_student(teacher, StudentRecipe(layers=layers), seed)
        with tempfile.TemporaryDirectory() as folder:
            distill(
                teacher, pupil, part, heard, collate, brief, PruneRecipe(), seed=seed, device=device,
                folder=Path(folder), listen=ignore, score=lambda found: {tokenized.task.metric: 0.0},
                metric=tokenized.task.metric,
            )  # fmt: skip
        return pupil.model

    return train_briefly
