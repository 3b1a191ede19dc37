"""Find out what a model folder holds, and whether it can teach, without loading its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

from compressor.architectures import Architecture, architecture_of, supported
from compressor.errors import TeacherError
from compressor.events import Listener, Note, ignore
from compressor.pooling import Pooling, is_sentence_encoder, read_pooling
from compressor.quiet import first_line, quiet
from compressor.tasks import TASKS, ProblemType, Task, TaskName
from compressor.teacher import head
from compressor.teacher.checkpoint import Checkpoint, fingerprint
from compressor.teacher.head import DAMAGED
from compressor.teacher.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from compressor.heads import Model

# fmt: off
_DECODERS = frozenset((
    "bloom", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral",
    "mixtral", "olmo", "opt", "phi", "phi3", "qwen2", "qwen3",
))
# fmt: on
_TEXT: TaskName = "text-classification"
_PROBLEMS: dict[ProblemType, Task] = {row.problem_type: row for row in TASKS.values() if row.problem_type}


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a model before its weights are loaded.

    Attributes:
        config: Its Hugging Face config.
        architecture: Its row in the table.
        tokenizer: A fast tokenizer that fits the model.
        has_head: The checkpoint holds a whole head for the task; a sentence embedding needs none, so always has it.
        labels: Label names in the order of the head's outputs; ``None`` without a head, or where outputs have no names.
        max_length: Longest sequence in tokens, special tokens included.
        input_names: Inputs of the model that carry information, in the order of its ``forward``.
        parameters: Weights of the model with its head, fresh or not.
        fingerprint: sha256 of weights, config and pooling.
        task: What the model does or is to do.
        problem_open: Neither a head nor the user says which kind of text classification it is: ``task`` is the usual
            one, and the labels of the data may show another.
        pooling: How a sentence encoder makes one vector of its tokens; ``None`` for other tasks.
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
    task: Task = TASKS["single-label"]
    problem_open: bool = False
    pooling: Pooling | None = None


def inspect(
    checkpoint: Checkpoint,
    listen: Listener = ignore,
    *,
    task: TaskName | None = None,
    problem_type: ProblemType | None = None,
    trust_remote_code: bool = False,
) -> TeacherFacts:
    """Find out what a model is and whether it can teach, without loading its weights.

    Args:
        checkpoint: The model folder.
        listen: Told why a head or model code that is there is not used, and how a plain encoder is pooled (``Note``).
        task: What the model is to do. Default: what its head is for, else text classification.
        problem_type: Kind of text classification. Default: as the head has it.
        trust_remote_code: Run Python code that the tokenizer brings along.

    Raises:
        TeacherError: Not a supported encoder, a head that does not fit the config, or a tokenizer that does not fit
            the model or the task.
    """
    from compressor import heads

    name = checkpoint.name
    _check_kind(checkpoint)
    architecture = architecture_of(SimpleNamespace(**checkpoint.config))
    config = _load_config(checkpoint, listen)
    tokenizer = load_tokenizer(checkpoint, architecture, config, trust_remote_code=trust_remote_code)
    row = _find_task(checkpoint, config, task, problem_type)
    _check_task(name, architecture, tokenizer, row)
    pooling = _pooling(checkpoint, listen) if heads.is_headless(row) else None
    skeleton = _skeleton(name, row, config, pooling)
    met = head.normalized(checkpoint, skeleton.base_model_prefix)
    has_head = head.holds_head(checkpoint, row, skeleton, met, listen) and head.fits(name, row, config, listen)
    is_open = row.name == _TEXT and not has_head and problem_type is None
    head.check_shapes(name, skeleton, met, architecture.layers, has_head)
    used = [key for key in heads.inputs_of(skeleton) if key != "token_type_ids" or _has_token_types(config)]
    limit = int(config.max_position_embeddings) - architecture.reserved_positions
    longest = pooling.max_length if pooling is not None and pooling.max_length is not None else limit
    return TeacherFacts(
        config=config,
        architecture=architecture,
        tokenizer=tokenizer,
        has_head=has_head,
        labels=head.label_names(name, row, config) if has_head and row.named else None,
        # Where the tokenizer states no limit, transformers puts a huge number.
        max_length=min(limit, longest, tokenizer.model_max_length),
        input_names=tuple(used),
        parameters=sum(parameter.numel() for parameter in skeleton.parameters()),
        fingerprint=_fingerprint(checkpoint, pooling),
        task=TASKS["single-label"] if is_open else row,
        problem_open=is_open,
        pooling=pooling,
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


def _load_config(checkpoint: Checkpoint, listen: Listener) -> PreTrainedConfig:
    """Read the config as transformers' own class: only of these the layers are known."""
    from transformers import AutoConfig

    try:
        with quiet():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                checkpoint.path, local_files_only=True, trust_remote_code=False
            )
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise TeacherError(f"The config of {checkpoint.name} is not valid: {first_line(error)}.", DAMAGED) from error
    if getattr(config, "auto_map", None):
        del config.auto_map  # the student has no such code beside it
        listen(
            Note(
                f"The model code of {checkpoint.name} is not used: it is read as transformers' {config.model_type}. "
                "Where that computes something else, the teacher's accuracy in the report shows it."
            )
        )
    return config


def _find_task(
    checkpoint: Checkpoint, config: PreTrainedConfig, task: TaskName | None, problem_type: ProblemType | None
) -> Task:
    """What the user says, else what the head says, else the usual."""
    name = task or head.said(checkpoint) or _TEXT
    if name != _TEXT:
        return next(row for row in TASKS.values() if row.name == name)
    own: ProblemType | None = config.problem_type
    if own is None:
        own = "regression" if config.num_labels == 1 else "single_label_classification"
    return _PROBLEMS[problem_type or own]


def _check_task(name: str, architecture: Architecture, tokenizer: PreTrainedTokenizerBase, task: Task) -> None:
    reason = supported(architecture, task)
    if reason:
        raise TeacherError(
            f"A {architecture.model_type} model cannot be compressed for {task.name}: {reason}.",
            "Choose another task, or a model of another family.",
        )
    if task.kind == "fill-mask" and tokenizer.mask_token_id is None:
        raise TeacherError(
            f"The tokenizer of {name} has no mask token, which --task fill-mask needs.",
            "Give a model that was trained on masked words.",
        )


def _pooling(checkpoint: Checkpoint, listen: Listener) -> Pooling:
    pooling = read_pooling(checkpoint.path)
    if not is_sentence_encoder(checkpoint.path):
        listen(
            Note(
                f"{checkpoint.name} does not say how it pools (there is no modules.json): the mean of its tokens is "
                "taken, and normalised."
            )
        )
    return pooling


def _fingerprint(checkpoint: Checkpoint, pooling: Pooling | None) -> str:
    """Hash what decides the answers; a sentence encoder's depend on its pooling too."""
    found = fingerprint(checkpoint)
    if pooling is None:
        return found
    return hashlib.sha256(f"{found}:{pooling.mode}:{pooling.normalize}".encode()).hexdigest()


def _has_token_types(config: PreTrainedConfig) -> bool:
    return int(getattr(config, "type_vocab_size", 2)) >= 2


def _skeleton(name: str, task: Task, config: PreTrainedConfig, pooling: Pooling | None) -> Model:
    """The model without memory behind its weights."""
    import torch

    from compressor import heads

    try:
        with torch.device("meta"), quiet():
            return heads.build(task, config, pooling)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, ZeroDivisionError) as error:
        raise TeacherError(f"The config of {name} does not describe a model: {first_line(error)}.", DAMAGED) from error
