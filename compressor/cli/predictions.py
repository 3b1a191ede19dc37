"""What ``compress predict`` reads and prints: one line for each text, as a table row or as JSON."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from compressor.errors import DataError, UserError
from compressor.runtime.kinds import WAYS
from compressor.tasks import Kind

if TYPE_CHECKING:
    from compressor.runtime import Predictor


PIPED = 256
"""Lines of a pipe that are answered together."""


def _line(text: str) -> str:
    """A stretch of a text without what would end a line or a column."""
    return " ".join(text.split())


PLAIN: Mapping[Kind, Callable[[Any], str]] = {
    "single-label": lambda found: f"{found.label}\t{found.score:.4f}",
    "multi-label": lambda found: ", ".join(f"{label} {found.scores[label]:.4f}" for label in found.labels) or "-",
    "regression": lambda found: f"{found.value:.6g}",
    "token-classification": lambda found: ", ".join(f"{one.label}: {_line(one.text)}" for one in found) or "-",
    "question-answering": lambda found: f"{_line(found.text) or '-'}\t{found.score:.4f}",
    "fill-mask": lambda found: ", ".join(f"{mask[0].text.strip()} {mask[0].score:.4f}" for mask in found),
    "feature-extraction": lambda found: " ".join(f"{value:.6g}" for value in found.tolist()),
}
"""For each kind of task, what stands in front of the text on a plain line."""

JSON: Mapping[Kind, Callable[[Any], dict[str, Any]]] = {
    "single-label": asdict,
    "multi-label": asdict,
    "regression": asdict,
    "token-classification": lambda found: {"entities": [asdict(one) for one in found]},
    "question-answering": lambda found: {
        "answer": found.text, "score": found.score, "start": found.start, "end": found.end
    },
    "fill-mask": lambda found: {"masks": [[asdict(piece) for piece in mask] for mask in found]},
    "feature-extraction": lambda found: {"embedding": found.tolist()},
}  # fmt: skip
"""For each kind of task, what stands behind the text in a JSON object."""

_JSON_TOP: Mapping[Kind, int | None] = {"question-answering": 1, "fill-mask": 5}


def lines(stream: BinaryIO) -> Iterator[str]:
    r"""Read texts from standard input, one per line; only ``\n`` ends a line.

    Raises:
        DataError: A line is not UTF-8.
    """
    for number, line in enumerate(stream, 1):
        try:
            yield line.rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"Line {number} of standard input is not UTF-8.", "Convert the input to UTF-8.") from None


def together(stream: BinaryIO) -> int | None:
    """How many lines of standard input are answered together; ``None`` for as many as the runtime sorts.

    Who types waits for each answer, and what comes through a pipe may come slowly.
    """
    if stream.isatty():
        return 1
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else PIPED


def show_predictions(predictor: Predictor, texts: Iterable[str], *, as_json: bool, at_once: int | None = None) -> None:
    """Answer texts and print one line each.

    Args:
        predictor: The model.
        texts: One for each line; where the model takes two texts, both with a tab between them.
        as_json: One JSON object for each, with all scores (of the five likeliest pieces of a mask).
        at_once: Texts that are answered together. Default: as many as the runtime sorts.

    Raises:
        DataError: A line cannot be read, or does not hold as many texts as the model takes.
        UserError: The model cannot answer a text. In either case those before it are answered.
    """
    most = at_once or WAYS[predictor.kind].chunk
    rows: list[tuple[str, ...]] = []
    first = 1
    try:
        for number, text in enumerate(texts, 1):
            rows.append(_parts(text, predictor.takes, number))
            if len(rows) == most:
                _print_rows(predictor, rows, first, as_json)
                rows, first = [], number + 1
    except DataError:
        _print_rows(predictor, rows, first, as_json)
        raise
    _print_rows(predictor, rows, first, as_json)


def _parts(text: str, names: Sequence[str], number: int) -> tuple[str, ...]:
    if len(names) == 1:
        return (text,)
    parts = tuple(text.split("\t"))
    if len(parts) != len(names):
        raise DataError(
            f"Text {number} has {len(parts) - 1} tabs where this model takes a {' and a '.join(names)}.",
            f"Write both with one tab between them: {'<TAB>'.join(names)}. Contexts may hold no tabs.",
        )
    return parts


def _print_rows(predictor: Predictor, rows: Sequence[tuple[str, ...]], first: int, as_json: bool) -> None:
    """Print a line for each row, of which the first has this number."""
    kind = predictor.kind
    inputs = [parts if len(parts) > 1 else parts[0] for parts in rows]
    try:
        answers = predictor(inputs, top_k=_JSON_TOP.get(kind) if as_json else 1)
    except UserError as error:
        if len(rows) == 1:
            raise UserError(error.message.replace("Text 0", f"Text {first}", 1), error.remedy) from error
        for index, row in enumerate(rows):
            _print_rows(predictor, [row], first + index, as_json)
        return
    for given, found in zip(rows, answers, strict=True):
        texts = [text.encode("utf-8", "replace").decode() for text in given]  # an argument may hold other bytes
        if as_json:
            line = json.dumps(
                {**dict(zip(predictor.takes, texts, strict=True)), **JSON[kind](found)}, ensure_ascii=False
            )
        else:
            line = f"{PLAIN[kind](found)}\t{texts[0]}"
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
