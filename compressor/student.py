"""Build a student from layers of its teacher."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch

from compressor import heads
from compressor.architectures import Architecture
from compressor.artifacts import Student, Teacher
from compressor.errors import RecipeError
from compressor.events import Listener, Note, ignore
from compressor.recipe import LayerSelection, StudentRecipe


def select_layers(selection: LayerSelection, count: int, total: int) -> tuple[int, ...]:
    """Choose which teacher layers a student copies.

    ``spaced`` takes evenly spaced layers from the first to the last, as DistilBERT does (0, 2, 4, 7, 9, 11 of twelve;
    Sanh et al. 2019): the head goes on reading the layer that it was trained on. ``alternate`` takes 0, 2, 4, ..., and
    falls back to ``spaced`` where ``count`` is not half of ``total``. The TinyBERT study (Jiao et al. 2020, table 4)
    finds uniform choices well ahead of ``first`` and ``last``.

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


def plan_layers(
    recipe: StudentRecipe, total: int, row: Architecture | None = None, layer_types: Sequence[str] = ()
) -> tuple[int, tuple[int, ...]]:
    """Resolve ``--layers`` and ``--layer-selection`` against a teacher of ``total`` layers.

    Args:
        recipe: The choice.
        total: Layers of the teacher.
        row: Its family, where a family has something to say about the choice.
        layer_types: Kind of each of the teacher's layers, where they are of several kinds. A rule then takes the
            nearest layers that keep the order of the kinds.

    Returns:
        Number of student layers, and the teacher layer of each (empty for a random start).

    Raises:
        RecipeError: A layer that the teacher does not have, or that cannot be the first.
    """
    first = None if row is None else row.first
    if isinstance(recipe.layers, tuple):
        listed = ",".join(map(str, recipe.layers))
        beyond = [layer for layer in recipe.layers if layer >= total]
        if beyond:
            raise RecipeError(
                f"--layers {listed}: the teacher has no layer {beyond[0]}.",
                f"Its {total} layers are counted from 0 to {total - 1}.",
            )
        if row is not None and first is not None and recipe.layers[0] != first:
            raise RecipeError(
                f"--layers {listed}: a {row.title} student begins with layer {first}. {row.note}",
                f"Try --layers {','.join(map(str, (first, *recipe.layers[1:])))}.",
            )
        return len(recipe.layers), () if recipe.layer_selection == "random-init" else recipe.layers
    count = max(1, total // 2) if recipe.layers is None else recipe.layers
    if recipe.layer_selection == "auto" and row is not None and row.shared:
        raise RecipeError(
            f"--layer-selection auto: all layers of a {row.title} model are one and the same.",
            "Drop --layer-selection.",
        )
    # What auto stands for until the layers have been tried: see ``scouting``.
    rule = "spaced" if recipe.layer_selection == "auto" else recipe.layer_selection
    chosen = select_layers(rule, count, total)
    if layer_types and recipe.layer_selection not in ("last", "random-init"):
        chosen = keep_pattern(chosen, layer_types)
    return count, chosen if first is None or not chosen else (first, *chosen[1:])


def kinds_of_layers(config: Any, row: Architecture) -> tuple[str, ...]:
    """Kind of each layer, where a family has several; else nothing."""
    return tuple(config.layer_types) if row.layer_types else ()


def keep_pattern(chosen: Sequence[int], layer_types: Sequence[str]) -> tuple[int, ...]:
    """Move a choice of layers as little as needed for their kinds to follow each other as in the teacher.

    ModernBERT has one global layer before every two local ones; so has its student.

    Args:
        chosen: Layers in ascending order.
        layer_types: Kind of each of the teacher's layers.
    """
    # Cheapest choice so far, by its last layer.
    paths: dict[int, tuple[int, tuple[int, ...]]] = {-1: (0, ())}
    for target, wanted in zip(chosen, layer_types, strict=False):
        paths = {
            layer: min(
                (cost + abs(layer - target), (*taken, layer)) for last, (cost, taken) in paths.items() if last < layer
            )
            for layer, kind in enumerate(layer_types)
            if kind == wanted and min(paths) < layer
        }
    return min(paths.values())[1]


def build_student(teacher: Teacher, recipe: StudentRecipe, seed: int, listen: Listener = ignore) -> Student:
    """Copy embeddings, chosen layers, pooler and head of the teacher into a shorter model.

    Args:
        teacher: The teacher with its head.
        recipe: Which layers.
        seed: Seeds what is not copied (``random-init`` layers).
        listen: Hears what is special about the family.

    Returns:
        A student in eval mode that ``from_pretrained`` of plain transformers can reload.

    Raises:
        RecipeError: A layer that the teacher does not have, or that cannot be the first.
    """
    if recipe.layer_selection == "auto":
        raise ValueError("auto is settled by scouting first")
    row = teacher.architecture
    total = teacher.model.config.num_hidden_layers
    config = copy.deepcopy(teacher.model.config)
    types = kinds_of_layers(config, row)
    count, layer_map = plan_layers(recipe, total, row, types)
    config.num_hidden_layers = count
    if types:
        config.layer_types = [types[layer] for layer in layer_map or range(count)]
    pooling = teacher.model.pooling if isinstance(teacher.model, heads.SentenceEncoder) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = heads.build(teacher.task, config, pooling).eval()
    prefix = re.compile(rf"{re.escape(row.layers)}\.(\d+)\.")
    source = teacher.model.state_dict()
    state = model.state_dict()
    for name in state:
        match = prefix.match(name)
        if match is None:
            state[name] = source[name]
        elif layer_map:
            layer = 0 if row.shared else layer_map[int(match[1])]
            state[name] = source[f"{row.layers}.{layer}.{name[match.end() :]}"]
    model.load_state_dict(state)
    if row.trigram:
        silence_padding(model)
    if row.note:
        listen(Note(f"{row.title}: {row.note}"))
    return Student(model=model, layer_map=layer_map, taught=taught_layers(layer_map, count, total))


def silence_padding(model: Any) -> None:
    """Make the padding's embedding zero, in place, and keep it so in training.

    A token of MobileBERT reads the embeddings of its neighbours, with zeros beyond the ends of a text. The last token
    of a padded text would read padding instead, and the text would get another answer than alone.

    Args:
        model: A model of a family whose row says ``trigram``.
    """
    encoder: Any = model.encoder if isinstance(model, heads.SentenceEncoder) else model
    weight, padding = encoder.get_input_embeddings().weight, model.config.pad_token_id

    def without_padding(gradient: torch.Tensor) -> torch.Tensor:
        # The embedding itself asks for no gradient there, but a decoder that is tied to it does.
        return gradient.index_fill(0, torch.tensor([padding], device=gradient.device), 0)

    with torch.no_grad():
        weight[padding].zero_()
    weight.register_hook(without_padding)


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
