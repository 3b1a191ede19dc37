"""Teach a student to answer like its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressor.answers import IGNORED, Answers, Floats, Ints
from compressor.artifacts import SplitName, Student, Teacher, Tokenized, TrainingCurve
from compressor.events import Listener
from compressor.heads import answering_at, outputs
from compressor.recipe import DistillRecipe, PruneRecipe
from compressor.slimming.plan import Choice
from compressor.slimming.slimmer import Slimmer
from compressor.tasks import Task
from compressor.training.batches import BucketSampler, Collator
from compressor.training.ema import WeightAverage
from compressor.training.engine import TrainingData, TrainingSettings, arithmetic, resolve_device, train
from compressor.training.hint_plan import HintPlan, plan_hints
from compressor.training.hints import Hints
from compressor.training.learning_rates import parameter_groups
from compressor.training.masking import mask_token_of, training_rows
from compressor.training.objectives import (
    Batch,
    Figures,
    Objective,
    asks_teacher,
    at,
    check_teachable,
    compare,
    forward_inputs,
)
from compressor.training.prune import MagnitudePruner, encoder_weights
from compressor.training.rows import Row, at_once
from compressor.training.stages import Stage, in_stages, stages_of
from compressor.training.validation import Score


class WithSoftLabels(torch.utils.data.Dataset[Row]):
    """Rows of a tokenised split, each with the teacher's answers beside its label.

    Args:
        rows: Of the split.
        answers: About every row, in the same order.
        task: Of the answers: about the row they become a vector, about its tokens a matrix of one line for each.
    """

    def __init__(self, rows: Any, answers: Answers, task: Task) -> None:
        self._rows = rows
        self._answers = answers
        self._is_vector = task.unit == "row"

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Read the rows of a batch at once."""
        rows = at_once(self._rows, indices)
        return [{**row, "soft_labels": self._answer(index)} for index, row in zip(indices, rows, strict=True)]

    def _answer(self, index: int) -> Floats:
        found = np.array(self._answers.row(int(index)))  # [units, width]
        return found[0] if self._is_vector else found


def objective_for(task: Task, recipe: DistillRecipe, hints: Hints, *, answers: bool = True) -> Objective:
    """Compose the loss: what the hints compare, and ``objectives.compare`` of the answers.

    The teacher's answers come with the batch; only hints run the teacher itself.

    Args:
        task: What both models do; not ``fill-mask``, see ``masked_objective_for``.
        recipe: Weights and temperature.
        hints: Runs the student, and the teacher where something before the answers is compared.
        answers: Teach the answers too.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        output, loss, figures = hints.forward(model, forward_inputs(batch))
        if not answers:
            return loss, figures
        answer_loss, shown = compare(task.kind, outputs(task, output), batch, recipe)
        return loss + answer_loss, {**shown, **figures}

    return objective


def masked_objective_for(
    task: Task,
    recipe: DistillRecipe,
    hints: Hints,
    tutor: nn.Module,
    *,
    answers: bool = True,
    computing: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Objective:
    """Compose the loss of a masked language model, whose teacher sees the same masked rows beside the student.

    Both heads see the masked tokens alone. With the weights 5, 2 and 1 it is DistilBERT's (Sanh et al. 2019,
    https://arxiv.org/abs/1910.01108, section 2).

    Args:
        task: ``fill-mask``.
        recipe: Weights and temperature.
        hints: Runs the student, and the teacher where something before the answers is compared.
        tutor: The teacher, on the student's device and in eval mode.
        answers: Teach the answers too.
        computing: What the teacher computes in, as ``engine.arithmetic`` makes it. Default: fp32.
    """

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        inputs = forward_inputs(batch)
        selected = batch["labels"] != IGNORED
        with ExitStack() as stack:
            stack.enter_context(answering_at(model, selected))
            stack.enter_context(answering_at(tutor, selected))
            heard = stack.enter_context(_heard(tutor))
            output, loss, figures = hints.forward(model, inputs)
            if not answers:
                return loss, figures
            targets = {**at(batch, selected)}
            if asks_teacher(recipe):
                if not heard:  # the hints did not need it
                    with torch.no_grad(), computing():
                        tutor(**inputs)
                targets["soft_labels"] = outputs(task, heard[0])[0][0].float()  # [masked tokens, vocabulary]
        answer_loss, shown = compare(task.kind, outputs(task, output), targets, recipe)
        return loss + answer_loss, {**shown, **figures}

    return objective


@contextmanager
def _heard(model: nn.Module) -> Iterator[list[Any]]:
    """Keep what a model answers while the block runs, whoever asks it."""
    found: list[Any] = []
    handle = model.register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


def distill(
    teacher: Teacher,
    student: Student,
    tokenized: Tokenized,
    answers: Mapping[SplitName, Answers | None],
    collate: Collator,
    recipe: DistillRecipe,
    prune: PruneRecipe,
    *,
    slim: Choice | None = None,
    forms: Ints | None = None,
    seed: int,
    device: str,
    folder: Path,
    listen: Listener,
    score: Score | None = None,
    metric: str | None = None,
) -> TrainingCurve:
    """Train the student in place; it ends with the weights of its best validation score.

    Args:
        teacher: Runs only where something before the answers is compared, and for ``fill-mask``.
        student: Changed in place.
        tokenized: Its train and validation splits.
        answers: The teacher's about ``train`` (``None`` for ``fill-mask``) and ``validation``.
        collate: Pads a list of rows to one batch.
        recipe: Loss and schedule.
        prune: Sparsity to reach on the way; 0 for none.
        slim: Chooses heads and neurons to remove on the way; the student ends with smaller matrices.
        forms: For each training row a number that it shares with the other forms of its text, of which an epoch has
            one. Default: every row is a text of its own.
        seed: Order, forms, dropout and masked words.
        device: ``auto``, ``cpu`` or ``cuda``.
        folder: Checkpoints; an interrupted training found here is continued.
        listen: Receives ``Progress`` with loss and agreement.
        score: Judges the answers about the validation rows. Default: accuracy, for single labels alone.
        metric: Figure of the score that says which weights are best. Default: the task's.

    Raises:
        RecipeError: There is nothing to learn from, or the models cannot be compared in the way that was asked for.
    """
    task = tokenized.task
    check_teachable(task.kind, recipe)
    plan = plan_hints(recipe, teacher, student)
    rows = training_rows(tokenized, teacher.tokenizer, seed)
    found = answers["train"]
    lengths = tokenized.splits["train"]["length"][:]
    data = TrainingData(
        train=rows if found is None else WithSoftLabels(rows, found, task),
        sampler=BucketSampler(lengths, recipe.batch_size, seed, rows, forms),
        validation=tokenized.splits["validation"],
        collate=collate,
        task=task,
        score=score,
        metric=metric or task.metric,
        teacher=answers["validation"],
        mask_token_id=mask_token_of(teacher.tokenizer),
        longest=max(lengths),
    )

    def groups(model: nn.Module) -> list[dict[str, Any]]:
        rates = recipe.peak, recipe.layer_learning_rate_decay
        return parameter_groups(model, teacher.architecture, *rates, recipe.weight_decay)

    def train_stage(stage: Stage, place: Path) -> TrainingCurve:
        where = resolve_device(device, recipe.precision)
        computing = partial(arithmetic, where, recipe.precision)
        hints = Hints(plan if stage.hints else HintPlan(), teacher, student, seed, computing)
        sparsity = prune.sparsity if stage.answers else 0.0
        matrices = encoder_weights(student.model, teacher.architecture) if sparsity > 0 else []
        slimmer = None
        if slim is not None and stage.answers:
            slimmer = Slimmer(student.model, teacher.architecture, slim, prune.importance)
        pruner = MagnitudePruner(matrices, sparsity, slimmer.remaining if slimmer else dict)
        zeroed = [*matrices, *(slimmer.weights if slimmer else [])]
        # The average comes last: it must see the pruned weights, and what is to be evaluated.
        callbacks = [
            *([slimmer] if slimmer else []),
            *([pruner] if sparsity > 0 else []),
            *([WeightAverage(student.model, recipe.ema, zeroed)] if recipe.ema > 0 else []),
        ]

        def ready() -> bool:
            return stage.answers and pruner.finished() and (slimmer is None or slimmer.finished())

        with hints.attached(student.model, where), _present(teacher, task, where) as tutor:
            curve = train(
                student.model,
                data,
                _settings(recipe, stage, seed, device),
                place,
                listen,
                objective_for(task, recipe, hints, answers=stage.answers)
                if task.unit != "masked token"
                else masked_objective_for(task, recipe, hints, tutor, answers=stage.answers, computing=computing),
                callbacks=callbacks,
                ready=ready,
                groups=groups if recipe.layer_learning_rate_decay < 1 else None,
            )
        if slimmer is not None:
            slimmer.remove()
        return curve

    return in_stages(student.model, stages_of(recipe), folder, train_stage)


@contextmanager
def _present(teacher: Teacher, task: Task, device: str) -> Iterator[nn.Module]:
    """Move the teacher beside the student for a task whose soft labels are not stored."""
    tutor: nn.Module = teacher.model
    if task.unit != "masked token":
        yield tutor
        return
    tutor.eval().to(device)
    try:
        yield tutor
    finally:
        tutor.to("cpu")


def _settings(recipe: DistillRecipe, stage: Stage, seed: int, device: str) -> TrainingSettings:
    return TrainingSettings(
        stage=stage.name,
        epochs=stage.epochs,
        learning_rate=recipe.peak,
        batch_size=recipe.batch_size,
        seed=seed,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        warmup_ratio=recipe.warmup_ratio,
        lr_scheduler=recipe.lr_scheduler,
        weight_decay=recipe.weight_decay,
        dropout=recipe.dropout is not False,
        patience=recipe.patience,
        precision=recipe.precision,
        device=device,
        checkpoint_minutes=recipe.checkpoint_minutes,
    )
