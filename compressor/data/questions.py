"""Check rows of a question, its context and the answers that stand in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compressor.data.rows import Item, Rows
from compressor.data.texts import read_string
from compressor.errors import DataError

MENDED = "An answer does not stand where answer_start says; the nearest place in the context was taken"

Answer = tuple[int, str]
"""First character in the context, and the text."""


def asked(part: Rows, index: int) -> Item | str:
    """Check a question and its context, and find its answers there.

    An answer that does not stand at its place is searched for; one that is nowhere is left out, and the row too where
    no other is left.
    """
    question = read_string(part, index, part.texts[index], "question").strip()
    # Not stripped: answers are counted from its first character.
    context = read_string(part, index, part.pairs[index], "context")
    if not question or not context.strip():
        return "question" if not question else "context"
    given = list(_given(part, index))
    placed = [_place(context, start, text) for start, text in given]
    answers = tuple(dict.fromkeys(answer for answer in placed if answer is not None))
    if given and not answers:
        return "answer"
    moved = any(
        answer is None or (start is not None and answer != _stripped(start, text))
        for answer, (start, text) in zip(placed, given, strict=True)
    )
    return Item(question, answers, context, mended=MENDED if moved else "")


def _place(context: str, start: int | None, text: str) -> Answer | None:
    first, answer = _stripped(start or 0, text)
    if not answer:
        return None
    if context.startswith(answer, first) and first >= 0 and start is not None:
        return first, answer
    places = []
    place = context.find(answer)
    while place >= 0:
        places.append(place)
        place = context.find(answer, place + 1)
    return (min(places, key=lambda place: abs(place - first)), answer) if places else None


def _stripped(start: int, text: str) -> Answer:
    return start + len(text) - len(text.lstrip()), text.strip()


def _given(part: Rows, index: int) -> Iterator[tuple[int | None, str]]:
    """Read the answers: as SQuAD has them, as the hub has them (two lists), or as plain texts."""
    value = part.labels[index]
    if value is None or value in ("", [], {}):
        return
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            yield from (
                _answer(part, index, {"text": t, "answer_start": s}) for t, s in zip(texts, starts, strict=True)
            )
        else:
            yield _answer(part, index, value)
    elif isinstance(value, list):
        yield from (_answer(part, index, item) for item in value)
    else:
        yield _answer(part, index, value)


def _answer(part: Rows, index: int, value: Any) -> tuple[int | None, str]:
    text, start = (value.get("text"), value.get("answer_start")) if isinstance(value, Mapping) else (value, None)
    if not isinstance(text, str) or isinstance(start, bool) or not isinstance(start, int | None):
        raise DataError(
            f"{part.place(index)}: the answer is {str(value)[:60]}.",
            'Write answers as [{"text": "...", "answer_start": 7}]; answer_start counts characters of the context.',
        )
    return start, read_string(part, index, text, "answer")
