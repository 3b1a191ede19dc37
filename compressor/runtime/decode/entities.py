"""From tags to entities: tags of words are merged as conlleval does it, whichever of the schemes they follow.

The rules hold for IOB1, IOB2 (BIO), IOBES, BILOU and BMES alike: ``B`` and ``S`` begin an entity, so does a change of
its type, so does any tag after ``O``, ``E`` or ``S``; and ``E`` and ``S`` end one. ``I-X`` after ``O`` therefore begins
an entity, as IOB1 means it and as conlleval forgives it in BIO
(https://www.clips.uantwerpen.be/conll2002/ner/bin/conlleval.txt; seqeval's default mode).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from compressor.runtime.decode.labels import Floats, softmax
from compressor.runtime.results import Entity

Ints = npt.NDArray[np.int64]
Scheme = Literal["prefixed", "plain", "each"]
"""How tags name entities: with a prefix (``B-PER``); without one, a run of ``PER`` being one entity; or, where no tag
means "nothing" (parts of speech), each word by itself."""

OUTSIDE = "O"
_PREFIXED = re.compile(r"([BIELSUM])[-_](.+)", re.DOTALL)
_SAME = {"L": "E", "U": "S", "M": "I"}  # BILOU's and BMES's words for those of IOBES


@dataclass(frozen=True, slots=True)
class Chunk:
    """Words that are one entity.

    Attributes:
        label: Its type, without prefix.
        first: Index of its first word.
        end: Index behind its last word.
    """

    label: str
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag taken apart: ``B``, ``I``, ``E``, ``S`` or ``O``, and the type of the entity."""

    prefix: str
    label: str


def scheme_of(names: Sequence[str]) -> Scheme:
    """Find out how tags name entities."""
    if all(name == OUTSIDE or _PREFIXED.fullmatch(name) for name in names):
        return "prefixed"
    return "plain" if OUTSIDE in names else "each"


@lru_cache(maxsize=64)
def parse_tags(names: tuple[str, ...]) -> tuple[Tag, ...]:
    """Take the names of all tags apart, in their order."""
    scheme = scheme_of(names)
    return tuple(_parse(name, scheme) for name in names)


def chunks(tags: Sequence[int] | Ints, names: Sequence[str]) -> list[Chunk]:
    """Merge the tags of a text's words to entities.

    Args:
        tags: Index into ``names`` of each word's tag.
        names: Of all tags.

    Returns:
        The entities, in the order of the text.
    """
    known = parse_tags(tuple(names))
    found: list[Chunk] = []
    going = False  # whether the last chunk may still grow
    for index, number in enumerate(tags):
        tag = known[number]
        if tag.prefix == "O":
            going = False
            continue
        if going and tag.prefix not in "BS" and found[-1].label == tag.label:
            found[-1] = Chunk(tag.label, found[-1].first, index + 1)
        else:
            found.append(Chunk(tag.label, index, index + 1))
        going = tag.prefix not in "ES"
    return found


def words(text: str, offsets: Ints) -> Ints:
    """Find the words of a running text among its tokens.

    A token goes on with the word before it where letters or digits meet without a gap; marks stand alone, and so does
    each token in a script that is written without spaces. The words are the same whatever the tokenizer takes for one:
    a sentence-piece tokenizer keeps "London." together, BERT's does not.

    Args:
        text: The text.
        offsets: First character and end of each token, of shape (tokens, 2); tokens without characters have no word.

    Returns:
        int64 of shape (words, 3): first token, first character and end of each word.
    """
    found: list[list[int]] = []
    for token, (before, end) in enumerate(offsets.tolist()):
        # Some tokenizers count the space before a word to it.
        start = end - len(text[before:end].lstrip())
        if before < 0 or start >= end:
            continue
        if found and (start < found[-1][2] or (start == found[-1][2] and _joined(text[start - 1], text[start]))):
            found[-1][2] = max(end, found[-1][2])
        else:
            found.append([token, start, end])
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def entities(text: str, offsets: Ints, logits: Floats, names: Sequence[str]) -> list[Entity]:
    """Read the entities of a text off its tokens: the first token of each word speaks for it.

    Args:
        text: The text.
        offsets: First character and end of each token, of shape (tokens, 2); empty for special tokens.
        logits: Of shape (tokens, tags).
        names: Of the tags.

    Returns:
        The entities, in the order of the text.
    """
    places = words(text, offsets)
    if not len(places):
        return []
    probabilities = softmax(logits[places[:, 0]])  # [w, t]
    best = probabilities.argmax(axis=-1)
    certain = probabilities.max(axis=-1).astype(np.float64)
    found = []
    for chunk in _glued(chunks(best, names), best, places, text, names):
        start, end = int(places[chunk.first, 1]), int(places[chunk.end - 1, 2])
        found.append(Entity(chunk.label, float(certain[chunk.first : chunk.end].mean()), text[start:end], start, end))
    return found


def _glued(found: Sequence[Chunk], tags: Ints, places: Ints, text: str, names: Sequence[str]) -> list[Chunk]:
    """Put words together that training took for one, as in "U.S." tagged ``S``: each of its parts repeats the tag."""
    closing = [tag.prefix in "ES" for tag in parse_tags(tuple(names))]
    glued: list[Chunk] = []
    for chunk in found:
        before, start = chunk.first - 1, int(places[chunk.first, 1])
        if (
            glued
            and glued[-1].end == chunk.first
            and tags[before] == tags[chunk.first]
            and closing[tags[before]]
            and places[before, 2] == start
            and not _spaceless(text[start])
            and scheme_of(names) == "prefixed"
        ):
            glued[-1] = Chunk(chunk.label, glued[-1].first, chunk.end)
        else:
            glued.append(chunk)
    return glued


def _parse(name: str, scheme: Scheme) -> Tag:
    match = _PREFIXED.fullmatch(name) if scheme == "prefixed" else None
    if match:
        return Tag(_SAME.get(match[1], match[1]), match[2])
    if name == OUTSIDE and scheme != "each":
        return Tag("O", "")
    return Tag("I" if scheme == "plain" else "S", name)


def _joined(before: str, after: str) -> bool:
    """Tell whether two characters that touch belong to one word."""
    return all(unicodedata.category(mark)[0] in "LMN" and not _spaceless(mark) for mark in (before, after))


# Scripts without spaces between words, by their blocks: Thai and Lao, Myanmar, Khmer, Japanese kana, and the
# ideographs, which BERT's tokenizers take one by one.
_SPACELESS = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x20000, 0x323AF),
)  # fmt: skip


def _spaceless(mark: str) -> bool:
    code = ord(mark)
    return code >= _SPACELESS[0][0] and any(first <= code <= last for first, last in _SPACELESS)
