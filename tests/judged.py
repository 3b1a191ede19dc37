"""Gold and answers of made-up splits, for the tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from compressor.answers import Answers
from compressor.artifacts import Corpus, ModelFacts, Split
from compressor.evaluation.metrics import Gold, gold_of
from compressor.tasks import TASKS, Kind


def gold(
    kind: Kind, split: Split, columns: dict[str, Any] | None = None, labels: tuple[str, ...] = (), **options: Any
) -> Gold:
    """Gold of a test split with these columns of tokens; ``length`` is 4 where it is not given."""
    columns = columns or {}
    rows = len(next(iter(columns.values()), split.texts))
    columns = {"length": [4] * rows, **columns}
    corpus = Corpus({"test": split}, labels, "made up", "0" * 64, task=TASKS[kind])
    return gold_of(corpus, SimpleNamespace(splits={"test": columns}), "test", **options)


def texts(count: int) -> tuple[str, ...]:
    return tuple(f"text {index}" for index in range(count))


def by_row(values: Any) -> Answers:
    """Answers with one unit for each row."""
    found = np.asarray(values, dtype=np.float32)
    return Answers(found, np.arange(len(found) + 1))


def facts(name: str, answers: Answers) -> ModelFacts:
    return ModelFacts(name, 100, 90, 10, 0, answers)


def sure(ids: Sequence[int], width: int, scale: float = 4.0) -> np.ndarray:
    """Logits that are sure of these ids [n, width]."""
    return (np.eye(width)[np.asarray(ids)] * scale).astype(np.float32)


def label_sets(right: np.ndarray, scores: np.ndarray, count: int) -> tuple[Gold, Answers]:
    """A multi-label split with label names a, b, c, ..., and logits about it."""
    return gold("multi-label", Split(texts(len(right)), right), labels=tuple("abcdefgh"[:count])), by_row(scores)


def tagged(rows: Sequence[Sequence[str]], names: tuple[str, ...], kept: int = 99) -> Gold:
    """Words ``w0 w1 ...`` with these tags: [CLS], two tokens for each of the first ``kept`` words, [SEP]."""
    lines, spans, words = [], [], []
    for row in rows:
        parts = [f"w{index}" for index in range(len(row))]
        ends = np.cumsum([len(part) + 1 for part in parts])
        lines.append(" ".join(parts))
        spans.append(tuple((int(end) - len(part) - 1, int(end) - 1) for end, part in zip(ends, parts, strict=True)))
        words.append([-1, *np.repeat(np.arange(len(row)), 2)[: 2 * kept].tolist(), -1])
    labels = tuple(tuple(names.index(tag) for tag in row) for row in rows)
    split = Split(tuple(lines), labels, words=tuple(spans))
    return gold("token-classification", split, {"words": words, "length": [len(row) for row in words]}, names)


def tag_answers(truth: Gold, rows: Sequence[Sequence[str]], misled: int = 0) -> Answers:
    """Logits that say these tags at the first token of each word, and ``misled`` at every other token."""
    names, found = truth.labels, []
    lengths = np.diff(truth.starts)
    for row, length in zip(rows, lengths, strict=True):
        ids = np.full(int(length), misled)
        firsts = np.arange(1, int(length) - 1, 2)
        ids[firsts] = [names.index(tag) for tag in row[: len(firsts)]]
        found.append(sure(ids.tolist(), len(names)))
    return Answers.of(found)
