"""From texts to token ids: one row for each, or several windows of what is longer than the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from compressor.runtime.texts import Item, mended

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """What the model sees of one input.

    Attributes:
        ids: Of its tokens.
        type_ids: Which of two texts each token belongs to.
        offsets: First character and end of each token in the text, or in the context of a question; -1 for tokens
            outside it; of shape (tokens, 2), or empty where the task does not ask.
    """

    ids: list[int]
    type_ids: list[int]
    offsets: Ints = field(default_factory=lambda: np.empty((0, 2), np.int64))

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)


def rows(tokenizer: Tokenizer, items: Sequence[Item]) -> list[list[Window]]:
    """Tokenise each text or pair to one row, cut as the tokenizer is set to."""
    given: list[Any] = [
        mended(item.text) if item.pair is None else (mended(item.text), mended(item.pair)) for item in items
    ]
    if len(given) == 1:  # does not wake the tokenizer's thread pool
        found = [tokenizer.encode(*(given if isinstance(given[0], str) else given[0]))]
    else:
        found = tokenizer.encode_batch_fast(given)
    return [[Window(item.ids, item.type_ids)] for item in found]


def text_rows(tokenizer: Tokenizer, items: Sequence[Item], max_length: int, side: str) -> list[list[Window]]:
    """Tokenise each text to one row, with the characters of its tokens.

    Args:
        tokenizer: Set to cut nothing.
        items: The texts.
        max_length: Longest row in tokens, special tokens included; longer texts are cut.
        side: Which end is cut off, ``right`` or ``left``.
    """
    room = _room(tokenizer, max_length, is_pair=False)
    found = []
    for text in _plain(tokenizer, [item.text for item in items]):
        text.truncate(room, 0, side)
        found.append([_window(tokenizer.post_process(text), len(text))])
    return found


def text_windows(tokenizer: Tokenizer, items: Sequence[Item], max_length: int, stride: int) -> list[list[Window]]:
    """Tokenise texts, the long ones to windows that overlap, with the characters of their tokens.

    Args:
        tokenizer: Set to cut nothing.
        items: The texts.
        max_length: Longest window in tokens, special tokens included.
        stride: Tokens that neighbouring windows share.

    Returns:
        For each text its windows, in the text's order: put together again by ``stitched``.
    """
    room = _room(tokenizer, max_length, is_pair=False)
    found = []
    for text in _plain(tokenizer, [item.text for item in items]):
        text.truncate(room, _shared(room, stride))
        found.append([_window(tokenizer.post_process(part), len(part)) for part in (text, *text.overflowing)])
    return found


def stitched(
    tokenizer: Tokenizer, windows: Sequence[Window], values: Sequence[npt.NDArray[Any]], max_length: int, stride: int
) -> npt.NDArray[Any]:
    """Put values of a text's windows together to one of each token, special tokens left out.

    Of the tokens that two windows share, each takes the half that lies deeper in it.

    Args:
        tokenizer: As it cut the windows.
        windows: Of one text, from ``text_windows``.
        values: Of each window's tokens, each of shape (tokens, ...).
        max_length: As the windows were cut.
        stride: As the windows were cut.
    """
    shared = _shared(_room(tokenizer, max_length, is_pair=False), stride)
    parts = []
    for index, (window, value) in enumerate(zip(windows, values, strict=True)):
        inner = value[window.offsets[:, 0] >= 0]
        end = len(inner) if index == len(windows) - 1 else len(inner) - (shared - shared // 2)
        parts.append(inner[shared // 2 if index else 0 : end])
    return np.concatenate(parts)


def context_windows(
    tokenizer: Tokenizer, items: Sequence[Item], max_length: int, stride: int, side: str = "right"
) -> list[list[Window]]:
    """Tokenise questions with their contexts, the question in front of every window of a long context.

    As transformers does it with ``truncation="only_second"`` and ``return_overflowing_tokens``. Where that would fail,
    at questions that leave no room, a question keeps half of the tokens, and windows share at most half of theirs.

    Args:
        tokenizer: Set to cut nothing.
        items: Questions, with contexts as their pairs.
        max_length: Longest window in tokens, question and special tokens included.
        stride: Tokens of the context that neighbouring windows share.
        side: From which end of the context windows are cut, ``right`` for windows in its order.

    Returns:
        For each question its windows.
    """
    room = _room(tokenizer, max_length, is_pair=True)
    questions = _plain(tokenizer, [item.text for item in items])
    contexts = _plain(tokenizer, [item.pair or "" for item in items])
    found = []
    for question, context in zip(questions, contexts, strict=True):
        if len(question) + len(context) > room:
            question.truncate(max(1, room // 2, room - len(context)))
        left = max(1, room - len(question))
        context.truncate(left, _shared(left, stride), side)
        parts = (context, *context.overflowing)
        found.append([_window(tokenizer.post_process(question, part), len(part)) for part in parts])
    return found


def _plain(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
    return tokenizer.encode_batch([mended(text) for text in texts], add_special_tokens=False)


def _window(encoding: Encoding, size: int) -> Window:
    # The text or context is what comes last before the special tokens at the end. Encoding.sequence_ids would tell,
    # but is wrong for what post_process has put together (tokenizers 0.22).
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    inner = np.flatnonzero(np.array(encoding.special_tokens_mask, dtype=np.int64) == 0)
    outside = np.ones(len(offsets), dtype=bool)
    outside[inner[len(inner) - size :]] = False
    offsets[outside] = -1
    return Window(encoding.ids, encoding.type_ids, offsets)


def _shared(room: int, stride: int) -> int:
    return min(stride, room // 2)


def _room(tokenizer: Tokenizer, max_length: int, *, is_pair: bool) -> int:
    return max(1, max_length - tokenizer.num_special_tokens_to_add(is_pair))
