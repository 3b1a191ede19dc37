"""Find out what a model folder holds, and whether it can teach, without loading its weights.

The names and shapes in the weights' header are compared with those of the classification model, so that a
head which the checkpoint does not hold is never taken for a trained one.
"""

from __future__ import annotations

import inspect as signatures
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from compressor.architectures import Architecture, architecture_of
from compressor.errors import TeacherError
from compressor.events import Listener, Note, ignore
from compressor.quiet import first_line, quiet
from compressor.teacher.checkpoint import Checkpoint, fingerprint
from compressor.teacher.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# fmt: off
_DECODERS = frozenset((
    "bloom", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral",
    "mixtral", "olmo", "opt", "phi", "phi3", "qwen2", "qwen3",
))
# fmt: on
_HEAD = "ForSequenceClassification"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # checkpoints of 2018
_DAMAGED = "The folder was assembled from different models, or is damaged: download or save it again."


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a model before its weights are loaded.

    Attributes:
        config: Its Hugging Face config.
        architecture: Its row in the table.
        tokenizer: A fast tokenizer that fits the model.
        has_head: The checkpoint holds a whole classification head.
        labels: Label names in the order of the head's outputs; ``None`` without a head.
        max_length: Longest sequence in tokens, special tokens included.
        input_names: Inputs of the model that carry information, in the order of its ``forward``.
        parameters: Weights of the model with its head, fresh or not.
        fingerprint: sha256 of weights and config.
    """

    config: PreTrainedConfig
    architecture: Architecture
    tokenizer: PreTrainedTokenizerBase
    has_head: bool
    labels: tuple[str, ...] | None
    max_length: int
    input_names: tuple[str, ...]
    parameters: int
    fingerprint: str


def inspect(checkpoint: Checkpoint, listen: Listener = ignore, *, trust_remote_code: bool = False) -> TeacherFacts:
    """Find out what a model is and whether it can teach, without loading its weights.

    Args:
        checkpoint: The model folder.
        listen: Told why a head that is there is not used (``Note``).
        trust_remote_code: Run Python code that the model brings along.

    Raises:
        TeacherError: Not a supported encoder, a head that does not fit the task or the config, or a tokenizer
            that does not fit the model.
    """
    name = checkpoint.name
    _check_kind(checkpoint)
    architecture = architecture_of(SimpleNamespace(model_type=checkpoint.config.get("model_type")))
    config = _load_config(checkpoint, trust_remote_code)
    tokenizer = load_tokenizer(checkpoint, architecture, config, trust_remote_code=trust_remote_code)
    skeleton = _skeleton(name, config)
    met = _normalized(checkpoint, skeleton.base_model_prefix)
    has_head = _has_head(checkpoint, skeleton, met, listen)
    _check_shapes(name, skeleton, met, architecture.layers, has_head)
    labels = _labels(name, config) if has_head else None
    used = [key for key in signatures.signature(skeleton.forward).parameters if key in _INPUTS]
    if getattr(config, "type_vocab_size", 2) < 2 and "token_type_ids" in used:
        used.remove("token_type_ids")
    limit = int(config.max_position_embeddings) - architecture.reserved_positions
    return TeacherFacts(
        config=config,
        architecture=architecture,
        tokenizer=tokenizer,
        has_head=has_head,
        labels=labels,
        # Where the tokenizer states no limit, transformers puts a huge number.
        max_length=min(limit, tokenizer.model_max_length),
        input_names=tuple(used),
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        fingerprint=fingerprint(checkpoint),
    )


# --- what kind of model it is ---------------------------------------------------------------


def _check_kind(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    model_type = config.get("model_type")
    written = [str(item) for item in config.get("architectures") or ()]
    if model_type is None:
        raise TeacherError(
            f"The config of {checkpoint.name} names no model_type.",
            "Give a folder that transformers' save_pretrained wrote.",
        )
    kind = ""
    if config.get("is_encoder_decoder"):
        kind = "an encoder-decoder"
    elif (
        config.get("is_decoder")
        or model_type in _DECODERS
        or any(item.endswith(("ForCausalLM", "LMHeadModel")) for item in written)
    ):
        kind = "a decoder"
    if kind:
        title = " ".join([str(model_type), *(f"({item})" for item in written[:1])])
        raise TeacherError(
            f"{checkpoint.name} is {kind}: {title}. Only encoders can be compressed.",
            "Give an encoder such as bert-base, roberta-base or mpnet-base.",
        )


def _load_config(checkpoint: Checkpoint, trust_remote_code: bool) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                checkpoint.path, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise TeacherError(f"The config of {checkpoint.name} is not valid: {first_line(error)}.", _DAMAGED) from error
    return config


def _skeleton(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    """The classification model without memory behind its weights."""
    import torch
    from transformers import AutoModelForSequenceClassification

    build: Any = AutoModelForSequenceClassification.from_config
    try:
        with torch.device("meta"), quiet():
            model: PreTrainedModel = build(config)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, ZeroDivisionError) as error:
        raise TeacherError(f"The config of {name} does not describe a model: {first_line(error)}.", _DAMAGED) from error
    return model


# --- the head -------------------------------------------------------------------------------


def in_head(key: str, prefix: str) -> bool:
    """Tell whether a weight belongs to the head, or to the pooler that the head stands on.

    Args:
        key: Name in the state dict of the classification model.
        prefix: ``base_model_prefix`` of that model.
    """
    return not key.startswith(f"{prefix}.") or key.startswith(f"{prefix}.pooler.")


def _normalized(checkpoint: Checkpoint, prefix: str) -> dict[str, tuple[int, ...]]:
    """Shapes by the names of the classification model: base models are saved without the prefix."""
    bare = not any(key.startswith(f"{prefix}.") for key in checkpoint.tensors)
    found = {}
    for key, tensor in checkpoint.tensors.items():
        new = key
        for old, current in _RENAMED.items():
            new = new.replace(old, current)
        found[f"{prefix}.{new}" if bare else new] = tensor.shape
    return found


def _shapes(skeleton: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in skeleton.state_dict().items()}


def _has_head(
    checkpoint: Checkpoint, skeleton: PreTrainedModel, met: Mapping[str, tuple[int, ...]], listen: Listener
) -> bool:
    prefix = skeleton.base_model_prefix
    written = [str(item) for item in checkpoint.config.get("architectures") or ()]
    head = [key for key in skeleton.state_dict() if in_head(key, prefix)]
    missing = [key for key in head if key not in met]
    name = checkpoint.name
    if written and not any(item.endswith(_HEAD) for item in written):
        if any("For" in item for item in written):
            listen(Note(f"{name} is a {written[0]}: its head is for another task and is replaced by a new one."))
        return False
    if not missing:
        return True
    if written or len(missing) < len(head):
        listen(Note(f"The head of {name} is incomplete ({missing[0]} is missing): it is replaced by a new one."))
    return False


def _check_shapes(
    name: str, skeleton: PreTrainedModel, met: Mapping[str, tuple[int, ...]], layers: str, has_head: bool
) -> None:
    expected = _shapes(skeleton)
    prefix = f"{skeleton.base_model_prefix}."
    labels = skeleton.config.num_labels
    for key, shape in expected.items():
        if key not in met or met[key] == shape or (not has_head and not key.startswith(prefix)):
            continue
        outputs = met[key][0] if met[key] else 0
        if not key.startswith(prefix) and shape[0] == labels != outputs:
            raise TeacherError(
                f"The head of {name} has {outputs} outputs, but its config names {labels} labels.",
                "Correct id2label and label2id in config.json.",
            )
        raise TeacherError(
            f"{name}: {key} has the shape {met[key]} in the weights, and {shape} by config.json.", _DAMAGED
        )
    missing = [key for key in expected if not in_head(key, skeleton.base_model_prefix) and key not in met]
    if missing:
        raise TeacherError(
            f"{name} lacks {len(missing)} of the encoder's weights that config.json promises, such as {missing[0]}.",
            _DAMAGED,
        )
    extra = [key for key in met if key.startswith(f"{layers}.") and key not in expected]
    if extra:
        raise TeacherError(
            f"{name} has {len(extra)} encoder weights that config.json knows nothing of, such as {extra[0]}.", _DAMAGED
        )


def _labels(name: str, config: PreTrainedConfig) -> tuple[str, ...]:
    count = int(config.num_labels or 0)
    if count < 2:
        raise TeacherError(
            f"The head of {name} has one output: it is a regression, not a text-classification.",
            "Give a classifier, or the model without its head to train a new one.",
        )
    if config.problem_type not in (None, "single_label_classification"):
        raise TeacherError(
            f"The head of {name} is for {config.problem_type}; only single-label classification is supported.",
            "Give a single-label classifier, or the model without its head to train a new one.",
        )
    names: dict[Any, str] = dict(config.id2label or {})
    if sorted(names) != list(range(count)):
        raise TeacherError(
            f"id2label of {name} numbers its labels {sorted(names)}, not 0 to {count - 1}.",
            "Correct id2label in config.json.",
        )
    labels = tuple(str(names[index]) for index in range(count))
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise TeacherError(f"id2label of {name} names {twice[0]!r} twice.", "Correct id2label in config.json.")
    return labels
