"""Tiny real models and data, built from configs: no network, no files in the repository."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

POSITIVE = ["good", "great", "fine", "superb", "lovely", "bright", "moving", "warm", "witty", "fresh"]
NEGATIVE = ["bad", "awful", "dull", "poor", "weak", "stale", "boring", "cold", "clumsy", "flat"]
NEUTRAL = [
    "the",
    "a",
    "this",
    "film",
    "movie",
    "plot",
    "scene",
    "actor",
    "is",
    "was",
    "and",
    "with",
    "very",
    "quite",
    "it",
    "story",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64
    },
    "roberta": {
        "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66,
        "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "type_vocab_size": 1,
    },
    "electra": {
        "embedding_size": 16, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
    "distilbert": {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
    "mpnet": {
        "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 66,
        "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    },
}  # fmt: skip


def tokenizer(model_type: str = "bert") -> PreTrainedTokenizerFast:
    """A word-level tokenizer whose vocabulary is the toy language."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *POSITIVE, *NEGATIVE, *NEUTRAL])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    inputs = ["input_ids", "attention_mask"]
    if model_type in ("bert", "electra"):
        inputs.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=inputs, model_max_length=64,
    )  # fmt: skip


def model(
    model_type: str = "bert", labels: tuple[str, ...] = ("negative", "positive"), seed: int = 0, **changes: Any
) -> Any:
    """A randomly initialised classifier of one architecture, in eval mode."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer(model_type)), **{**CONFIGS[model_type], **changes},
        id2label=dict(enumerate(labels)), label2id={name: index for index, name in enumerate(labels)},
    )  # fmt: skip
    return AutoModelForSequenceClassification.from_config(config).eval()


def teacher_folder(folder: Path, model_type: str = "bert", **changes: Any) -> Path:
    """Save a tiny classifier with its tokenizer as a Hugging Face folder."""
    model(model_type, **changes).save_pretrained(folder)
    tokenizer(model_type).save_pretrained(folder)
    return folder


def headless_folder(folder: Path, model_type: str = "bert") -> Path:
    """Save a tiny encoder without a head, as a pre-trained model is published."""
    model(model_type).base_model.save_pretrained(folder)
    tokenizer(model_type).save_pretrained(folder)
    return folder


def reviews(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Toy reviews, learnable in a minute: (text, label name) pairs of 3 to 20 words."""
    rng = random.Random(seed)
    found = []
    for index in range(rows):
        name, words = (("positive", POSITIVE), ("negative", NEGATIVE))[index % 2]
        text = rng.choices(NEUTRAL, k=rng.randint(2, 16)) + rng.choices(words, k=rng.randint(1, 4))
        rng.shuffle(text)
        found.append((" ".join(text), name))
    return found
