"""Which layers of student and teacher are compared before their answers, and how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from compressor.architectures import Architecture
from compressor.artifacts import Student, Teacher
from compressor.errors import RecipeError
from compressor.recipe import DistillRecipe
from compressor.tasks import Task

Pairs = tuple[tuple[int, int], ...]
"""Student layer and the teacher layer that it is compared with, both counted from 0."""

QUERY, KEY, VALUE = range(3)
"""Places of the products in ``Architecture.linears``, or of their parts where one product makes all three."""

MOST_RELATION_HEADS = 48
LEAST_RELATION_WIDTH = 8
"""MiniLMv2 cuts 768 into 48 relation heads, and its students of width 384 into as many, 8 wide."""


@dataclass(frozen=True)
class HintPlan:
    """What is compared, where, and with what weight.

    Attributes:
        hidden: Pairs of layers whose hidden states are compared.
        first_token: Pairs of layers whose [CLS] states are compared, each scaled to length 1.
        attention: Pairs of layers whose attention scores are compared.
        relations: The pair of layers whose relations are compared.
        embeddings: Compare the embeddings' output.
        hidden_loss: Distance of hidden states.
        relation_heads: Heads that relations are cut into.
        weights: Weight of each of the five, by its name; the loss of one is the mean over its pairs.
    """

    hidden: Pairs = ()
    first_token: Pairs = ()
    attention: Pairs = ()
    relations: Pairs = ()
    embeddings: bool = False
    hidden_loss: Literal["cosine", "mse"] = "cosine"
    relation_heads: int = 1
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        """Whether anything is compared."""
        return bool(self.hidden or self.first_token or self.attention or self.relations or self.embeddings)

    @property
    def compares_states(self) -> bool:
        """Whether hidden states are needed."""
        return bool(self.hidden or self.first_token or self.embeddings)

    def products(self, side: Literal[0, 1]) -> set[tuple[int, int]]:
        """Layer and place of each product that is needed, of the student (0) or the teacher (1)."""
        scores = {(pair[side], place) for pair in self.attention for place in (QUERY, KEY)}
        return scores | {(pair[side], place) for pair in self.relations for place in (QUERY, KEY, VALUE)}


def plan_hints(recipe: DistillRecipe, teacher: Teacher, student: Student) -> HintPlan:
    """Resolve the weights of a recipe against two models.

    Hidden states and attention follow ``student.taught``. PKD leaves the last layer out, whose [CLS] feeds the answer
    that is taught anyway (Sun et al. 2019, section 3.2), unless there is no other. Relations are those of the last
    student layer.

    Raises:
        RecipeError: The models cannot be compared in this way.
    """
    own, other = student.model.config, teacher.model.config
    check_hints(recipe, teacher.task, other.num_hidden_layers, None, teacher.labels)
    chosen = other.num_hidden_layers - 1 if recipe.relation_layer is None else recipe.relation_layer
    pair = own.num_hidden_layers - 1, chosen
    mapped: Pairs = tuple(enumerate(student.taught))
    return HintPlan(
        hidden=(mapped if recipe.hidden_layers == "all" else mapped[-1:]) if recipe.hidden_weight > 0 else (),
        first_token=(mapped[:-1] or mapped) if recipe.pkd_weight > 0 else (),
        attention=_same_heads(mapped, own, other) if recipe.attention_weight > 0 else (),
        relations=(pair,) if recipe.relation_weight > 0 else (),
        embeddings=recipe.embedding_weight > 0,
        hidden_loss=recipe.hidden_loss,
        relation_heads=_relation_heads(recipe, teacher, student, pair) if recipe.relation_weight > 0 else 1,
        weights={
            "hidden": recipe.hidden_weight,
            "first_token": recipe.pkd_weight,
            "attention": recipe.attention_weight,
            "relations": recipe.relation_weight,
            "embeddings": recipe.embedding_weight,
        },
    )


def _same_heads(mapped: Pairs, own: Any, other: Any) -> Pairs:
    if own.num_attention_heads != other.num_attention_heads:
        raise RecipeError(
            f"--attention-weight compares head with head, but the student has {own.num_attention_heads} heads and the "
            f"teacher {other.num_attention_heads}.",
            "Use --relation-weight, which cuts both anew.",
        )
    return mapped


def _relation_heads(recipe: DistillRecipe, teacher: Teacher, student: Student, pair: tuple[int, int]) -> int:
    own = _width(student.model, teacher.architecture, pair[0])
    other = _width(teacher.model, teacher.architecture, pair[1])
    common = math.gcd(own, other)
    if recipe.relation_heads is None:
        most = min(MOST_RELATION_HEADS, max(1, min(own, other) // LEAST_RELATION_WIDTH))
        return max(heads for heads in range(1, most + 1) if common % heads == 0)
    if common % recipe.relation_heads:
        raise RecipeError(
            f"--relation-heads {recipe.relation_heads} does not divide the widths {own} (student) and "
            f"{other} (teacher).",
            f"Choose a divisor of {common}, or drop --relation-heads.",
        )
    return recipe.relation_heads


def _width(model: nn.Module, architecture: Architecture, layer: int) -> int:
    product = product_of(layers_of(model, architecture), architecture, layer, QUERY)
    width = int(product.get_parameter("weight").shape[0])
    return width // 3 if is_packed(architecture) else width


def check_hints(
    recipe: DistillRecipe, task: Task, layers: int, width: int | None, labels: Sequence[str] | None
) -> None:
    """Make sure that a teacher has what is to be compared, as far as its config tells.

    Args:
        recipe: Weights, and what they are of.
        task: What the teacher does.
        layers: How many it has.
        width: Of its queries, which are its student's; ``None`` where models tell.
        labels: Its own; ``None`` where they are not known yet.

    Raises:
        RecipeError: It has not.
    """
    if recipe.relation_layer is not None and recipe.relation_layer >= layers:
        raise RecipeError(
            f"--relation-layer {recipe.relation_layer}: the teacher has no such layer.",
            f"Its {layers} layers are counted from 0 to {layers - 1}.",
        )
    if width is not None and recipe.relation_weight > 0 and width % (recipe.relation_heads or 1):
        raise RecipeError(
            f"--relation-heads {recipe.relation_heads} does not divide the width {width} of teacher and student.",
            f"Choose a divisor of {width}, or drop --relation-heads.",
        )
    if recipe.standardize and task.kind not in ("single-label", "token-classification"):
        raise RecipeError(
            f"--standardize compares labels that exclude each other; a {task.kind} model has none.",
            "Drop --standardize.",
        )
    if recipe.standardize and labels is not None and len(labels) < 3:
        raise RecipeError(
            f"--standardize needs 3 labels or more; this teacher has {len(labels)}.",
            "Drop it: of 2 standardised logits one is +1 and the other -1, whatever they were.",
        )


def layers_of(model: nn.Module, architecture: Architecture) -> tuple[nn.Module, ...]:
    """The encoder's layers, from the bottom; one alone where it is run again and again."""
    return tuple(model.get_submodule(architecture.layers).children())


def product_of(layers: tuple[nn.Module, ...], architecture: Architecture, layer: int, place: int) -> nn.Module:
    """The linear product that makes a layer's queries, keys or values."""
    found = layers[0 if architecture.shared else layer]
    return found.get_submodule(architecture.linears[0 if is_packed(architecture) else place])


def is_packed(architecture: Architecture) -> bool:
    """Whether one product makes queries, keys and values, side by side."""
    return architecture.linears[0].endswith("qkv")
