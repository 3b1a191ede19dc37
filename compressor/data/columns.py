"""Which column holds the text and which the label: by flag, else by convention."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressor.errors import DataError
from compressor.recipe import DataRecipe

# In order of preference, compared without case. Names met in the datasets of the hub, GLUE, and of the usual
# competition sites; names of one half of a text pair (sentence1, premise) are left out on purpose.
TEXT_COLUMNS = (
    "text", "sentence", "content", "review", "review_text", "reviewtext", "comment", "comment_text", "document",
    "body", "message", "tweet", "utterance", "query", "question", "headline", "title", "description", "input",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "category", "intent", "class", "sentiment", "target", "topic", "emotion", "polarity",
    "coarse_label", "rating", "stars", "y",
)  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """Columns of one file by name.

    Attributes:
        more: Further columns that were asked for, as far as the file has them.
    """

    text: str
    label: str
    more: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((self.text, self.label, *self.more)))


Chooser = Callable[[str, Sequence[str]], Chosen]


def chooser(recipe: DataRecipe, more: Sequence[str] = ()) -> Chooser:
    """Return the function from (file name, its columns) to the columns that are read of it.

    Args:
        recipe: Names the text and label column, or leaves them to convention.
        more: Further columns to keep where a file has them.

    The returned function raises ``DataError`` where there is none; the message lists the columns.
    """

    def choose(place: str, columns: Sequence[str]) -> Chosen:
        text = _find(place, columns, recipe.text_column, TEXT_COLUMNS, "text")
        label = _find(place, columns, recipe.label_column, LABEL_COLUMNS, "label")
        if text == label:
            raise DataError(f"{place}: text and label are both read from column {text!r}.", _USE_FLAGS)
        return Chosen(text, label, tuple(name for name in more if name in columns))

    return choose


_USE_FLAGS = "Name them with --text-column and --label-column."


def _find(place: str, columns: Sequence[str], named: str | None, known: Sequence[str], kind: str) -> str:
    twice = sorted({column for column in columns if list(columns).count(column) > 1})
    wanted = [named] if named is not None else known
    for name in wanted:
        exact = [column for column in columns if column == name]
        loose = exact or [column for column in columns if named is None and column.strip().lower() == name]
        if loose and loose[0] in twice:
            raise DataError(f"{place}: the column name {loose[0]!r} is there twice.", "Rename or remove one of them.")
        if loose:
            return loose[0]
    listed = ", ".join(repr(column) for column in columns) or "none"
    if named is not None:
        near = difflib.get_close_matches(named.lower(), {column.lower(): column for column in columns}, n=1)
        hint = f"Did you mean {next(c for c in columns if c.lower() == near[0])!r}?" if near else _USE_FLAGS
        raise DataError(f"{place}: no column {named!r}. Its columns: {listed}.", hint)
    flag = f"--{kind}-column"
    near = [column for column in columns if difflib.get_close_matches(column.lower(), known, n=1, cutoff=0.75)]
    example = f"{flag} {near[0]!r}" if near else flag
    raise DataError(
        f"{place}: no {kind} column. Its columns: {listed}.",
        f"Name it with {example}, or call it {known[0]!r}. The first line of a CSV or TSV file names the columns.",
    )
