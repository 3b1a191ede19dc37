"""Load a teacher's tokenizer and check that it fits the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressor.architectures import Architecture
from compressor.errors import TeacherError
from compressor.quiet import first_line, quiet
from compressor.teacher.checkpoint import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def load_tokenizer(
    checkpoint: Checkpoint, architecture: Architecture, config: PreTrainedConfig, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a model's fast tokenizer.

    Args:
        checkpoint: The model folder.
        architecture: Its row in the table.
        config: Its Hugging Face config.
        trust_remote_code: Run Python code that the tokenizer brings along.

    Raises:
        TeacherError: Damaged, slow, empty, without padding, or of another model.
    """
    from transformers import AutoTokenizer

    name = checkpoint.name
    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                checkpoint.path, config=config, local_files_only=True, trust_remote_code=trust_remote_code
            )
    except Exception as error:
        raise TeacherError(
            f"The tokenizer of {name} cannot be loaded: {first_line(error)}.", "Save it again with save_pretrained."
        ) from error
    if not tokenizer.is_fast:
        raise TeacherError(
            f"The tokenizer of {name} has no fast form (tokenizer.json), which the deployed folder needs.",
            "Convert it with transformers' convert_slow_tokenizer and save it again.",
        )
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        raise TeacherError(
            f"The tokenizer of {name} knows only {len(tokenizer)} special tokens and no word.",
            "Put its vocabulary file beside the model.",
        )
    if len(tokenizer) > config.vocab_size:
        raise TeacherError(
            f"The tokenizer of {name} has {len(tokenizer)} tokens, its model only {config.vocab_size}.",
            "It belongs to another model, or tokens were added without model.resize_token_embeddings.",
        )
    if tokenizer.pad_token_id is None:
        raise TeacherError(
            f"The tokenizer of {name} has no padding token, so that texts cannot be batched.",
            "Set tokenizer.pad_token to the token that the model was trained with, and save it again.",
        )
    # These families count positions from the padding id on: another id would shift every position.
    if architecture.reserved_positions and tokenizer.pad_token_id != config.pad_token_id:
        raise TeacherError(
            f"{name} pads with token {tokenizer.pad_token_id} by its tokenizer, {config.pad_token_id} by its config.",
            "Correct pad_token_id in config.json, or give the tokenizer that the model was trained with.",
        )
    return tokenizer
