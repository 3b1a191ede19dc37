"""The token ids that are fed: made once, the same for every model, handed over in one file."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.benchmark.plan import Budget

Feed = Mapping[str, npt.NDArray[np.int64]]
Row = Mapping[str, Sequence[int]]

MASK = "attention_mask"
IDS = "input_ids"
# More rows than this say nothing new about the distribution of lengths.
CANDIDATES = 2000


@dataclass(frozen=True)
class TokenRows:
    """Texts of the test split as unpadded token ids.

    Attributes:
        rows: One mapping per text, at least with ``input_ids``; a dataset of such rows will do.
        input_names: Inputs that the tokenizer makes.
        max_length: Longest sequence that the models can take, in tokens.
        pad_token_id: Fills the shorter texts of a batch.
    """

    rows: Sequence[Row]
    input_names: tuple[str, ...]
    max_length: int
    pad_token_id: int = 0


@dataclass(frozen=True)
class Cell:
    """One cell of the latency grid and what is fed in it.

    Attributes:
        sequence_length: In tokens; ``None`` for the texts' own lengths.
        feeds: Batches of int64 arrays of shape (batch_size, tokens), by input name.
    """

    batch_size: int
    sequence_length: int | None
    feeds: tuple[Feed, ...]

    @property
    def tokens(self) -> float:
        """Padded tokens of a mean call."""
        return sum(feed[IDS].size for feed in self.feeds) / len(self.feeds)

    @property
    def digest(self) -> str:
        """Sha256 over names, shapes and ids of all feeds."""
        found = hashlib.sha256()
        for feed in self.feeds:
            for name, ids in feed.items():
                found.update(f"{name}{ids.shape}".encode())
                found.update(np.ascontiguousarray(ids).tobytes())
        return found.hexdigest()


def cells(
    tokens: TokenRows, batch_sizes: Sequence[int], sequence_lengths: Sequence[int], budget: Budget, seed: int = 0
) -> tuple[Cell, ...]:
    """Make the cells: the texts' own lengths at batch 1 and at the largest batch, then the grid.

    Lengths beyond the models' maximum have no cell.
    """
    sample = sample_rows(tokens, budget, seed)
    own = [Cell(size, None, _batches(sample, size, tokens)) for size in dict.fromkeys((1, max(batch_sizes)))]
    grid = [
        Cell(size, length, (_block(sample, size, length, tokens.input_names),))
        for size in sorted(batch_sizes)
        for length in sorted(sequence_lengths)
        if length <= tokens.max_length
    ]
    return (*own, *grid)


def sample_rows(tokens: TokenRows, budget: Budget, seed: int = 0) -> tuple[Row, ...]:
    """Choose texts whose lengths stand for the split's: evenly spaced among them by length.

    Returns:
        At most ``budget.max_texts`` rows of about ``budget.max_tokens`` tokens in all, in random order.
    """
    order = random.Random(seed)  # noqa: S311 - repeatable, not secret
    indices = range(len(tokens.rows))
    chosen = order.sample(indices, CANDIDATES) if len(indices) > CANDIDATES else indices
    ranked = sorted((tokens.rows[index] for index in chosen), key=lambda row: len(row[IDS]))
    mean = sum(len(row[IDS]) for row in ranked) / len(ranked)
    count = min(len(ranked), budget.max_texts, max(budget.min_texts, int(budget.max_tokens / mean)))
    found = [ranked[int((index + 0.5) * len(ranked) / count)] for index in range(count)]
    order.shuffle(found)
    return tuple(found)


def _batches(rows: Sequence[Row], size: int, tokens: TokenRows) -> tuple[Feed, ...]:
    """Batch the rows in their order; a last batch that is not full is left out."""
    whole = rows if len(rows) >= size else tuple(islice(cycle(rows), size))
    return tuple(_padded(whole[at : at + size], tokens) for at in range(0, len(whole) - size + 1, size))


def _padded(rows: Sequence[Row], tokens: TokenRows) -> Feed:
    longest = max(len(row[IDS]) for row in rows)
    feed = {name: np.zeros((len(rows), longest), np.int64) for name in tokens.input_names}
    feed[IDS][:] = tokens.pad_token_id
    for index, row in enumerate(rows):
        count = len(row[IDS])
        for name, ids in feed.items():
            ids[index, :count] = row.get(name, int(name == MASK))
    return feed


def _block(rows: Sequence[Row], size: int, length: int, input_names: Sequence[str]) -> Feed:
    """Cut a full batch out of the running text, without padding.

    Every row is framed by the first and the last token of a real text: its special tokens.
    """
    words = list(chain.from_iterable(row[IDS][1:-1] for row in rows)) or list(rows[0][IDS])
    stream = cycle(words)
    ids = np.array([list(islice(stream, length)) for _ in range(size)], np.int64)
    ids[:, -1] = rows[0][IDS][-1]
    ids[:, 0] = rows[0][IDS][0]
    feed = {name: np.zeros_like(ids) for name in input_names}
    feed[IDS] = ids
    if MASK in feed:
        feed[MASK] = np.ones_like(ids)
    return feed


def write_cells(found: Sequence[Cell], path: Path) -> None:
    """Write the cells as one ``.npz`` file that ``read_cells`` reads."""
    arrays = {
        f"{cell}/{batch}/{name}": ids
        for cell, item in enumerate(found)
        for batch, feed in enumerate(item.feeds)
        for name, ids in feed.items()
    }
    shapes = np.array([(item.batch_size, item.sequence_length or 0, len(item.feeds)) for item in found], np.int64)
    named: dict[str, Any] = {"shapes": shapes, **arrays}
    np.savez(path, **named)


def read_cells(path: Path) -> tuple[Cell, ...]:
    """Read what ``write_cells`` wrote, in the same order."""
    with np.load(path, allow_pickle=False) as arrays:
        shapes = arrays["shapes"]
        feeds: dict[tuple[int, int], dict[str, npt.NDArray[np.int64]]] = {}
        for key in arrays.files:
            if key != "shapes":
                cell, batch, name = key.split("/", 2)
                feeds.setdefault((int(cell), int(batch)), {})[name] = arrays[key]
    return tuple(
        Cell(int(size), int(length) or None, tuple(feeds[index, batch] for batch in range(count)))
        for index, (size, length, count) in enumerate(shapes)
    )
