"""Tiny real data folders for every kind of task, over the toy vocabulary of ``tests/tiny.py``; learnable in a minute.

Labels have the names of ``tiny.LABELS``, so that a tiny teacher with a head of its own knows them.

What is right follows from single words, so that a model of a few layers learns it in some epochs: the first word of an
entity or answer is one of the first five words of a mood, the second one of the last five.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tiny import NEGATIVE, NEUTRAL, POSITIVE

MULTI_LABELS = ("long", "negative", "positive")
TAGS = ("O", "B-BAD", "I-BAD", "B-GOOD", "I-GOOD")
LABELS: dict[str, tuple[str, ...]] = {
    "single-label": ("negative", "positive"),
    "multi-label": MULTI_LABELS,
    "token-classification": TAGS,
}
"""Names in the order in which ``read_corpus`` finds them without a teacher; other kinds have none."""

_Row = dict[str, Any]


def write(
    kind: str,
    folder: Path,
    *,
    train: int = 96,
    validation: int = 32,
    test: int = 48,
    seed: int = 0,
    pairs: bool = False,
) -> Path:
    """Write a folder with a training, a validation and a test file.

    Args:
        kind: Key of ``compressor.tasks.TASKS``.
        folder: Is made where it is not there.
        train: Rows (documents for ``fill-mask``, questions for ``question-answering``) of the training split.
        validation: Of the validation split.
        test: Of the test split.
        seed: Another seed, other rows.
        pairs: For text classification: columns ``sentence1`` (says nothing) and ``sentence2`` (decides).

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        name, text = _WRITERS[kind](rng, count, pairs)
        (folder / name.format(split=split)).write_text(text, encoding="utf-8")
    return folder


def _neutral(rng: random.Random, least: int = 3, most: int = 14) -> list[str]:
    return rng.choices(NEUTRAL, k=rng.randint(least, most))


def _mixed(rng: random.Random, *groups: list[str]) -> str:
    words = [word for group in groups for word in group]
    rng.shuffle(words)
    return " ".join(words)


def _text(rng: random.Random, text: str, pairs: bool) -> _Row:
    return {"sentence1": " ".join(_neutral(rng)), "sentence2": text} if pairs else {"text": text}


def _lines(rows: list[_Row]) -> tuple[str, str]:
    return "{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows)


def _single_label(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    rows = []
    for index in range(count):
        name, words = (("positive", POSITIVE), ("negative", NEGATIVE))[index % 2]
        text = _mixed(rng, _neutral(rng), rng.choices(words, k=rng.randint(1, 4)))
        rows.append({**_text(rng, text, pairs), "label": name})
    return _lines(rows)


def _multi_label(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    rows = []
    for index in range(count):
        names = [name for bit, name in enumerate(MULTI_LABELS) if index >> bit & 1]  # all 8 sets in turn
        words = _neutral(rng, 14, 20) if "long" in names else _neutral(rng, 3, 6)
        if "negative" in names:
            words += rng.choices(NEGATIVE, k=2)
        if "positive" in names:
            words += rng.choices(POSITIVE, k=2)
        rows.append({**_text(rng, _mixed(rng, words), pairs), "labels": names})
    return _lines(rows)


def _regression(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    rows = []
    for _ in range(count):
        good = rng.randint(0, 4)
        moods = rng.choices(POSITIVE, k=good) + rng.choices(NEGATIVE, k=4 - good)
        rows.append({**_text(rng, _mixed(rng, _neutral(rng), moods), pairs), "label": good / 4})
    return _lines(rows)


def _entity(rng: random.Random, words: list[str]) -> list[str]:
    return [rng.choice(words[:5]), *rng.choices(words[5:], k=rng.randint(0, 1))]


def _token_classification(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    sentences = []
    for _ in range(count):
        lines = [f"{word}\tO" for word in _neutral(rng, 1, 5)]
        for _ in range(rng.randint(0, 2)):
            name, words = rng.choice((("GOOD", POSITIVE), ("BAD", NEGATIVE)))
            tags = ("B", "I")
            lines += [f"{word}\t{tag}-{name}" for word, tag in zip(_entity(rng, words), tags, strict=False)]
            lines += [f"{word}\tO" for word in _neutral(rng, 1, 5)]
        sentences.append("\n".join(lines))
    return "{split}.conll", "\n\n".join(sentences) + "\n"


def _question_answering(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    paragraphs: list[_Row] = []
    for index in range(count):
        # Every eighth context has more words than a tiny model takes tokens: it is cut into windows.
        before, after = (50, 40) if index % 8 == 7 else (rng.randint(2, 14), rng.randint(2, 14))
        start = " ".join(rng.choices(NEUTRAL, k=before)) + " "
        answer = " ".join(_entity(rng, rng.choice((POSITIVE, NEGATIVE))))
        question = f"{rng.choice(('was', 'is'))} the {rng.choice(('film', 'movie', 'plot'))}"
        answers = [{"text": answer, "answer_start": len(start)}]
        paragraphs.append(
            {
                "context": start + answer + " " + " ".join(rng.choices(NEUTRAL, k=after)),
                "qas": [{"id": str(index), "question": question, "answers": answers}],
            }
        )
    data = {"version": "1.1", "data": [{"title": "toy", "paragraphs": paragraphs}]}
    return "{split}.json", json.dumps(data)


def _fill_mask(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    documents = []
    for _ in range(count):
        # A fixed order of words, so that a masked one can be guessed from its neighbours.
        mood = rng.choice((POSITIVE, NEGATIVE))
        sentences = (f"the {noun} is very {rng.choice(mood)} and it was" for noun in ("film", "plot", "actor"))
        documents.append(" ".join(sentences))
    return "{split}.txt", "\n\n".join(documents) + "\n"


def _feature_extraction(rng: random.Random, count: int, pairs: bool) -> tuple[str, str]:
    found = (_mixed(rng, _neutral(rng), rng.choices(rng.choice((POSITIVE, NEGATIVE)), k=2)) for _ in range(count))
    return _lines([{"text": text} for text in found])


_WRITERS: dict[str, Callable[[random.Random, int, bool], tuple[str, str]]] = {
    "single-label": _single_label,
    "multi-label": _multi_label,
    "regression": _regression,
    "token-classification": _token_classification,
    "question-answering": _question_answering,
    "fill-mask": _fill_mask,
    "feature-extraction": _feature_extraction,
}
