"""A vector for each text, with the teacher's as the only judge: similarities, retrieval, and the vectors themselves.

- ``similarity_spearman``: of cosine similarities of pairs of texts, the model's and the teacher's. Texts are put into
  small groups at random, and all pairs within a group are looked at: groups do not depend on each other, so that they
  can be resampled.
- ``recall_at_k``: for each text, whether the other text that is nearest to it for the teacher is among the k nearest of
  the teacher's index when the model makes the query. That is what happens where an index stays and only the queries
  are made by the model.
- ``mean_cosine``: between the model's vector of a text and the teacher's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compressor.answers import Answers
from compressor.errors import StageError
from compressor.evaluation.figures import MEAN, SHARE, Counted, Figure, Floats, Ints, Ranked
from compressor.evaluation.metrics.gold import Gold, Marks, Source, starts_of

Singles = npt.NDArray[np.float32]

MOST_TEXTS = 5_000  # a query is compared with every text: the work grows with the square of their number
_MOST_PAIRS = 6_000
_LARGEST_GROUP = 8
_FEWEST_GROUPS = 50
_RECALLS = (1, 10)
_QUERIES = 1_000  # that are compared at once


@dataclass(frozen=True, eq=False)
class Pairs:
    """What is compared.

    Attributes:
        rows: The texts among the rows that models answer about [n]; all, unless they are many.
        first: One text of each pair [p], an index into ``rows``.
        second: The other.
    """

    rows: Ints
    first: Ints
    second: Ints


def read(source: Source) -> Gold:
    """Read the texts: ``right`` is of type ``Pairs``; ``reference`` has to be the teacher's answers."""
    count = len(source.chosen)
    rows = np.unique(np.linspace(0, count - 1, min(count, MOST_TEXTS)).astype(np.int64)) if count else np.arange(0)
    order = np.random.default_rng(source.seed).permutation(len(rows))
    groups = np.empty_like(order)
    groups[order] = np.arange(len(rows)) // _group_size(len(rows))
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    pairs = [(a, b) for some in members for index, a in enumerate(some) for b in some[index + 1 :]]
    first, second = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
    texts = source.texts()
    cuts = {name: values[rows] for name, values in source.cuts().items()} if count else {}
    return Gold(
        source.task,
        source.labels,
        starts_of(np.ones(count)),
        Pairs(rows, first, second),
        groups,
        tuple(texts[row] for row in rows),
        cuts,
        reference=source.reference,
    )


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge vectors [n, d]; the teacher's by themselves are perfect.

    Raises:
        StageError: The teacher's are not there, or have another width.
    """
    if gold.reference is None:
        raise StageError("Embeddings can only be judged by the teacher's, and those are not there.")
    pairs: Pairs = gold.right
    index, vectors = (_unit(some.values[pairs.rows]) for some in (gold.reference, answers))
    if index.shape != vectors.shape:
        raise StageError(f"Embeddings have shape {vectors.shape}, the teacher's {index.shape}.")
    index32, vectors32 = index.astype(np.float32), vectors.astype(np.float32)
    wanted = _nearest(index32, index32).places
    found = _nearest(vectors32, index32, wanted)
    ones = np.ones(len(gold))
    mine, theirs = (np.einsum("pd,pd->p", some[pairs.first], some[pairs.second]) for some in (vectors, index))
    cosine = np.einsum("nd,nd->n", vectors, index)
    figures = (
        Figure.of("similarity_spearman", Ranked(mine, theirs, pairs.first, len(gold))),
        *(
            Figure.of(f"recall_at_{k}", Counted(np.stack([found.ranks < k, ones], axis=1).astype(np.float64), SHARE))
            for k in _RECALLS
        ),
        Figure.of("mean_cosine", Counted(np.stack([cosine, ones], axis=1), MEAN)),
    )
    return Marks(figures, found.places, scores=found.similarities.astype(np.float64), worth=cosine)


def show(gold: Gold, item: int, said: int) -> str:
    """Give the text that is nearest."""
    return gold.texts[said]


def truth(gold: Gold, item: int) -> str:
    """Nothing is right of itself."""
    return ""


@dataclass(frozen=True, eq=False)
class _Found:
    """What queries find.

    Attributes:
        places: The other text that is nearest [n]; the first of several.
        similarities: Its cosine [n].
        ranks: How many other texts are nearer than the wanted one [n].
    """

    places: Ints
    similarities: Singles
    ranks: Ints


def _nearest(queries: Singles, index: Singles, wanted: Ints | None = None) -> _Found:
    parts = list(_searched(queries, index, wanted))
    return _Found(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _searched(queries: Singles, index: Singles, wanted: Ints | None) -> Iterator[tuple[Ints, Singles, Ints]]:
    for start in range(0, len(queries), _QUERIES):
        similar = queries[start : start + _QUERIES] @ index.T  # [q, n], of float32: in float64 it takes twice as long
        rows = np.arange(len(similar))
        if len(index) > 1:
            similar[rows, start + rows] = -np.inf  # a text is not its own neighbour
        places = similar.argmax(axis=1)
        target = places if wanted is None else wanted[start : start + _QUERIES]
        yield places, similar[rows, places], (similar > similar[rows, target][:, None]).sum(axis=1)


def _group_size(texts: int) -> int:
    """As large as leaves enough groups to draw from, and not too many pairs to rank."""
    by_pairs = 2 * _MOST_PAIRS // max(1, texts) + 1
    return max(2, min(_LARGEST_GROUP, texts // _FEWEST_GROUPS, by_pairs))


def _unit(vectors: Singles) -> Floats:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))
