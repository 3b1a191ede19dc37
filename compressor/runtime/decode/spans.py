"""From start and end scores of tokens to the answer of a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.runtime.decode.labels import Floats

Ints = npt.NDArray[np.int64]

MOST_TOKENS = 30
"""Longest answer, in tokens, as in the scripts of SQuAD."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the context.

    Attributes:
        start: First character.
        end: Behind the last one; both are 0 where there is no answer.
        score: Its probability among all stretches that could be the answer.
    """

    start: int
    end: int
    score: float


def best_spans(
    values: Sequence[Floats],
    offsets: Sequence[Any],
    *,
    most_tokens: int = MOST_TOKENS,
    count: int | None = 1,
    may_lack: bool = False,
) -> list[Span]:
    """Find the likeliest answers over all windows of a context.

    Every stretch of at most ``most_tokens`` tokens inside the context is looked at; its logit is the sum of its first
    token's start and its last token's end. What several windows see counts once, with its best logit. A softmax over
    all of them makes the scores. "No answer" is the first token's start and end, of the window where that is least
    likely: an answer that one window holds must not be outvoted by those that do not see it (as in the scripts of
    SQuAD 2.0).

    Args:
        values: Start and end logits of each window, of shape (tokens, 2).
        offsets: First character in the context and end of each token, -1 outside it: (tokens, 2), or flat.
        most_tokens: Longest answer.
        count: How many answers; ``None`` for all.
        may_lack: The context may hold no answer.

    Returns:
        At most ``count`` spans and at least one, the best first.
    """
    keys, logits = _candidates(values, offsets, most_tokens)
    if may_lack and len(values):
        nothing = min(float(window[0].astype(np.float64).sum()) for window in values)
        # In front, so that it wins a tie, and with a stretch that no token has.
        keys, logits = np.concatenate([[[0, 0]], keys]), np.concatenate([[nothing], logits])
    if not len(keys):
        return [Span(0, 0, 0.0)]
    weights = np.exp(logits - logits.max())
    total = weights.sum()
    order = np.argsort(-logits, kind="stable")[:count]
    return [Span(int(keys[index, 0]), int(keys[index, 1]), float(weights[index] / total)) for index in order]


def best_span(values: Sequence[Floats], offsets: Sequence[Any], **options: Any) -> Span:
    """The first of ``best_spans``."""
    return best_spans(values, offsets, **options)[0]


def _candidates(
    values: Sequence[Floats], offsets: Sequence[Any], most_tokens: int
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Every stretch that could be the answer: (n, 2) characters and (n,) logits."""
    keys, logits = [], []
    for window, flat in zip(values, offsets, strict=True):
        places = np.asarray(flat, dtype=np.int64).reshape(-1, 2)
        allowed = (places[:, 0] >= 0) & (places[:, 1] > places[:, 0])
        first = np.flatnonzero(allowed)[:, None]  # [c, 1]
        last = np.minimum(first + np.arange(most_tokens), len(places) - 1)  # [c, w]
        # Behind the end, the last token comes again and again: once is enough.
        rows, columns = np.nonzero(allowed[last] & (last == first + np.arange(most_tokens)))
        begin, finish = first[rows, 0], last[rows, columns]
        keys.append(np.stack([places[begin, 0], places[finish, 1]], axis=-1))
        logits.append(window[begin, 0].astype(np.float64) + window[finish, 1])
    if not any(map(len, keys)):
        return np.zeros((0, 2), np.int64), np.zeros(0)
    return _merged(np.concatenate(keys), np.concatenate(logits))


def _merged(keys: Ints, logits: npt.NDArray[np.float64]) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Keep the best logit of each stretch."""
    single = keys[:, 0] * (int(keys.max()) + 1) + keys[:, 1]
    order = np.lexsort((-logits, single))
    new = np.concatenate([[True], np.diff(single[order]) != 0])
    kept = order[new]
    return keys[kept], logits[kept]
