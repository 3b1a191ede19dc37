"""Load a teacher: with the head that its checkpoint holds, or with a fresh one that is to be trained first.

``inspect`` decides which of the two from the weights' header; ``load`` checks again what was really loaded, so
that nothing is ever distilled from a random head.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from compressor.artifacts import Teacher
from compressor.errors import TeacherError
from compressor.quiet import first_line, quiet
from compressor.tasks import Kind, Task
from compressor.teacher.checkpoint import Checkpoint
from compressor.teacher.head import DAMAGED, in_head, tied
from compressor.teacher.inspection import TeacherFacts

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from compressor.heads import Model

_UNNAMED: Mapping[Kind, tuple[str, ...]] = {"regression": ("score",)}

logger = logging.getLogger(__name__)


def load(checkpoint: Checkpoint, facts: TeacherFacts, *, fine_tuned: bool = False) -> Teacher:
    """Load a teacher that has a head.

    Args:
        checkpoint: The model folder.
        facts: What ``inspect`` found.
        fine_tuned: This toolkit trained the head.

    Returns:
        In eval mode, fp32, on the CPU.

    Raises:
        TeacherError: The weights do not make up the model.
        ValueError: ``facts.has_head`` is False.
    """
    import torch

    if not facts.has_head:
        raise ValueError(f"{checkpoint.name} has no head: use with_new_head")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a sentence embedding needs no pooler: one that is missing is random, but always the same
        model, missing = _load_model(checkpoint, facts.task, facts.config)
    if not facts.task.head:
        missing = {key for key in missing if not in_head(key, model.base_model_prefix)}
    if missing:
        raise _missing(checkpoint, missing)
    return _teacher(checkpoint, facts, model, facts.labels or (), fine_tuned)


def with_new_head(checkpoint: Checkpoint, facts: TeacherFacts, labels: tuple[str, ...], seed: int) -> Teacher:
    """Load the encoder of a model and put a fresh head for its task on it, to be trained before it teaches.

    Whatever head the checkpoint holds is dropped. torch's random state is left as it was.

    Args:
        checkpoint: The model folder.
        facts: What ``inspect`` found; ``facts.task`` says which head.
        labels: Names of the labels in the order of the new head's outputs; a regression may have none, and tasks whose
            outputs have no names have none.
        seed: Seed of the head's weights.

    Returns:
        In eval mode, fp32, on the CPU; ``fine_tuned`` is False, and the fingerprint is the encoder's.

    Raises:
        TeacherError: The weights do not make up the encoder.
        ValueError: The task needs no head.
    """
    import torch

    from compressor import heads

    task = facts.task
    if not task.head:
        raise ValueError(f"{checkpoint.name} needs no head for {task.name}: use load")
    named = (labels or _UNNAMED.get(task.kind, ())) if task.named else ()
    config = _configured(facts.config, task, named)
    small = _small(config, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = heads.build(task, small)
        model, missing = _load_model(checkpoint, task, config, replace_head=True)
    same = tied(model)
    head = {key for key in fresh.state_dict() if in_head(key, model.base_model_prefix)} - set(same)
    missing -= set(same)
    if missing - head:
        raise _missing(checkpoint, missing - head)
    # A checkpoint's pooler is pre-trained: it stays. Any other part of a head was for another task.
    replaced = {key for key in head if not key.startswith(f"{model.base_model_prefix}.")} | missing
    model.load_state_dict({key: fresh.state_dict()[key] for key in replaced}, strict=False)
    return _teacher(checkpoint, facts, model, named, fine_tuned=False)


def _configured(config: PreTrainedConfig, task: Task, labels: tuple[str, ...]) -> PreTrainedConfig:
    """The config of a model with a new head; a span has a start and an end, and other heads take no labels."""
    names = labels or ("LABEL_0", "LABEL_1")
    changes = {
        "architectures": None,
        "problem_type": task.problem_type,
        "id2label": dict(enumerate(names)),
        "label2id": {label: index for index, label in enumerate(names)},
    }
    return type(config).from_dict({**config.to_dict(), **changes})


def _small(config: PreTrainedConfig, task: Task) -> PreTrainedConfig:
    """The config with sizes that a head does not depend on cut down: filling the rest would take seconds."""
    small = copy.deepcopy(config)
    small.num_hidden_layers = 1
    if getattr(config, "layer_types", None):
        small.layer_types = list(config.layer_types)[:1]
    if task.kind != "fill-mask":
        small.vocab_size = max(int(getattr(config, "pad_token_id", None) or 0) + 1, 2)
    return small


def _load_model(
    checkpoint: Checkpoint, task: Task, config: PreTrainedConfig, *, replace_head: bool = False
) -> tuple[Model, set[str]]:
    import torch

    from compressor import heads

    try:
        with quiet():
            # Attention: transformers takes sdpa where the family has it, else eager.
            model, info = heads.load(task, checkpoint.path, config=config, ignore_mismatched_sizes=replace_head)
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise TeacherError(
            f"The weights of {checkpoint.name} cannot be loaded: {first_line(error)}.", DAMAGED
        ) from error
    logger.debug("loaded %s: %s", checkpoint.path, info)
    for key, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TeacherError(
                f"{checkpoint.name} has weights that are not numbers (NaN or infinite): {key}.",
                "Its training failed; give another checkpoint.",
            )
    mismatched = {str(entry[0]) for entry in info["mismatched_keys"]}
    return model, {str(key) for key in info["missing_keys"]} | mismatched


def _teacher(
    checkpoint: Checkpoint, facts: TeacherFacts, model: Model, labels: tuple[str, ...], fine_tuned: bool
) -> Teacher:
    return Teacher(
        name=checkpoint.name,
        path=checkpoint.path,
        model=cast("PreTrainedModel", model),
        tokenizer=facts.tokenizer,
        architecture=facts.architecture,
        labels=labels,
        max_length=facts.max_length,
        fingerprint=facts.fingerprint,
        fine_tuned=fine_tuned,
        task=facts.task,
    )


def _missing(checkpoint: Checkpoint, keys: set[str]) -> TeacherError:
    return TeacherError(
        f"{checkpoint.name} lacks {len(keys)} weights that its model needs, such as {min(keys)}.", DAMAGED
    )
