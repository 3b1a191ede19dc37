"""Tiny real models and data, built from configs: no network, no files in the repository."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedTokenizerFast

from compressor import heads
from compressor.pooling import Pooling
from compressor.tasks import TASKS, Kind

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

LABELS: dict[Kind, tuple[str, ...]] = {
    "single-label": ("negative", "positive"),
    "multi-label": ("negative", "positive", "long"),
    "regression": ("score",),
    "token-classification": ("O", "B-GOOD", "I-GOOD", "B-BAD", "I-BAD"),
}

_SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
_BERT = {**_SIZES, "max_position_embeddings": 64}
_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_ROBERTA = {**_SIZES, **_IDS, "max_position_embeddings": 66, "type_vocab_size": 1}

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": {**_BERT, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
    "mpnet": {**_SIZES, **_IDS, "max_position_embeddings": 66},
    "albert": {**_BERT, **_IDS, "embedding_size": 16},
    "mobilebert": {
        **_BERT, "intermediate_size": 32, "embedding_size": 16, "intra_bottleneck_size": 16,
        "num_feedforward_networks": 2,
    },
    # As deberta-v3 has it: no absolute positions, log buckets, one projection for contents and positions.
    "deberta-v2": {
        **_BERT, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "pad_token_id": 0,
    },
    # Layers 0 and 3 are global, 1 and 2 see four tokens to either side.
    "modernbert": {
        **_BERT, **_IDS, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 8, "global_attn_every_n_layers": 3
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
    if model_type in ("bert", "electra", "albert", "mobilebert", "deberta-v2"):
        inputs.insert(1, "token_type_ids")
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=inputs, model_max_length=64,
    )  # fmt: skip


def model(
    model_type: str = "bert",
    labels: tuple[str, ...] | None = None,
    seed: int = 0,
    kind: Kind = "single-label",
    **changes: Any,
) -> Any:
    """A randomly initialised model of one architecture with the head of one task, in eval mode.

    Labels are those of ``LABELS`` unless they are given; a sentence encoder pools by the mean and normalises.
    """
    torch.manual_seed(seed)
    task = TASKS[kind]
    names = LABELS[kind] if labels is None and task.named else labels or ()
    named = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    config = AutoConfig.for_model(
        model_type, **{"vocab_size": len(tokenizer(model_type)), **CONFIGS[model_type], **changes},
        **(named if names else {}), **({"problem_type": task.problem_type} if kind != "single-label" else {}),
    )  # fmt: skip
    return heads.build(task, config, Pooling()).eval()


def teacher_folder(folder: Path, model_type: str = "bert", kind: Kind = "single-label", **changes: Any) -> Path:
    """Save a tiny model with its tokenizer as a Hugging Face folder; ``changes`` are those of ``model``."""
    model(model_type, kind=kind, **changes).save_pretrained(folder)
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
