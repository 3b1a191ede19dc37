"""Tiny sub-word tokenizers of the three kinds that can be trimmed, trained on invented words."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from compressor.tasks import Kind
from tests import tiny

SYLLABLES = ["ba", "do", "ke", "li", "mo", "nu", "pra", "ste", "tri", "zo"]


def invented(words: int, seed: int = 0) -> list[str]:
    """Words of two to four syllables."""
    rng = random.Random(seed)
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(words)]


def corpus() -> list[str]:
    """What the tokenizers are trained on: the toy language and invented words."""
    rng = random.Random(0)
    known, new = [*tiny.POSITIVE, *tiny.NEGATIVE, *tiny.NEUTRAL], invented(300)
    return [" ".join(rng.choices(known, k=6) + rng.choices(new, k=6)) for _ in range(400)]


def wordpiece() -> PreTrainedTokenizerFast:
    """As BERT's."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    special = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, inner.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    inner.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=["input_ids", "token_type_ids", "attention_mask"], model_max_length=64,
    )  # fmt: skip


_ROBERTA: dict[str, Any] = {
    "bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>",
    "sep_token": "</s>", "mask_token": "<mask>", "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 64,
}  # fmt: skip
_MARKS = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]  # in the order of the tiny configs: pad 0, bos 2, eos 3


def bpe() -> PreTrainedTokenizerFast:
    """As RoBERTa's, of bytes."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=_MARKS, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(corpus(), trainer)
    inner.post_processor = processors.RobertaProcessing(("</s>", 3), ("<s>", 2), add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **_ROBERTA)


def unigram() -> PreTrainedTokenizerFast:
    """As XLM-R's."""
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=_MARKS, unk_token="<unk>", initial_alphabet=list("abcxyz"), show_progress=False
    )
    inner.train_from_iterator(corpus(), trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **_ROBERTA)


KINDS: Mapping[str, tuple[Callable[[], PreTrainedTokenizerFast], str]] = {
    "WordPiece": (wordpiece, "bert"), "BPE": (bpe, "roberta"), "Unigram": (unigram, "xlm-roberta"),
}  # fmt: skip
"""Maker and architecture of each kind."""


def teacher_folder(folder: Path, name: str, kind: Kind = "single-label") -> Path:
    """Save a tiny model with the tokenizer of a kind as a Hugging Face folder."""
    make, model_type = KINDS[name]
    tokenizer = make()
    # As published models have it: some rows more than the tokenizer has pieces.
    tiny.model(model_type, kind=kind, vocab_size=len(tokenizer) + 3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
