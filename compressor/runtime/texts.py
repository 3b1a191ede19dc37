"""What callers hand in: texts, pairs of texts, questions with their contexts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from compressor.errors import ManifestError, UserError


@dataclass(frozen=True, slots=True)
class Item:
    """One input.

    Attributes:
        text: The text, or the question.
        pair: The second text, or the context.
    """

    text: str
    pair: str | None = None


def open_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises:
        ManifestError: It is none.
    """
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise ManifestError(f"{path} cannot be read: {error}.", "Download or copy the folder again.") from error


def read_texts(inputs: Any) -> list[Item]:
    """Take one text or several.

    Raises:
        UserError: Something is not a text.
    """
    if isinstance(inputs, str):
        return [Item(inputs)]
    found = _listed(inputs, "texts", "Pass a str or a list of str.")
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"Text {index} is {_kind(text)}, not a str.", "Pass a str or a list of str.")
    return [Item(text) for text in found]


def read_pairs(inputs: Any, names: Sequence[str] = ("text", "pair")) -> list[Item]:
    """Take one pair of texts, as a tuple, or several.

    Args:
        inputs: The pairs.
        names: What the two texts are, for messages.

    Raises:
        UserError: Something is not a pair of texts.
    """
    remedy = f"Pass a tuple ({names[0]}, {names[1]}) or a list of them."
    if isinstance(inputs, tuple) and _is_pair(inputs):
        return [Item(*inputs)]
    found = _listed(inputs, "pairs", remedy)
    for index, pair in enumerate(found):
        if not _is_pair(pair):
            raise UserError(f"Input {index} is {_kind(pair)}, not a {names[0]} with its {names[1]}.", remedy)
    return [Item(*pair) for pair in found]


def mended(text: str) -> str:
    """Put pairs of surrogates together, and read single ones as U+FFFD.

    They come from JSON that was cut in the middle of a pair; tokenizers refuses them.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def places(text: str) -> Sequence[int]:
    """Tell where each character of the mended text stands in the text, and where it ends."""
    if len(mended(text)) == len(text):
        return range(len(text) + 1)
    found, place = [], 0
    while place < len(text):
        found.append(place)
        pair = "\ud800" <= text[place] <= "\udbff" and "\udc00" <= text[place + 1 : place + 2] <= "\udfff"
        place += 2 if pair else 1
    return [*found, len(text)]


def _is_pair(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _listed(inputs: Any, what: str, remedy: str) -> list[Any]:
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
        raise UserError(f"Expected {what}, not {_kind(inputs)}.", remedy)
    return list(inputs)


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
