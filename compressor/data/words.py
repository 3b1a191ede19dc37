"""Words with tags: out of tokens or entities, and onto the tokens of a model."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from compressor.answers import IGNORED
from compressor.data.rows import Item, Rows, Spans
from compressor.data.texts import is_missing, read_string
from compressor.errors import DataError

OUTSIDE = "O"

# Scripts that are written without spaces: kana, CJK symbols, Han (basic, extensions, compatibility). Hangul has spaces.
_UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
# CJK punctuation and full-width forms stand between such characters without spaces too.
_UNSPACED_MARKS = ((0x3000, 0x303F), (0xFF00, 0xFFEF))


def tagged(part: Rows, index: int) -> Item | str:
    """Check a row of words and tags, or of a text and its entities."""
    value = part.texts[index]
    if isinstance(value, list | tuple):
        return _from_tokens(part, index, value)
    text = read_string(part, index, value, "text")
    if not text.strip():
        return "text"
    entities = part.labels[index]
    if isinstance(entities, str) or is_missing(entities, declared=False):
        return "label"
    words = split_words(text)
    found = sorted(_entity(part, index, text, item) for item in _listed(part, index, entities))
    for (_, end, first), (start, _, second) in pairwise(found):
        if start < end:
            raise DataError(
                f"{part.place(index)}: the entities {first!r} and {second!r} overlap at character {start}.",
                "A word can have one tag: keep one of the two.",
            )
    return _tag_words(text, words, found)


# --- words and tags -------------------------------------------------------------------------


def _from_tokens(part: Rows, index: int, tokens: Sequence[object]) -> Item | str:
    tags = part.labels[index]
    if not tokens:
        return "text"
    if is_missing(tags, declared=False):
        return "label"
    if not isinstance(tags, list | tuple) or len(tags) != len(tokens):
        given = f"{len(tags)} tags" if isinstance(tags, list | tuple) else f"the tags {str(tags)[:40]!r}"
        raise DataError(
            f"{part.place(index)}: {len(tokens)} tokens have {given}.",
            "Each token needs one tag. Name the columns with --tokens-column and --tags-column.",
        )
    words, kept = [], []
    for token, tag in zip(tokens, tags, strict=True):
        word = read_string(part, index, token, "token").strip()
        if word:  # a blank one has no place in a text
            words.append(word)
            kept.append(tag)
    if not words:
        return "text"
    text, spans = join(words)
    mended = "Blank words were left out, with their tags" if len(words) < len(tokens) else ""
    return Item(text, tuple(kept), words=spans, mended=mended)


def join(words: Sequence[str]) -> tuple[str, Spans]:
    """Write words as the text that they come from: with a space between them, but none within Chinese or Japanese.

    Returns:
        The text, and each word's first character and end in it.
    """
    text, spans = words[0], [(0, len(words[0]))]
    parts, length = [text], len(text)
    for before, word in pairwise(words):
        if not (is_unspaced(before[-1], marks=True) and is_unspaced(word[0], marks=True)):
            parts.append(" ")
            length += 1
        parts.append(word)
        spans.append((length, length + len(word)))
        length += len(word)
    return "".join(parts), tuple(spans)


def is_unspaced(character: str, *, marks: bool = False) -> bool:
    """Tell whether a character belongs to a script that puts no spaces between words.

    Args:
        character: One code point.
        marks: Count its punctuation as well.
    """
    code = ord(character)
    return any(first <= code <= last for first, last in _UNSPACED + (_UNSPACED_MARKS if marks else ()))


# --- texts and entities ---------------------------------------------------------------------


def split_words(text: str) -> Spans:
    """Cut a text into words: runs of letters and digits; every other mark, and every Chinese character, is its own."""
    spans: list[tuple[int, int]] = []
    open_word = False
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if category == "Cf" and open_word:  # such as the joiners of Persian: part of the word if it goes on
            continue
        if character.isspace() or category in ("Cc", "Cf"):
            open_word = False
        elif category[0] in "LNM" and not is_unspaced(character):
            if open_word:
                spans[-1] = (spans[-1][0], place + 1)
            else:
                spans.append((place, place + 1))
            open_word = True
        else:
            spans.append((place, place + 1))
            open_word = False
    return tuple(spans)


_Entity = tuple[int, int, str]


def _listed(part: Rows, index: int, value: object) -> Sequence[object]:
    if isinstance(value, list | tuple):
        return value
    raise DataError(f"{part.place(index)}: the entities are {str(value)[:40]!r}.", _ENTITIES)


def _entity(part: Rows, index: int, text: str, value: object) -> _Entity:
    if isinstance(value, Mapping):
        start, end = value.get("start"), value.get("end")
        label = next((value[key] for key in ("label", "entity", "type", "tag", "entity_group") if key in value), None)
        surface = value.get("text", value.get("word"))
    else:
        start, end, label = value if isinstance(value, list | tuple) and len(value) == 3 else (None, None, None)
        surface = None
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str) or not label.strip():
        raise DataError(f"{part.place(index)}: the entity is {str(value)[:60]}.", _ENTITIES)
    if not 0 <= start < end <= len(text) or not text[start:end].strip():
        outside = f"is outside the text, which has {len(text)} characters"
        raise DataError(
            f"{part.place(index)}: the entity {label!r} from {start} to {end} "
            f"{'holds no word' if 0 <= start < end <= len(text) else outside}.",
            "start is its first character and end the one after its last, counted in code points from 0.",
        )
    if isinstance(surface, str) and surface.strip() != text[start:end].strip():
        raise DataError(
            f"{part.place(index)}: the entity {surface!r} stands at {start} to {end}, where the text has "
            f"{text[start:end]!r}.",
            "start and end count code points, not bytes or UTF-16 units.",
        )
    start += len(text[start:end]) - len(text[start:end].lstrip())
    end -= len(text[start:end]) - len(text[start:end].rstrip())
    return start, end, label.strip()


_ENTITIES = 'Write entities as [{"start": 0, "end": 5, "label": "person"}], a list for each text.'


def _tag_words(text: str, words: Spans, entities: Sequence[_Entity]) -> Item:
    """Give every word its tag; one that an entity cuts through becomes two."""
    borders = sorted({border for start, end, _ in entities for border in (start, end)})
    cut: list[tuple[int, int]] = []
    for start, end in words:
        inside = [border for border in borders if start < border < end]
        cut += pairwise([start, *inside, end])
    tags = []
    place = 0
    begun = -1
    for start, _ in cut:
        while place < len(entities) and entities[place][1] <= start:
            place += 1
        if place < len(entities) and entities[place][0] <= start:
            tags.append(f"{'I' if begun == place else 'B'}-{entities[place][2]}")
            begun = place
        else:
            tags.append(OUTSIDE)
    return Item(text, tuple(tags), words=tuple(cut))


# --- onto tokens ----------------------------------------------------------------------------


def trim(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take the white space off both ends of the stretches that tokens stand for; some tokenizers count it in."""
    found = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1  # noqa: PLW2901
        while start < end and text[end - 1].isspace():
            end -= 1  # noqa: PLW2901
        found.append((start, end))
    return found


def align(text: str, offsets: Sequence[tuple[int, int]], words: Spans) -> list[int]:
    """Find the word of every token: the one that holds the token's first character.

    Args:
        text: What was tokenised.
        offsets: First character and end of each token, equal for special tokens.
        words: First character and end of each word, in order.

    Returns:
        An index into ``words`` for each token; -1 for special tokens and those between words.
    """
    trimmed = trim(text, offsets)
    begins = np.asarray([start for start, _ in words], dtype=np.int64)
    found = np.searchsorted(begins, [start for start, _ in trimmed], side="right") - 1
    return [
        int(word) if start < end and word >= 0 and start < words[word][1] else -1
        for word, (start, end) in zip(found.tolist(), trimmed, strict=True)
    ]


def token_labels(aligned: Sequence[int], tags: Sequence[int], inside: Sequence[int]) -> list[int]:
    """Give the first token of each word its tag, and further ones that of a word inside the same entity.

    Args:
        aligned: Word of each token, as ``align`` gives it.
        tags: Label of each word.
        inside: For each label the one that follows within an entity: ``I-`` for ``B-``, else itself.

    Returns:
        One label per token, ``IGNORED`` outside words.
    """
    before = -1
    found = []
    for word in aligned:
        if word < 0:
            found.append(IGNORED)
            continue
        found.append(inside[tags[word]] if word == before else tags[word])
        before = word
    return found


def inside_labels(names: Sequence[str]) -> tuple[int, ...]:
    """For each label, the one of further tokens of the same word."""
    place = {name: index for index, name in enumerate(names)}
    return tuple(
        place.get(f"I{name[1:]}", index) if name.startswith(("B-", "B_")) else index for index, name in enumerate(names)
    )
