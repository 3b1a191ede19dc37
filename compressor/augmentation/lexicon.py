"""Which words of a text may be replaced, and by which pieces of a tokenizer: those that are whole words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.answers import Ints

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS = ("\u0120", "\u2581")
"""How a piece begins that begins a word: in byte-level BPE, and in SentencePiece. WordPiece marks the other ones."""


@dataclass(frozen=True)
class Word:
    """A word that is one piece.

    Attributes:
        start: Its first character in the text.
        end: Behind its last one.
        place: Index of its token.
        piece: Id of the piece that stands for it in the middle of a sentence.
    """

    start: int
    end: int
    place: int
    piece: int


@dataclass(frozen=True)
class Found:
    """A text, cut.

    Attributes:
        text: The text.
        ids: Its tokens with the special ones.
        words: Those that may be replaced, in order.
    """

    text: str
    ids: tuple[int, ...]
    words: tuple[Word, ...]


class Lexicon:
    """The whole words among a tokenizer's pieces.

    Args:
        tokenizer: Of the fast kind.
        max_length: Longest sequence in tokens; words behind it are not replaced.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._tokenizer: Any = tokenizer
        self._max_length = max_length
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        special = set(tokenizer.all_special_ids)
        marked = next((mark for mark in _MARKS if sum(piece.startswith(mark) for piece in vocabulary) > 1), "")
        surfaces: dict[int, str] = {}
        for piece, index in vocabulary.items():
            begins = piece.startswith(marked) if marked else not piece.startswith("##")
            surface = str(self._tokenizer.decode([index])).strip() if begins and index not in special else ""
            if surface.isalpha():
                surfaces[index] = surface
        self._surfaces = surfaces
        # A sentence's first word has no mark in byte-level BPE: the word itself is the piece that has one.
        self._alike = {vocabulary[piece[1:]]: index for piece, index in vocabulary.items()
                       if marked and index in surfaces and piece[1:] in vocabulary}  # fmt: skip
        self.pieces: Ints = np.array(sorted(surfaces), np.int64)

    def find(self, text: str) -> Found:
        """Cut a text, and find the words of one piece in it."""
        cut = self._tokenizer(text, truncation=True, max_length=self._max_length, return_offsets_mapping=True)
        ids, offsets, owners = cut["input_ids"], cut["offset_mapping"], cut.word_ids(0)
        # The last token of a text that was cut may be half a word.
        most = len(ids) if len(ids) < self._max_length else len(ids) - 2
        words = []
        for place, (piece, (begin, end), owner) in enumerate(zip(ids, offsets, owners, strict=True)):
            whole = self._alike.get(piece, piece)
            written = text[begin:end].lstrip()  # some tokenizers count the space in
            start = end - len(written)
            # SentencePiece counts a comma into the word before it; Chinese has words without spaces between them.
            alone = owner not in (*owners[:place][-1:], *owners[place + 1 : place + 2]) or not (
                text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()
            )
            if place < most and owner is not None and alone and whole in self._surfaces and written.isalpha():
                words.append(Word(start, end, place, whole))
        return Found(text, tuple(ids), tuple(words))

    def write(self, piece: int, instead: str) -> str:
        """Write a piece as the word that it replaces was written: with a capital, or in capitals."""
        surface = self._surfaces[piece]
        if len(instead) > 1 and instead.isupper():
            return surface.upper()
        return surface[:1].upper() + surface[1:] if instead[:1].isupper() else surface
