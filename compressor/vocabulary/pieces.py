"""Which pieces of a vocabulary stay, and a tokenizer without the others, as the JSON of ``tokenizer.json``.

What stays beside the pieces that texts use is what keeps two promises:

1. A text whose pieces all stay is cut as before. WordPiece takes the longest piece that fits, Unigram the likeliest
   path, BPE the first merge that applies: none of them changes its choice when pieces go that it did not choose. Of a
   BPE piece its merges stay, with their parts, and so on down to single characters. Unigram's unknown characters cost
   the lowest score less ten, so the piece with the lowest score stays.
2. No text becomes unknown that was not. Pieces of one character, or byte, stay, in the middle of a word as at its
   beginning, and so does a piece with a character that is no piece of its own there.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer

from compressor.errors import RecipeError

State = dict[str, Any]
"""Content of ``tokenizer.json``."""

REMEDY = "Drop --trim-vocab."


def vocabulary(state: State) -> dict[str, int]:
    """Ids of the model's pieces; added tokens that are no piece of the model are not in it.

    Raises:
        RecipeError: The tokenizer is of a kind that cannot be trimmed.
    """
    check(state)
    found = state["model"]["vocab"]
    if isinstance(found, list):
        return {piece: index for index, (piece, _) in enumerate(found)}
    return dict(found)


def check(state: State) -> None:
    """Make sure that a tokenizer can be trimmed.

    Raises:
        RecipeError: It is of another kind than WordPiece, BPE and Unigram; the message names it.
    """
    kind = state["model"].get("type")
    if kind not in _SAFE:
        raise RecipeError(
            f"--trim-vocab cannot trim a tokenizer of the kind {kind}: its words have no smaller pieces to fall back "
            f"on. WordPiece, BPE and Unigram can be trimmed.",
            REMEDY,
        )


def kept_ids(state: State, used: Iterable[int], more: Iterable[int] = ()) -> list[int]:
    """Name the ids that stay.

    Args:
        state: Of the tokenizer.
        used: Ids that texts use.
        more: Other ids that must stay, as far as the tokenizer knows them.

    Returns:
        In ascending order.

    Raises:
        RecipeError: The tokenizer is of a kind that cannot be trimmed.
    """
    pieces = vocabulary(state)
    named = {index: piece for piece, index in pieces.items()}
    added = {token["id"] for token in state.get("added_tokens", ())}
    wanted = {*used, *more, *added} & {*named, *added}
    kept = {named[index] for index in wanted if index in named}
    unknown = state["model"].get("unk_token")
    kept |= {unknown} & pieces.keys()
    if (place := state["model"].get("unk_id")) is not None:
        kept.add(named[place])
    kept |= _SAFE[state["model"]["type"]](state, pieces)
    if state["model"]["type"] == "BPE":
        kept = _closed(kept, state["model"])
    return sorted({*(pieces[piece] for piece in kept), *wanted})


def trimmed(state: State, kept: list[int]) -> State:
    """Rewrite a tokenizer for fewer ids: the i-th of ``kept`` becomes i.

    Args:
        state: Is left as it is.
        kept: From ``kept_ids``.
    """
    new = {before: after for after, before in enumerate(kept)}
    found = copy.deepcopy(state)
    model = found["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][index] for index in kept if index < len(model["vocab"])]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {piece: new[index] for piece, index in model["vocab"].items() if index in new}
    if model["type"] == "BPE":
        pairs = zip(model["merges"], _merges(model), strict=True)
        model["merges"] = [
            merge
            for merge, (left, right) in pairs
            if {left, right, _joined(model, left, right)} <= model["vocab"].keys()
        ]
    for token in found.get("added_tokens", ()):
        token["id"] = new[token["id"]]
    _renumber(found.get("post_processor"), new)
    if isinstance(found.get("padding"), dict):
        found["padding"]["pad_id"] = new[found["padding"]["pad_id"]]
    return found


def _renumber(processor: Any, new: Mapping[int, int]) -> None:
    """Give the special tokens of a post-processor their new ids, in place."""
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", ()):
        _renumber(part, new)
    for name in ("sep", "cls"):  # BertProcessing, RobertaProcessing
        if name in processor:
            token, index = processor[name]
            processor[name] = [token, new[index]]
    special = processor.get("special_tokens")
    if isinstance(special, dict):  # TemplateProcessing
        for token in special.values():
            token["ids"] = [new[index] for index in token["ids"]]


# --- what must stay -------------------------------------------------------------------------


def _wordpiece(state: State, pieces: Mapping[str, int]) -> set[str]:
    prefix = state["model"].get("continuing_subword_prefix") or "##"
    splitter = Tokenizer.from_str(json.dumps(state)).pre_tokenizer

    def inner(piece: str) -> str:
        return piece.removeprefix(prefix)

    def is_reducible(piece: str) -> bool:
        """Whether the piece can be cut into single characters."""
        forms = [(prefix if place or inner(piece) != piece else "") + char for place, char in enumerate(inner(piece))]
        return all(form in pieces for form in forms)

    def occurs(piece: str) -> bool:
        """Whether a word can hold it: BERT's ``[unused1]`` is three words to its own tokenizer."""
        return splitter is None or len(splitter.pre_tokenize_str(inner(piece))) <= 1

    single = {piece for piece in pieces if len(inner(piece)) <= 1}
    return single | {piece for piece in pieces if not is_reducible(piece) and occurs(piece)}


def _unigram(state: State, pieces: Mapping[str, int]) -> set[str]:
    lowest = min(state["model"]["vocab"], key=lambda entry: float(entry[1]))[0]
    single = {piece for piece in pieces if len(piece) == 1 or _is_byte(piece)}
    return {lowest, *single, *(piece for piece in pieces if not _is_special(piece) and not set(piece) <= single)}


def _bpe(state: State, pieces: Mapping[str, int]) -> set[str]:
    # A word starts as its characters, all but the first with the prefix, the last one with the suffix; merges make
    # everything else of these.
    prefix = state["model"].get("continuing_subword_prefix") or ""
    suffix = state["model"].get("end_of_word_suffix") or ""
    return {piece for piece in pieces if len(piece.removeprefix(prefix).removesuffix(suffix)) <= 1 or _is_byte(piece)}


_SAFE: Mapping[str, Callable[[State, Mapping[str, int]], set[str]]] = {
    "WordPiece": _wordpiece,
    "BPE": _bpe,
    "Unigram": _unigram,
}


def _is_special(piece: str) -> bool:
    """Tell a mark such as ``<mask>``, which no text is cut into."""
    return piece.startswith("<") and piece.endswith(">")


def _is_byte(piece: str) -> bool:
    """Tell a byte that stands for itself, as in ``<0x0A>``."""
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _merges(model: State) -> list[tuple[str, str]]:
    """The merges as pairs; older files write them as one text."""
    return [
        (left, right)
        for left, right in (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    ]


def _joined(model: State, left: str, right: str) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _closed(kept: set[str], model: State) -> set[str]:
    """Add what the pieces are merged from, down to single characters."""
    parts: dict[str, set[str]] = {}
    for left, right in _merges(model):
        parts.setdefault(_joined(model, left, right), set()).update((left, right))
    found, waiting = set(kept), list(kept)
    while waiting:
        for part in parts.get(waiting.pop(), set()) - found:
            found.add(part)
            waiting.append(part)
    return found
