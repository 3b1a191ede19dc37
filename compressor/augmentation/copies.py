"""Altered copies of texts: some words replaced, or two of them exchanged where none can be."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from compressor.augmentation.lexicon import Found, Lexicon, Word
from compressor.augmentation.proposals import Proposal, Propose
from compressor.events import Listener, Progress, ignore

STAGE = "augment"
_BATCH = 32


def alter(
    texts: Sequence[str],
    copies: int,
    lexicon: Lexicon,
    propose: Propose,
    share: float,
    seed: int,
    listen: Listener = ignore,
) -> list[list[str]]:
    """Make altered copies of texts.

    Each word that is one piece is replaced with the chance ``share``, at least one of a text (Jiao et al. 2020,
    https://arxiv.org/abs/1909.10351, algorithm 1). Where a text has no such word, two words change places or one is
    left out (Wei and Zou 2019, https://arxiv.org/abs/1901.11196, section 2); a text of one unknown word stays as it is.
    What is drawn is a function of (seed, text's index, copy) alone.

    Args:
        texts: The texts.
        copies: Of each.
        lexicon: Finds the words.
        propose: Says what may replace them.
        share: Of the words that are replaced, from 0 to 1.
        seed: Same seed, same copies.
        listen: Receives ``Progress`` in copies.

    Returns:
        For each text its copies; some may be equal.
    """
    lengths = [len(lexicon.find(text).ids) for text in texts]
    made: list[list[str]] = [[] for _ in texts]
    # By length, so that little is padded; the order decides nothing else.
    jobs = sorted(
        ((index, copy) for index in range(len(texts)) for copy in range(copies)),
        key=lambda job: (-lengths[job[0]], *job),
    )
    for start in range(0, len(jobs), _BATCH):
        part = jobs[start : start + _BATCH]
        # Found again: the words of all texts at once would take far more memory than the texts.
        found = {index: lexicon.find(texts[index]) for index in dict.fromkeys(index for index, _ in part)}
        generators = [np.random.default_rng((seed, *job)) for job in part]
        chosen = [_choose(found[index].words, share, draw) for (index, _), draw in zip(part, generators, strict=True)]
        asked = [(found[index], words) for (index, _), words in zip(part, chosen, strict=True) if words]
        proposals = iter(propose(asked) if asked else [])
        for (index, _), words, draw in zip(part, chosen, generators, strict=True):
            text = texts[index]
            made[index].append(
                _replaced(found[index], words, next(proposals), lexicon, draw) if words else _shuffled(text, draw)
            )
        listen(Progress(STAGE, start + len(part), len(jobs), {}))
    return made


def _choose(words: Sequence[Word], share: float, draw: np.random.Generator) -> list[Word]:
    if not words:
        return []
    taken = draw.random(len(words)) < share
    taken[int(draw.integers(len(words)))] |= not taken.any()
    return [word for word, is_taken in zip(words, taken, strict=True) if is_taken]


def _replaced(
    found: Found, words: Sequence[Word], proposals: Sequence[Proposal], lexicon: Lexicon, draw: np.random.Generator
) -> str:
    parts, end = [], 0
    for word, proposal in zip(words, proposals, strict=True):
        if not len(proposal.pieces):
            continue
        chances = proposal.chances.astype(np.float64)
        piece = int(draw.choice(proposal.pieces, p=chances / chances.sum()))
        parts += [found.text[end : word.start], lexicon.write(piece, found.text[word.start : word.end])]
        end = word.end
    return "".join([*parts, found.text[end:]])


def _shuffled(text: str, draw: np.random.Generator) -> str:
    """Exchange two words, or leave one out."""
    words = re.split(r"\s+", text.strip())
    if len(words) < 2:
        return text
    first, second = draw.choice(len(words), 2, replace=False)
    if draw.random() < 0.5 and len(words) > 2:
        del words[int(first)]
    else:
        words[first], words[second] = words[second], words[first]
    return " ".join(words)
