"""What a word may be replaced by: what a masked language model says, or what is near it in a table of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compressor.answers import Floats, Ints, pad
from compressor.augmentation.lexicon import Found, Lexicon, Word
from compressor.heads import answering_at

MOST = 15
"""Words that one is drawn from, as in TinyBERT (K)."""

_CHUNK = 512


@dataclass(frozen=True)
class Proposal:
    """Pieces that may replace one word.

    Attributes:
        pieces: Their ids, of shape (at most ``MOST``,).
        chances: How likely each is drawn, of the same shape; they add up to 1.
    """

    pieces: Ints
    chances: Floats


Propose = Callable[[Sequence[tuple[Found, Sequence[Word]]]], list[list[Proposal]]]
"""For each text of a batch, a proposal for each word of it that is to be replaced."""


def by_neighbours(table: Tensor, lexicon: Lexicon) -> Propose:
    """Propose the words whose embeddings have the highest cosine with that of the word, all alike.

    Jiao et al. 2020 (TinyBERT, https://arxiv.org/abs/1909.10351, algorithm 1) take the neighbours in GloVe for words
    that BERT cuts; here the teacher's own word embeddings stand for GloVe, and no second model is needed.

    Args:
        table: Word embeddings, of shape (vocabulary, width).
        lexicon: Says which pieces are words.
    """
    pieces = lexicon.pieces
    vectors = nn.functional.normalize(table.detach().float().cpu()[torch.from_numpy(pieces)], dim=-1)  # [words, width]
    known: dict[int, Proposal] = {}

    def learn(wanted: Sequence[int]) -> None:
        for start in range(0, len(wanted), _CHUNK):
            places = np.searchsorted(pieces, wanted[start : start + _CHUNK])
            near = vectors[torch.from_numpy(places)] @ vectors.T  # [chunk, words]
            near[torch.arange(len(places)), torch.from_numpy(places)] = -torch.inf
            count = min(MOST, len(pieces) - 1)
            for place, found in zip(places.tolist(), near.topk(count).indices.numpy(), strict=True):
                known[int(pieces[place])] = Proposal(pieces[found], np.full(count, 1 / max(count, 1), np.float32))

    def propose(batch: Sequence[tuple[Found, Sequence[Word]]]) -> list[list[Proposal]]:
        learn(sorted({word.piece for _, words in batch for word in words} - known.keys()))
        return [[known[word.piece] for word in words] for _, words in batch]

    return propose


def by_masked_head(model: nn.Module, lexicon: Lexicon, mask: int, padding: int, device: str) -> Propose:
    """Propose what a masked language model says in the place of the words, all of them masked at once.

    The likeliest whole words but the word itself, each as likely as the model has it: the replacement of Jiao et al.
    2020 (TinyBERT, https://arxiv.org/abs/1909.10351, algorithm 1), with the masks of a copy in one pass as in Wu et
    al. 2019 (https://arxiv.org/abs/1812.06705, section 3.3).

    Args:
        model: With ``logits`` of shape (batch, tokens, vocabulary), on the device and in eval mode.
        lexicon: Says which pieces are words.
        mask: Id of the mask token.
        padding: Id of the padding token.
        device: Where the model is.
    """
    pieces = torch.from_numpy(lexicon.pieces).to(device)

    def propose(batch: Sequence[tuple[Found, Sequence[Word]]]) -> list[list[Proposal]]:
        rows = []
        for found, words in batch:
            hidden = np.array(found.ids, np.int64)
            hidden[[word.place for word in words]] = mask
            rows.append({"input_ids": hidden, "attention_mask": np.ones(len(hidden), np.int64)})
        feed = {name: torch.from_numpy(array).to(device)
                for name, array in pad(rows, ("input_ids", "attention_mask"), padding).items()}  # fmt: skip
        asked = torch.zeros(feed["input_ids"].shape, dtype=torch.bool, device=device)
        for row, (_, words) in enumerate(batch):
            asked[row, [word.place for word in words]] = True
        # Every token over a vocabulary of 250,000 would be gigabytes.
        with torch.inference_mode(), answering_at(model, asked):
            found_likely = iter(model(**feed).logits[0])  # [vocabulary] for each word, in reading order
            return [[_likeliest(next(found_likely)[pieces].float(), word, lexicon.pieces) for word in words]
                    for _, words in batch]  # fmt: skip

    return propose


def _likeliest(logits: Tensor, word: Word, pieces: Ints) -> Proposal:
    """The best pieces of [words] logits, without the word itself, whose logit is overwritten."""
    logits[int(np.searchsorted(pieces, word.piece))] = -torch.inf
    top = logits.topk(min(MOST, len(pieces) - 1))
    return Proposal(pieces[top.indices.cpu().numpy()], top.values.softmax(-1).cpu().numpy())
