"""Which column holds the text, which the label, which the second text: by flag, else by convention."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compressor.errors import DataError
from compressor.recipe import DataRecipe
from compressor.tasks import Kind

# In order of preference, compared without case. Names met in the datasets of the hub, GLUE, and of the usual
# competition sites; names of one half of a text pair (sentence1, premise) stand in PAIRS.
TEXT_COLUMNS = (
    "text", "sentence", "content", "review", "review_text", "reviewtext", "comment", "comment_text", "document",
    "body", "message", "tweet", "utterance", "query", "question", "headline", "title", "description", "input",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "category", "intent", "class", "sentiment", "target", "topic", "emotion", "polarity",
    "coarse_label", "rating", "stars", "y",
)  # fmt: skip
SCORE_COLUMNS = (
    "label",
    "labels",
    "score",
    "similarity_score",
    "similarity",
    "relevance",
    "rating",
    "stars",
    "target",
    "y",
)
PAIRS = (
    ("sentence1", "sentence2"), ("sentence_1", "sentence_2"), ("premise", "hypothesis"), ("question1", "question2"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("query", "passage"), ("query", "document"),
)  # fmt: skip
TOKENS_COLUMNS = ("tokens", "words")
TAGS_COLUMNS = ("ner_tags", "tags", "labels", "label", "ner")
ENTITIES_COLUMNS = ("entities", "spans", "label", "labels")
QUESTION_COLUMNS, CONTEXT_COLUMNS = ("question", "query"), ("context", "passage", "paragraph")
ANSWERS_COLUMNS = ("answers", "answer")


@dataclass(frozen=True)
class Chosen:
    """Columns of one file by name.

    Attributes:
        text: The text, the tokens or the question.
        label: What is right; ``None`` where the task needs none.
        pair: The second text or the context.
        more: Further columns that were asked for, as far as the file has them.
        note: What was chosen, where it is not plain.
    """

    text: str
    label: str | None = None
    pair: str | None = None
    more: tuple[str, ...] = ()
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(name for name in dict.fromkeys((self.text, self.label, self.pair, *self.more)) if name is not None)


Chooser = Callable[[str, Sequence[str]], Chosen]


@dataclass(frozen=True)
class _Table:
    """The columns of one file."""

    place: str
    columns: Sequence[str]

    def find(self, kind: str, named: str | None, known: Sequence[str]) -> str:
        return _find(self, named, known, kind)

    def has_any(self, names: Sequence[str]) -> bool:
        return not self._known().isdisjoint(names)

    def has_all(self, names: Sequence[str]) -> bool:
        return self._known().issuperset(names)

    def _known(self) -> set[str]:
        return {column.strip().lower() for column in self.columns}


def chooser(recipe: DataRecipe, more: Sequence[str] = (), kind: Kind = "single-label") -> Chooser:
    """Return the function from (file name, its columns) to the columns that are read of it.

    Args:
        recipe: Names columns, or leaves them to convention.
        more: Further columns to keep where a file has them.
        kind: What the rows are for.

    The returned function raises ``DataError`` where there is none; the message lists the columns.
    """
    choose = _CHOOSERS[kind]

    def named(place: str, columns: Sequence[str]) -> Chosen:
        found = choose(_Table(place, columns), recipe)
        further = tuple(name for name in more if name in columns)
        return Chosen(found.text, found.label, found.pair, further, found.note)

    return named


def unlabelled_chooser(recipe: DataRecipe, kind: Kind) -> Chooser:
    """Return the same for rows without labels, of which a column of labels is not read.

    Args:
        recipe: Names columns, or leaves them to convention.
        kind: What the rows are for.
    """

    def named(place: str, columns: Sequence[str]) -> Chosen:
        table = _Table(place, columns)
        if kind == "token-classification" and (recipe.tokens_column is not None or table.has_any(TOKENS_COLUMNS)):
            return Chosen(table.find("tokens", recipe.tokens_column, TOKENS_COLUMNS))
        text, pair, note = _texts(table, recipe)
        return Chosen(text, None, pair, note=note)

    return named


_Choose = Callable[[_Table, DataRecipe], Chosen]


def _labelled(labels: Sequence[str]) -> _Choose:
    def choose(table: _Table, recipe: DataRecipe) -> Chosen:
        text, pair, note = _texts(table, recipe)
        label = table.find("label", recipe.label_column, labels)
        if text == label:
            raise DataError(f"{table.place}: text and label are both read from column {text!r}.", _USE_FLAGS)
        if pair in (text, label):
            raise DataError(
                f"{table.place}: the second text is read from column {pair!r} too.", "Correct --pair-column."
            )
        return Chosen(text, label, pair, note=note)

    return choose


def _texts(table: _Table, recipe: DataRecipe) -> tuple[str, str | None, str]:
    """Choose the text and its pair; pairs go by convention only where no column is called a text."""
    halves = next((pair for pair in PAIRS if table.has_all(pair)), None)
    if recipe.pair_column is not None:
        pair = table.find("pair", recipe.pair_column, ())
        firsts = tuple(first for first, second in PAIRS if second == pair.strip().lower())
        return table.find("text", recipe.text_column, (*firsts, *TEXT_COLUMNS)), pair, ""
    if recipe.text_column is not None or halves is None or table.has_any(TEXT_COLUMNS):
        return table.find("text", recipe.text_column, TEXT_COLUMNS), None, ""
    text, pair = (table.find("text", None, (half,)) for half in halves)
    return text, pair, f"Rows are pairs of the columns {text!r} and {pair!r}."


def _tagged(table: _Table, recipe: DataRecipe) -> Chosen:
    if all(column.isdigit() for column in table.columns):  # a CoNLL file: its columns have numbers
        first, last = table.columns[0], table.columns[-1]
        tokens = table.find("tokens", recipe.tokens_column, (first,))
        tags = table.find("tags", recipe.tags_column, (last,))
    elif recipe.tokens_column is None and not table.has_any(TOKENS_COLUMNS) and table.has_any(TEXT_COLUMNS):
        tokens = table.find("text", recipe.text_column, TEXT_COLUMNS)
        tags = table.find("tags", recipe.tags_column, ENTITIES_COLUMNS)
    else:
        tokens = table.find("tokens", recipe.tokens_column, TOKENS_COLUMNS)
        tags = table.find("tags", recipe.tags_column, TAGS_COLUMNS)
    if tokens == tags:
        raise DataError(
            f"{table.place}: tokens and tags are both read from column {tags!r}.",
            "Name them with --tokens-column and --tags-column.",
        )
    return Chosen(tokens, tags)


def _asked(table: _Table, recipe: DataRecipe) -> Chosen:
    return Chosen(
        table.find("question", None, QUESTION_COLUMNS),
        table.find("answers", None, ANSWERS_COLUMNS),
        table.find("context", None, CONTEXT_COLUMNS),
    )


def _plain(table: _Table, recipe: DataRecipe) -> Chosen:
    return Chosen(table.find("text", recipe.text_column, TEXT_COLUMNS))


_CHOOSERS: Mapping[Kind, _Choose] = {
    "single-label": _labelled(LABEL_COLUMNS),
    "multi-label": _labelled(LABEL_COLUMNS),
    "regression": _labelled(SCORE_COLUMNS),
    "token-classification": _tagged,
    "question-answering": _asked,
    "fill-mask": _plain,
    "feature-extraction": _plain,
}

_USE_FLAGS = "Name them with --text-column and --label-column."
_NO_FLAG = ("question", "answers", "context")


def _find(table: _Table, named: str | None, known: Sequence[str], kind: str) -> str:
    place, columns = table.place, table.columns
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
    if kind in _NO_FLAG:
        raise DataError(f"{place}: no {kind} column. Its columns: {listed}.", f"Call it {known[0]!r}.")
    flag = f"--{kind}-column"
    near = [column for column in columns if difflib.get_close_matches(column.lower(), known, n=1, cutoff=0.75)]
    example = f"{flag} {near[0]!r}" if near else flag
    raise DataError(
        f"{place}: no {kind} column. Its columns: {listed}.",
        f"Name it with {example}, or call it {known[0]!r}. The first line of a CSV or TSV file names the columns.",
    )
