"""A piece for each masked token: how often the likeliest is right, and how likely the right one is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compressor.answers import IGNORED, Answers
from compressor.evaluation.figures import EXP_MEAN, MEAN, SHARE, Counted, Figure, Ints
from compressor.evaluation.metrics.gold import Gold, Marks, Source, Spell, starts_of

_AROUND = 12  # tokens that are shown on either side of a mask


@dataclass(frozen=True, eq=False)
class Masks:
    """The masked tokens of all blocks, one after the other.

    Attributes:
        pieces: Id of the right piece of each [n].
        places: Its place in its block [n].
        blocks: Token ids of each block, masked.
        spell: Turns ids into text; ids are shown without it.
    """

    pieces: Ints
    places: Ints
    blocks: Sequence[Any]
    spell: Spell | None


def read(source: Source) -> Gold:
    """Read the gold of masked blocks: ``right`` is of type ``Masks``; the masks of a block are a group."""
    labels = [np.asarray(row, dtype=np.int64) for row in source.column("labels")]
    places = [np.flatnonzero(row != IGNORED) for row in labels]
    nothing = [np.zeros(0, np.int64)]
    right = Masks(
        np.concatenate([row[some] for row, some in zip(labels, places, strict=True)] or nothing),
        np.concatenate(places or nothing),
        source.column("input_ids"),
        source.spell,
    )
    counts = [len(some) for some in places]
    return Gold(source.task, source.labels, starts_of(counts), right, np.repeat(np.arange(len(counts)), counts))


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge condensed vocabularies [masks, 3]."""
    said = answers.values[:, 1].astype(np.int64)
    right = said == gold.right.pieces
    ones = np.ones(len(gold))
    loss = np.stack([-answers.values[:, 0].astype(np.float64), ones], axis=1)
    figures = (
        Figure.of("masked_accuracy", Counted(np.stack([right, ones], axis=1).astype(np.float64), SHARE)),
        Figure.of("mlm_loss", Counted(loss, MEAN)),
        Figure.of("perplexity", Counted(loss, EXP_MEAN)),
    )
    return Marks(figures, said, right, np.exp(answers.values[:, 2].astype(np.float64)))


def show(gold: Gold, item: int, said: int) -> str:
    """Spell a piece."""
    spell = gold.right.spell
    return spell([int(said)]).strip() if spell else f"piece {said}"


def truth(gold: Gold, item: int) -> str:
    """Spell the right piece."""
    return show(gold, item, gold.right.pieces[item])


def text(gold: Gold, item: int) -> str:
    """Give what stands around a mask; other masks are filled in."""
    masks: Masks = gold.right
    block, place = int(gold.groups[item]), int(masks.places[item])
    ids = list(masks.blocks[block])
    for other in np.flatnonzero(gold.groups == block):
        if other != item:
            ids[int(masks.places[other])] = int(masks.pieces[other])
    near = ids[max(0, place - _AROUND) : place + _AROUND + 1]
    return masks.spell(near) if masks.spell else " ".join(map(str, near))
