"""Teach a student to answer like its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from compressor.artifacts import SplitName, Student, Teacher, Tokenized, TrainingCurve
from compressor.events import Listener
from compressor.recipe import DistillRecipe, PruneRecipe
from compressor.training import losses
from compressor.training.batches import BucketSampler
from compressor.training.engine import Batch, Objective, TrainingData, TrainingSettings, forward_inputs, train
from compressor.training.prune import MagnitudePruner, encoder_weights


class WithSoftLabels(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows of a tokenised split, each with the teacher's logits beside its label."""

    def __init__(self, rows: Any, logits: npt.NDArray[np.float32]) -> None:
        self._rows = rows
        self._logits = logits

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._rows[int(index)], "soft_labels": np.array(self._logits[int(index)])}


def objective_for(recipe: DistillRecipe, teacher: Teacher, student: Student, device: str) -> Objective:
    """Compose the loss: ``soft * KL + hard * CE + hidden * cosine``.

    The teacher's logits come with the batch; only a hidden weight above 0 runs the teacher itself.
    """
    tutor: torch.nn.Module = teacher.model
    if recipe.hidden_weight > 0:
        tutor.to(device)

    def objective(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        inputs = forward_inputs(batch)
        output = model(**inputs, output_hidden_states=recipe.hidden_weight > 0)
        soft = batch["soft_labels"]
        loss = recipe.soft_weight * losses.soft_label_kl(output.logits, soft, recipe.temperature)
        if recipe.hard_weight > 0:
            loss = loss + recipe.hard_weight * losses.hard_label(output.logits, batch["labels"])
        if recipe.hidden_weight > 0:
            with torch.no_grad():
                states = tutor(**inputs, output_hidden_states=True).hidden_states
            # Entry 0 of the hidden states is the embeddings' output.
            distances = [
                losses.hidden_cosine(own, states[layer + 1], inputs["attention_mask"])
                for own, layer in zip(output.hidden_states[1:], student.taught, strict=True)
            ]
            loss = loss + recipe.hidden_weight * torch.stack(distances).mean()
        return loss, output.logits, {"agreement": losses.agreement(output.logits.detach(), soft)}

    return objective


def distill(
    teacher: Teacher,
    student: Student,
    tokenized: Tokenized,
    answers: Mapping[SplitName, npt.NDArray[np.float32]],
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    recipe: DistillRecipe,
    prune: PruneRecipe,
    *,
    seed: int,
    device: str,
    folder: Path,
    listen: Listener,
) -> TrainingCurve:
    """Train the student in place; it ends with the weights of its best validation accuracy.

    Args:
        teacher: Runs only where hidden states are compared.
        student: Changed in place.
        tokenized: Its train and validation splits.
        answers: The teacher's logits of ``train`` and ``validation``, each of shape (rows, labels).
        collate: Pads a list of rows to one batch.
        recipe: Loss and schedule.
        prune: Sparsity to reach on the way; 0 for none.
        seed: Order and dropout.
        device: ``auto``, ``cpu`` or ``cuda``.
        folder: Checkpoints; an interrupted training found here is continued.
        listen: Receives ``Progress`` with loss and agreement.
    """
    train_rows = tokenized.splits["train"]
    pruner = MagnitudePruner(encoder_weights(student.model, teacher.architecture), prune.sparsity)
    return train(
        student.model,
        TrainingData(
            train=WithSoftLabels(train_rows, answers["train"]),
            sampler=BucketSampler(train_rows["length"], recipe.batch_size, seed),
            validation=tokenized.splits["validation"],
            collate=collate,
            teacher_labels=np.asarray(answers["validation"]).argmax(-1),
        ),
        TrainingSettings(
            stage="distil",
            epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            batch_size=recipe.batch_size,
            seed=seed,
            gradient_accumulation_steps=recipe.gradient_accumulation_steps,
            warmup_ratio=recipe.warmup_ratio,
            lr_scheduler=recipe.lr_scheduler,
            weight_decay=recipe.weight_decay,
            patience=recipe.patience,
            precision=recipe.precision,
            device=device,
            checkpoint_minutes=recipe.checkpoint_minutes,
        ),
        folder,
        listen,
        objective=objective_for(recipe, teacher, student, device),
        callbacks=(pruner,) if prune.sparsity > 0 else (),
        ready=pruner.finished if prune.sparsity > 0 else lambda: True,
    )
