"""Altered copies differ from their texts, keep what is not a word, and are the same for the same seed."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from tokenizers import models
from transformers import PreTrainedTokenizerFast

from compressor.augmentation import Lexicon, Propose, alter, by_masked_head, by_neighbours
from tests import tiny, tiny_tokenizers

TEXT = "the film was superb, and 2 actors: Warm!"


def near(lexicon: Lexicon, size: int = 1000) -> Propose:
    return by_neighbours(torch.randn(size, 16, generator=torch.Generator().manual_seed(0)), lexicon)


def unigram() -> PreTrainedTokenizerFast:
    """Of whole words, where the one of tiny_tokenizers has parts of them."""
    tokenizer = tiny_tokenizers.unigram()
    words = [*tiny.POSITIVE, *tiny.NEGATIVE, *tiny.NEUTRAL, "actors", "Warm"]
    pieces = [(mark, 0.0) for mark in ("<pad>", "<unk>", "<s>", "</s>", "<mask>")]
    pieces += [(f"\u2581{word}", -1.0) for word in words] + [(mark, -2.0) for mark in (",", ":", "!", "\u25812")]
    tokenizer.backend_tokenizer.model = models.Unigram(pieces, unk_id=1)
    return tokenizer


@pytest.mark.parametrize("make", [tiny_tokenizers.wordpiece, tiny_tokenizers.bpe, unigram])
def test_words_are_replaced_by_words_and_everything_else_stays(make: Callable[[], PreTrainedTokenizerFast]) -> None:
    lexicon = Lexicon(make(), 64)
    words = lexicon.find(TEXT).words
    assert {TEXT[word.start : word.end] for word in words} >= {"film", "was", "superb", "and"}
    (copies,) = alter([TEXT], 8, lexicon, near(lexicon), 0.5, 0)
    assert TEXT not in copies
    for copy in copies:
        assert re.sub(r"[A-Za-z]+", "x", copy) == re.sub(r"[A-Za-z]+", "x", TEXT)


def test_neighbours_are_the_nearest_by_cosine_without_the_word_itself() -> None:
    tokenizer = tiny.tokenizer()
    table = torch.randn(len(tokenizer), 4, generator=torch.Generator().manual_seed(1))
    lexicon = Lexicon(tokenizer, 64)
    found = lexicon.find("superb")
    ((proposal,),) = by_neighbours(table, lexicon)([(found, found.words)])
    own = tokenizer.get_vocab()["superb"]
    pieces = [int(piece) for piece in lexicon.pieces if piece != own]
    cosines = torch.nn.functional.cosine_similarity(table[own], table[pieces], dim=-1)
    assert proposal.pieces.tolist() == [pieces[place] for place in cosines.topk(15).indices.tolist()]
    assert proposal.chances.sum() == pytest.approx(1)


def test_a_masked_head_proposes_what_it_finds_likeliest_in_the_place_of_the_word() -> None:
    tokenizer, model = tiny.tokenizer(), tiny.model(kind="fill-mask")
    lexicon = Lexicon(tokenizer, 64)
    texts = [lexicon.find(text) for text in ("the film was superb", "it was dull and the story is very boring")]
    asked = [(found, [found.words[1], found.words[-1]]) for found in texts]
    proposals = by_masked_head(model, lexicon, tokenizer.mask_token_id, 0, "cpu")(asked)
    for (found, words), made in zip(asked, proposals, strict=True):
        ids = torch.tensor([found.ids])
        ids[0, [word.place for word in words]] = tokenizer.mask_token_id
        logits = model(input_ids=ids).logits[0]
        for word, proposal in zip(words, made, strict=True):
            likely = [int(p) for p in logits[word.place].argsort(descending=True) if int(p) in lexicon.pieces]
            assert proposal.pieces.tolist() == [piece for piece in likely if piece != word.piece][:15]


def test_the_same_seed_makes_the_same_copies_of_a_text_whatever_stands_behind_it() -> None:
    lexicon = Lexicon(tiny.tokenizer(), 64)
    texts = [text for text, _ in tiny.reviews(40)]
    first, again, other = (alter(texts, 2, lexicon, near(lexicon), 0.4, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert alter(texts[:5], 2, lexicon, near(lexicon), 0.4, 0) == first[:5]


def test_the_last_token_of_a_text_that_is_cut_stays_since_it_may_be_half_a_word() -> None:
    found = Lexicon(tiny.tokenizer(), 5).find("the film was superb")
    assert [found.text[word.start : word.end] for word in found.words] == ["the", "film"]


def test_texts_without_a_known_word_are_shuffled_or_stay() -> None:
    lexicon = Lexicon(tiny.tokenizer(), 64)
    copies, alone = alter(["zork blip quux", "zork"], 6, lexicon, near(lexicon), 0.4, 0)
    assert all(set(copy.split()) <= {"zork", "blip", "quux"} and copy != "zork blip quux" for copy in copies)
    assert alone == ["zork"] * 6
