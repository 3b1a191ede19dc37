"""A tag for each word: F1, precision and recall of whole entities, and accuracy of the words.

An entity is right where its type and its words are. The first token of a word speaks for it; a word that was cut off
counts as ``O``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compressor.answers import Answers
from compressor.evaluation import statistics
from compressor.evaluation.figures import F1, PRECISION, RECALL, SHARE, Counted, Figure, Floats, Ints
from compressor.evaluation.metrics.gold import Gold, Marks, Source, starts_of
from compressor.runtime.decode.entities import OUTSIDE, Chunk, chunks, parse_tags


@dataclass(frozen=True, eq=False)
class Words:
    """The words of all texts, one after the other.

    Attributes:
        starts: Where the words of each text start [n + 1].
        units: Which token of all texts speaks for each word [w]; -1 for a word that was cut off.
        entities: The right entities of each text [n].
        shown: The words of each text [n], as they stand there: first character and end.
    """

    starts: Ints
    units: Ints
    entities: tuple[tuple[Chunk, ...], ...]
    shown: tuple[Sequence[tuple[int, int]], ...]


def read(source: Source) -> Gold:
    """Read the gold of texts with a tag for each word: ``right`` is of type ``Words``, ``units`` are its tags."""
    tags = [source.split.labels[row] for row in source.chosen.tolist()]
    starts, tokens = starts_of([len(row) for row in tags]), starts_of(source.lengths())
    units = np.full(int(starts[-1]), -1, dtype=np.int64)
    for row, words in enumerate(source.column("words")):
        numbers = np.asarray(words, dtype=np.int64)
        found, first = np.unique(numbers, return_index=True)
        inside = found >= 0
        units[starts[row] + found[inside]] = tokens[row] + first[inside]
    right = Words(
        starts,
        units,
        tuple(tuple(chunks(row, source.labels)) for row in tags),
        tuple(source.split.words[row] for row in source.chosen.tolist()),
    )
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in tags]) if tags else np.zeros(0, np.int64)
    rows = np.arange(len(tags))
    return Gold(source.task, source.labels, tokens, right, rows, source.texts(), source.cuts(), flat)


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge logits [tokens, tags]."""
    words: Words = gold.right
    outside = gold.labels.index(OUTSIDE) if OUTSIDE in gold.labels else -1
    tags = np.where(words.units >= 0, answers.values.argmax(axis=1)[words.units], outside)
    said = [_entities(tags[start:end], gold.labels) for start, end in zip(words.starts, words.starts[1:], strict=False)]
    place = {name: index for index, name in enumerate(types(gold))}
    counts = np.zeros((len(gold), len(place), 3))  # true positives, false positives, false negatives
    for row, (before, after) in enumerate(zip(words.entities, said, strict=True)):
        wanted, found = set(before), set(after)
        for column, some in enumerate((wanted & found, found - wanted, wanted - found)):
            for entity in some:
                counts[row, place[entity.label], column] += 1
    sums = counts.sum(axis=1)
    hits = np.bincount(_rows(words), tags == gold.units, len(gold))
    figures = (
        Figure.of("entity_f1", Counted(sums, F1)),
        Figure.of("precision", Counted(sums, PRECISION)),
        Figure.of("recall", Counted(sums, RECALL)),
        Figure.of("word_accuracy", Counted(np.stack([hits, np.diff(words.starts)], axis=1), SHARE)),
    )
    by_label = counts.reshape(len(gold), -1)
    return Marks(figures, said, sums[:, 1:].sum(axis=1) == 0, units=tags, by_label=by_label)


def types(gold: Gold) -> tuple[str, ...]:
    """Names of the types of entities."""
    return tuple(dict.fromkeys(tag.label for tag in parse_tags(gold.labels) if tag.prefix != "O"))


def show(gold: Gold, item: int, said: Sequence[Chunk]) -> str:
    """Name the entities of a text, as in ``PER: Anna; LOC: Bern``."""
    spans, text = gold.right.shown[item], gold.texts[item]
    named = (f"{chunk.label}: {text[spans[chunk.first][0] : spans[chunk.end - 1][1]]}" for chunk in said)
    return "; ".join(named) or "none"


def truth(gold: Gold, item: int) -> str:
    """Name the right entities."""
    return show(gold, item, gold.right.entities[item])


def shift(first: Answers, second: Answers, gold: Gold) -> Floats:
    """Jensen-Shannon divergence of the tags' probabilities, its mean over the words of each text [n], in bits."""
    words: Words = gold.right
    kept = words.units >= 0
    one, two = (statistics.softmax(answers.values[words.units[kept]]) for answers in (first, second))
    rows = _rows(words)[kept]
    total = np.bincount(rows, statistics.jensen_shannon(one, two), len(gold))
    return np.asarray(total / np.maximum(1, np.bincount(rows, minlength=len(gold))))


def absent(gold: Gold) -> list[str]:
    """Types without an entity."""
    met = {entity.label for row in gold.right.entities for entity in row}
    return [name for name in types(gold) if name not in met]


def _entities(tags: Ints, names: tuple[str, ...]) -> tuple[Chunk, ...]:
    # Where no tag means "nothing", a word that was cut off has none and is no entity.
    return tuple(chunk for chunk in chunks(np.maximum(tags, 0), names) if tags[chunk.first] >= 0)


def _rows(words: Words) -> Ints:
    """The text of each word [w]."""
    return np.repeat(np.arange(len(words.starts) - 1), np.diff(words.starts))
