"""An answer for each question: exact match and F1 of its words, as the scripts of SQuAD 1.1 and 2.0 count them.

https://worksheets.codalab.org/bundle/0x6b567e1cf2e041ec80d7098f031c5c9e. Ideographs and kana, which no spaces part,
count as words of their own, as in MLQA (Lewis et al. 2020), and so text in other scripts is counted as SQuAD does.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compressor.answers import Answers
from compressor.artifacts import Corpus
from compressor.evaluation import statistics
from compressor.evaluation.figures import SHARE, Counted, Figure, Ints
from compressor.evaluation.metrics.gold import Gold, Marks, Source, starts_of
from compressor.evaluation.slices import length_slices
from compressor.runtime.decode.spans import best_span

_MARKS = frozenset(string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Ideographs and kana; marks of East Asian text go the way of other punctuation.
_IDEOGRAPHS = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af])")
_WIDE_MARKS = re.compile(r"[\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]")
_CONTEXT = 120  # characters that are shown on either side of an answer


@dataclass(frozen=True, eq=False)
class Questions:
    """What is asked.

    Attributes:
        accepted: Texts that answer each question [n]; none where nothing in the context does.
        places: First character of an accepted answer in the context, or -1 [n].
        contexts: The context of each question [n].
        windows: Rows of the tokenised split that see parts of it [n].
        offsets: Of the tokens of each row, as the column has them.
        may_lack: A question may have no answer: as the model is deployed, else as the split has it.
    """

    accepted: tuple[tuple[str, ...], ...]
    places: tuple[int, ...]
    contexts: tuple[str, ...]
    windows: tuple[Ints, ...]
    offsets: Sequence[Any]
    may_lack: bool


def may_lack(corpus: Corpus) -> bool:
    """Tell whether some question of the data has no answer: then the model is deployed to say so."""
    return any(not len(found) for split in corpus.splits.values() for found in split.labels)


def read(source: Source) -> Gold:
    """Read the gold of questions: ``right`` is of type ``Questions``."""
    split = source.split
    asked, place = np.unique(np.asarray(source.column("row"), dtype=np.int64), return_inverse=True)
    order = np.argsort(place, kind="stable")
    windows = np.split(order, np.cumsum(np.bincount(place))[:-1]) if len(asked) else []
    answers = [split.labels[row] for row in asked]
    contexts = tuple(split.pairs[row] for row in asked)
    right = Questions(
        tuple(tuple(text for _, text in some) for some in answers),
        tuple(int(some[0][0]) if len(some) else -1 for some in answers),
        contexts,
        tuple(windows),
        source.column("offsets"),
        any(not len(some) for some in split.labels) if source.may_lack is None else source.may_lack,
    )
    cuts = {"length": length_slices(None, contexts)} if len(asked) else {}
    if not all(right.accepted):
        cuts["answer"] = np.asarray(["has an answer" if some else "has no answer" for some in right.accepted])
    return Gold(
        source.task,
        source.labels,
        starts_of(source.lengths()),
        right,
        np.unique(np.asarray(contexts), return_inverse=True)[1] if contexts else np.zeros(0, np.int64),
        tuple(split.texts[row] for row in asked),
        {**cuts, **source.columns(asked)},
    )


def mark(answers: Answers, gold: Gold, thresholds: Sequence[float] = ()) -> Marks:
    """Judge start and end logits of windows [tokens, 2]."""
    asked: Questions = gold.right
    said = [
        _answer([answers.row(row) for row in windows], [asked.offsets[row] for row in windows], context, asked.may_lack)
        for windows, context in zip(asked.windows, asked.contexts, strict=True)
    ]
    earned = [score_answer(text, accepted) for text, accepted in zip(said, asked.accepted, strict=True)]
    exact, f1 = np.asarray(earned, dtype=np.float64).reshape(-1, 2).T
    ones = np.ones(len(gold))
    proportion = statistics.accuracy_interval
    figures = (
        Figure.of("answer_f1", Counted(np.stack([f1, ones], axis=1), SHARE)),
        Figure.of(
            "exact_match",
            Counted(np.stack([exact, ones], axis=1), SHARE),
            (lambda _: proportion(int(exact.sum()), len(gold))) if gold.independent else None,
        ),
    )
    return Marks(figures, said, exact == 1, worth=f1)


def normalise(text: str) -> str:
    """Lower-case a text and take punctuation, English articles and superfluous spaces from it, as SQuAD does."""
    kept = "".join(mark for mark in _WIDE_MARKS.sub("", text.lower()) if mark not in _MARKS)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def score_answer(said: str, accepted: Sequence[str]) -> tuple[float, float]:
    """Judge one answer by the accepted one that is nearest.

    Args:
        said: The answer; empty for "there is none".
        accepted: What is right; none where there is no answer.

    Returns:
        Exact match, 0 or 1, and the F1 of the words that both share.
    """
    # An accepted answer that is nothing but marks or articles says nothing.
    wanted = [text for text in accepted if normalise(text)] or [""]
    return max(float(normalise(said) == normalise(text)) for text in wanted), max(_f1(said, text) for text in wanted)


def show(gold: Gold, item: int, said: str) -> str:
    """Give an answer."""
    return said or "no answer"


def truth(gold: Gold, item: int) -> str:
    """Give the accepted answers."""
    return " / ".join(dict.fromkeys(gold.right.accepted[item])) or "no answer"


def text(gold: Gold, item: int) -> str:
    """Give a question and the context around its answer."""
    context, place = gold.right.contexts[item], max(0, gold.right.places[item])
    start, end = max(0, place - _CONTEXT), place + _CONTEXT
    cut = f"{'…' if start else ''}{context[start:end]}{'…' if end < len(context) else ''}"
    return f"{gold.texts[item]}\n{cut}"


def _answer(values: Sequence[Any], offsets: Sequence[Any], context: str, may_lack: bool) -> str:
    found = best_span(values, offsets, may_lack=may_lack)
    return context[found.start : found.end]


def _f1(said: str, wanted: str) -> float:
    one, two = (_IDEOGRAPHS.sub(r" \1 ", normalise(text)).split() for text in (said, wanted))
    if not one or not two:
        return float(one == two)
    shared = sum((Counter(one) & Counter(two)).values())
    return 2 * shared / (len(one) + len(two))
