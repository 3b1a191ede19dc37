"""Load a teacher: with the head that its checkpoint holds, or with a fresh one that is to be trained first.

``inspect`` decides which of the two from the weights' header; ``load`` checks again what was really loaded, so
that nothing is ever distilled from a random head.
"""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from compressor.artifacts import Teacher
from compressor.errors import TeacherError
from compressor.quiet import first_line, quiet
from compressor.teacher.checkpoint import Checkpoint
from compressor.teacher.inspection import TeacherFacts, in_head

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

_DAMAGED = "The folder was assembled from different models, or is damaged: download or save it again."


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
    if not facts.has_head or facts.labels is None:
        raise ValueError(f"{checkpoint.name} has no head: use with_new_head")
    model, missing = _load_model(checkpoint, facts.config)
    if missing:
        raise _missing(checkpoint, missing)
    return _teacher(checkpoint, facts, model, facts.labels, fine_tuned)


def with_new_head(checkpoint: Checkpoint, facts: TeacherFacts, labels: tuple[str, ...], seed: int) -> Teacher:
    """Load the encoder of a model and put a fresh classification head on it, to be trained before it teaches.

    Whatever head the checkpoint holds is dropped. torch's random state is left as it was.

    Args:
        checkpoint: The model folder.
        facts: What ``inspect`` found.
        labels: Names of the labels in the order of the new head's outputs.
        seed: Seed of the head's weights.

    Returns:
        In eval mode, fp32, on the CPU; ``fine_tuned`` is False, and the fingerprint is the encoder's.

    Raises:
        TeacherError: The weights do not make up the encoder.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    build: Any = AutoModelForSequenceClassification.from_config
    config = type(facts.config).from_dict(
        {
            **facts.config.to_dict(),
            "architectures": None,
            "problem_type": "single_label_classification",
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    )
    small = copy.deepcopy(config)  # the head does not depend on depth and vocabulary; filling those takes seconds
    small.num_hidden_layers = 1
    small.vocab_size = max(int(getattr(config, "pad_token_id", None) or 0) + 1, 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build(small, dtype=torch.float32)
        model, missing = _load_model(checkpoint, config, replace_head=True)
    head = {key for key in fresh.state_dict() if in_head(key, model.base_model_prefix)}
    if missing - head:
        raise _missing(checkpoint, missing - head)
    # A checkpoint's pooler is pre-trained: it stays. Any other part of a head was for another task.
    replaced = {key for key in head if not key.startswith(f"{model.base_model_prefix}.")} | missing
    model.load_state_dict({key: fresh.state_dict()[key] for key in replaced}, strict=False)
    return _teacher(checkpoint, facts, model, labels, fine_tuned=False)


def _load_model(
    checkpoint: Checkpoint, config: PreTrainedConfig, *, replace_head: bool = False
) -> tuple[PreTrainedModel, set[str]]:
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        with quiet():
            # Attention: transformers takes sdpa where the family has it, else eager.
            model, info = AutoModelForSequenceClassification.from_pretrained(
                checkpoint.path,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=replace_head,
                output_loading_info=True,
            )
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise TeacherError(
            f"The weights of {checkpoint.name} cannot be loaded: {first_line(error)}.", _DAMAGED
        ) from error
    logger.debug("loaded %s: %s", checkpoint.path, info)
    for key, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TeacherError(
                f"{checkpoint.name} has weights that are not numbers (NaN or infinite): {key}.",
                "Its training failed; give another checkpoint.",
            )
    mismatched = {str(entry[0]) for entry in info["mismatched_keys"]}
    return model.eval(), {str(key) for key in info["missing_keys"]} | mismatched


def _teacher(
    checkpoint: Checkpoint, facts: TeacherFacts, model: PreTrainedModel, labels: tuple[str, ...], fine_tuned: bool
) -> Teacher:
    return Teacher(
        name=checkpoint.name,
        path=checkpoint.path,
        model=model,
        tokenizer=facts.tokenizer,
        architecture=facts.architecture,
        labels=labels,
        max_length=facts.max_length,
        fingerprint=facts.fingerprint,
        fine_tuned=fine_tuned,
    )


def _missing(checkpoint: Checkpoint, keys: set[str]) -> TeacherError:
    return TeacherError(
        f"{checkpoint.name} lacks {len(keys)} weights that its model needs, such as {min(keys)}.", _DAMAGED
    )
