"""What is learnt about the answers: one row of losses per kind of task.

An objective turns a model and a batch into a loss and the figures to show. Sources are cited where the losses are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.answers import IGNORED
from compressor.errors import RecipeError
from compressor.heads import answering_at, outputs
from compressor.recipe import DistillRecipe
from compressor.tasks import Kind, Task
from compressor.training import losses

Batch = Mapping[str, Tensor]
Figures = dict[str, Tensor]
"""Figures to show, by name: scalars that stay on the device, since reading one waits for everything before it."""

Objective = Callable[[nn.Module, Batch], tuple[Tensor, Figures]]
"""(model, batch) -> loss, running figures to show."""

Found = tuple[Tensor, ...]
"""A model's answers, in the order of ``task.outputs``."""

_TARGETS = ("labels", "soft_labels")


@dataclass(frozen=True)
class AnswerLosses:
    """How answers are compared, for one kind of task.

    Attributes:
        soft: With the teacher's, softened by the recipe's temperature where they are distributions.
        logit: With the teacher's, as they are.
        hard: With the labels; ``None`` where a task has none.
        figures: How often both decide alike, by name.
    """

    soft: Callable[[Found, Batch, DistillRecipe], Tensor]
    logit: Callable[[Found, Batch], Tensor]
    hard: Callable[[Found, Batch], Tensor] | None
    figures: Callable[[Found, Batch], Figures] = lambda found, batch: {}


def forward_inputs(batch: Batch) -> dict[str, Tensor]:
    """Keep what a model's ``forward`` takes: everything but the targets."""
    return {name: tensor for name, tensor in batch.items() if name not in _TARGETS}


def compare(kind: Kind, found: Found, batch: Batch, recipe: DistillRecipe) -> tuple[Tensor, Figures]:
    """Add up the losses of the answers: ``soft * imitation + hard * labels + logit * squared difference``.

    Args:
        kind: Of the task.
        found: The student's answers.
        batch: ``soft_labels`` are the teacher's answers to the same units: of shape (batch, width), (batch, tokens,
            width), or (masked tokens, vocabulary) beside answers of shape (1, masked tokens, vocabulary).
        recipe: Weights and temperature. A weight of 0 leaves a loss out.

    Returns:
        The loss, and figures to show.
    """
    row = LOSSES[kind]
    total = torch.zeros((), device=found[0].device)
    if recipe.soft_weight > 0:
        total = total + recipe.soft_weight * row.soft(found, batch, recipe)
    if recipe.hard_weight > 0 and row.hard is not None:
        total = total + recipe.hard_weight * row.hard(found, batch)
    if recipe.logit_weight > 0:
        total = total + recipe.logit_weight * row.logit(found, batch)
    with torch.no_grad():
        return total, row.figures(found, batch) if "soft_labels" in batch else {}


def asks_teacher(recipe: DistillRecipe) -> bool:
    """Tell whether the teacher's answers are needed."""
    return recipe.soft_weight > 0 or recipe.logit_weight > 0


def check_teachable(kind: Kind, recipe: DistillRecipe) -> None:
    """Make sure that the weights leave something to learn.

    Raises:
        RecipeError: All answers that the task has weigh 0.
    """
    if LOSSES[kind].hard is None and not asks_teacher(recipe) and not recipe.has_hints:
        raise RecipeError(
            f"--soft-weight and --logit-weight are 0, and there are no labels for {kind}: there is nothing to learn "
            "from.",
            "Give one of them a weight above 0.",
        )


def supervised(task: Task) -> Objective:
    """Plain fine-tuning: the labels alone.

    Raises:
        ValueError: The task has no labels.
    """
    hard = LOSSES[task.kind].hard
    if hard is None:
        raise ValueError(f"{task.kind} has no labels to fine-tune with")
    labels_loss = hard

    def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        inputs = forward_inputs(batch)
        if task.unit != "masked token":
            return labels_loss(outputs(task, model(**inputs)), batch), {}
        selected = batch["labels"] != IGNORED
        with answering_at(model, selected):
            found = outputs(task, model(**inputs))
        return labels_loss(found, at(batch, selected)), {}

    return objective


def at(batch: Batch, selected: Tensor) -> dict[str, Tensor]:
    """Cut a batch's labels to the tokens that a head was shown, as ``heads.answering_at`` cuts its answers.

    Args:
        batch: With ``labels`` of shape (batch, tokens).
        selected: True for the tokens that count, of shape (batch, tokens).

    Returns:
        ``labels`` of shape (1, selected tokens).
    """
    return {"labels": batch["labels"][selected].unsqueeze(0)}


# --- text classification --------------------------------------------------------------------


def _rows_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    return losses.soft_label_kl(found[0], batch["soft_labels"], recipe.temperature, recipe.standardize)


def _rows_logit(found: Found, batch: Batch) -> Tensor:
    return losses.logit_mse(found[0], batch["soft_labels"])


def _rows_hard(found: Found, batch: Batch) -> Tensor:
    return losses.hard_label(found[0], batch["labels"])


def _rows_agree(found: Found, batch: Batch) -> Figures:
    return {"agreement": losses.agreement(found[0], batch["soft_labels"])}


def _many_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    return losses.soft_label_bce(found[0], batch["soft_labels"], recipe.temperature)


def _many_hard(found: Found, batch: Batch) -> Tensor:
    return losses.hard_label_bce(found[0], batch["labels"])


def _many_agree(found: Found, batch: Batch) -> Figures:
    return {"agreement": ((found[0] > 0) == (batch["soft_labels"] > 0)).float().mean()}


def _value_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    return losses.regression_mse(found[0], batch["soft_labels"])


def _value_hard(found: Found, batch: Batch) -> Tensor:
    own, labels = found[0].squeeze(-1), batch["labels"]
    # A row without label counts as one that is right: its gradient is 0, and the others weigh what they would alone.
    return losses.regression_mse(own, torch.where(labels.isnan(), own.detach(), labels))


# --- tokens ---------------------------------------------------------------------------------


def _tokens_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    own, other = found[0], batch["soft_labels"]
    if recipe.standardize:
        own, other = losses.standardized(own), losses.standardized(other)
    return losses.token_kl(own, other, batch["attention_mask"], recipe.temperature)


def _tokens_logit(found: Found, batch: Batch) -> Tensor:
    counted = batch["attention_mask"].bool()
    return losses.logit_mse(found[0][counted], batch["soft_labels"][counted])


def _tokens_hard(found: Found, batch: Batch) -> Tensor:
    labelled = (batch["labels"] != IGNORED).any(dim=-1)
    # The mean is over tokens that have labels: fewer rows of them would weigh more.
    return losses.hard_token_label(found[0], batch["labels"], IGNORED) * labelled.float().mean()


def _tokens_agree(found: Found, batch: Batch) -> Figures:
    counted = batch["attention_mask"].bool()
    return {"agreement": losses.agreement(found[0][counted], batch["soft_labels"][counted])}


# --- spans ----------------------------------------------------------------------------------


def _span_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    start, end = batch["soft_labels"].unbind(-1)
    return losses.span_kl((found[0], found[1]), (start, end), batch["attention_mask"], recipe.temperature)


def _span_logit(found: Found, batch: Batch) -> Tensor:
    return _tokens_logit((torch.stack(found, dim=-1),), batch)


def _span_hard(found: Found, batch: Batch) -> Tensor:
    start, end = (_attended(logits, batch) for logits in found)
    labels = batch["labels"]  # [batch, 2]
    return (losses.hard_label(start, labels[:, 0]) + losses.hard_label(end, labels[:, 1])) / 2


def _span_agree(found: Found, batch: Batch) -> Figures:
    own = torch.stack([_attended(logits, batch).argmax(-1) for logits in found])  # [2, batch]
    other = torch.stack([_attended(logits, batch).argmax(-1) for logits in batch["soft_labels"].unbind(-1)])
    return {"agreement": (own == other).all(dim=0).float().mean()}


def _attended(logits: Tensor, batch: Batch) -> Tensor:
    """Take padding out of a distribution over tokens [batch, tokens]."""
    return logits.masked_fill(batch["attention_mask"] == 0, torch.finfo(logits.dtype).min)


# --- masked words ---------------------------------------------------------------------------


def _words_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    return losses.masked_lm_kl(found[0], batch["soft_labels"], torch.ones_like(batch["labels"]), recipe.temperature)


def _words_logit(found: Found, batch: Batch) -> Tensor:
    return losses.logit_mse(found[0][0], batch["soft_labels"])


def _words_agree(found: Found, batch: Batch) -> Figures:
    return {"agreement": losses.agreement(found[0][0], batch["soft_labels"])}


# --- sentence embeddings --------------------------------------------------------------------


def _sentences_soft(found: Found, batch: Batch, recipe: DistillRecipe) -> Tensor:
    own, other = found[0], batch["soft_labels"]
    # The similarities beside the embeddings: neighbours are found better, all similarities as well as without.
    return losses.embedding_cosine(own, other) + losses.similarity_mse(own, other)


def _sentences_logit(found: Found, batch: Batch) -> Tensor:
    return losses.embedding_mse(found[0], batch["soft_labels"])


def _sentences_agree(found: Found, batch: Batch) -> Figures:
    return {"cosine": 1 - losses.embedding_cosine(found[0], batch["soft_labels"])}


LOSSES: dict[Kind, AnswerLosses] = {
    "single-label": AnswerLosses(_rows_soft, _rows_logit, _rows_hard, _rows_agree),
    "multi-label": AnswerLosses(_many_soft, _rows_logit, _many_hard, _many_agree),
    "regression": AnswerLosses(_value_soft, _rows_logit, _value_hard),
    "token-classification": AnswerLosses(_tokens_soft, _tokens_logit, _tokens_hard, _tokens_agree),
    "question-answering": AnswerLosses(_span_soft, _span_logit, _span_hard, _span_agree),
    "fill-mask": AnswerLosses(_words_soft, _words_logit, _tokens_hard, _words_agree),
    "feature-extraction": AnswerLosses(_sentences_soft, _sentences_logit, None, _sentences_agree),
}
