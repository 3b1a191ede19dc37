"""What a predictor gives back: one frozen value for each kind of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one text.

    Attributes:
        label: The most probable label.
        score: Its probability.
        scores: Probabilities by label, the most probable first: as many as ``top_k`` asked for.
    """

    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MultiLabelPrediction:
    """Which labels apply to one text.

    Attributes:
        labels: Those whose probability reaches their threshold, the most probable first; possibly none.
        scores: Probabilities by label, the most probable first: those of ``labels``, and as many as ``top_k`` asked
            for.
    """

    labels: tuple[str, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Score:
    """The number that a regression or a reranker gives to one text or pair."""

    value: float


@dataclass(frozen=True, slots=True)
class Entity:
    """A stretch of a text that has a name.

    Attributes:
        label: What it is, without the tag's prefix.
        score: Mean probability of its words' tags.
        text: As it stands in the text.
        start: Its first character in the text.
        end: Behind its last character.
    """

    label: str
    score: float
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    Attributes:
        text: As it stands in the context; empty where the context has no answer.
        score: Its probability among everything that could be the answer.
        start: Its first character in the context.
        end: Behind its last character.
        others: The next best, as many as ``top_k`` asked for beyond the first.
    """

    text: str
    score: float
    start: int
    end: int
    others: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Fill:
    """A piece that fits a mask.

    Attributes:
        text: The piece as text.
        score: Its probability.
        token: Its id.
    """

    text: str
    score: float
    token: int
