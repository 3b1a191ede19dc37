"""Build a student from layers of its teacher."""

from __future__ import annotations

import copy
import re

import torch
from transformers import AutoModelForSequenceClassification

from compressor.artifacts import Student, Teacher
from compressor.errors import RecipeError
from compressor.recipe import LayerSelection, StudentRecipe


def select_layers(selection: LayerSelection, count: int, total: int) -> tuple[int, ...]:
    """Choose which teacher layers a student copies.

    ``alternate`` takes every other layer, 0, 2, 4, ..., as DistilBERT does (Sanh et al. 2019), and falls
    back to ``spaced`` where ``count`` is not half of ``total``. ``spaced`` takes evenly spaced layers from
    the first to the last. The TinyBERT study (Jiao et al. 2020, table 4) finds uniform choices well ahead of
    ``first`` and ``last``.

    Args:
        selection: Name of the rule.
        count: Layers of the student.
        total: Layers of the teacher.

    Returns:
        Teacher layers in ascending order; empty for ``random-init``.

    Raises:
        RecipeError: The teacher has fewer layers than asked for.
    """
    if count > total:
        raise RecipeError(f"--layers {count}: the teacher has {total} layers.", f"Choose a number from 1 to {total}.")
    if selection == "random-init":
        return ()
    if selection == "first":
        return tuple(range(count))
    if selection == "last":
        return tuple(range(total - count, total))
    if selection == "alternate" and count == (total + 1) // 2:
        return tuple(range(0, total, 2))
    if count == 1:
        return (0,)
    return tuple(round(index * (total - 1) / (count - 1)) for index in range(count))


def plan_layers(recipe: StudentRecipe, total: int) -> tuple[int, tuple[int, ...]]:
    """Resolve ``--layers`` and ``--layer-selection`` against a teacher of ``total`` layers.

    Returns:
        Number of student layers, and the teacher layer of each (empty for a random start).

    Raises:
        RecipeError: A layer that the teacher does not have.
    """
    if isinstance(recipe.layers, tuple):
        beyond = [layer for layer in recipe.layers if layer >= total]
        if beyond:
            raise RecipeError(
                f"--layers {','.join(map(str, recipe.layers))}: the teacher has no layer {beyond[0]}.",
                f"Its {total} layers are counted from 0 to {total - 1}.",
            )
        return len(recipe.layers), () if recipe.layer_selection == "random-init" else recipe.layers
    count = max(1, total // 2) if recipe.layers is None else recipe.layers
    return count, select_layers(recipe.layer_selection, count, total)


def build_student(teacher: Teacher, recipe: StudentRecipe, seed: int) -> Student:
    """Copy embeddings, chosen layers, pooler and head of the teacher into a shorter model.

    Args:
        teacher: The teacher with its head.
        recipe: Which layers.
        seed: Seeds what is not copied (``random-init`` layers).

    Returns:
        A student in eval mode that ``from_pretrained`` of plain transformers can reload.

    Raises:
        RecipeError: A layer that the teacher does not have.
    """
    total = teacher.model.config.num_hidden_layers
    count, layer_map = plan_layers(recipe, total)
    config = copy.deepcopy(teacher.model.config)
    config.num_hidden_layers = count
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config).eval()  # type: ignore[no-untyped-call]
    prefix = re.compile(rf"{re.escape(teacher.architecture.layers)}\.(\d+)\.")
    source = teacher.model.state_dict()
    state = model.state_dict()
    for name in state:
        match = prefix.match(name)
        if match is None:
            state[name] = source[name]
        elif layer_map:
            state[name] = source[f"{teacher.architecture.layers}.{layer_map[int(match[1])]}.{name[match.end() :]}"]
    model.load_state_dict(state)
    return Student(model=model, layer_map=layer_map, taught=taught_layers(layer_map, count, total))


def taught_layers(layer_map: tuple[int, ...], count: int, total: int) -> tuple[int, ...]:
    """Say which teacher layer each student layer should sound like after distillation.

    A student layer stands for its teacher layer and the ones left out after it, so it is compared with
    the last of these: a student of layers 0, 2, 4 of 6 is compared with layers 1, 3, 5.

    Args:
        layer_map: Teacher layer of each student layer; empty for a random start.
        count: Layers of the student.
        total: Layers of the teacher.

    Returns:
        ``count`` teacher layers, the last one always ``total - 1``.
    """
    if not layer_map:
        return tuple(round((index + 1) * total / count) - 1 for index in range(count))
    return (*(following - 1 for following in layer_map[1:]), total - 1)
