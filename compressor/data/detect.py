"""Which kind of text classification the labels are for, where neither recipe nor teacher says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compressor.artifacts import SplitName
from compressor.data.columns import LABEL_COLUMNS, SCORE_COLUMNS
from compressor.data.corpus import read_rows
from compressor.data.label_sets import looks_like_sets
from compressor.data.rows import Rows
from compressor.data.texts import is_missing
from compressor.errors import DataError
from compressor.events import Listener, Note, ignore
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS, Kind, Task


def detect_problem_type(recipe: DataRecipe, source: str, listen: Listener = ignore) -> Task:
    """Tell by the labels what text classification they are for.

    Lists of labels, and fields in which the same names come back with a separator between them, are several labels
    for each text; numbers with fractions are scores to regress; everything else is one label for each text.

    Args:
        recipe: Columns.
        source: As in ``read_corpus``.
        listen: Receives a ``Note`` where it is not one label for each text.

    Returns:
        One of the kinds of text classification.

    Raises:
        DataError: As in ``read_corpus``.
        HubError: As in ``read_corpus``.
    """
    labels = _labels(recipe, source)
    kind, why = _decide(labels, recipe)
    if why:
        listen(Note(f"{why}: taken for {TASKS[kind].problem_type}. --problem-type says otherwise."))
    return TASKS[kind]


def _labels(recipe: DataRecipe, source: str) -> Sequence[object]:
    try:
        rows = read_rows(recipe, source, TASKS["single-label"], [])
    except DataError as error:
        if "no label column" not in error.message or set(SCORE_COLUMNS) <= set(LABEL_COLUMNS):
            raise
        try:  # a column called score, perhaps
            rows = read_rows(recipe, source, TASKS["regression"], [])
        except DataError:
            raise error from None
    return _present(rows)


def _present(rows: Mapping[SplitName, Sequence[Rows]]) -> Sequence[object]:
    parts = rows["train"]
    if any(part.label_names is not None for part in parts):
        # Declared classes are no scores; lists of them show.
        return [value if isinstance(value, list | tuple) else "a class" for part in parts for value in part.labels]
    return [value for part in parts for value in part.labels if not is_missing(value, declared=False)]


def _decide(labels: Sequence[object], recipe: DataRecipe) -> tuple[Kind, str]:
    if any(isinstance(value, list | tuple) for value in labels):
        return "multi-label", "The labels are lists"
    strings = [str(value).strip() for value in labels]
    if any(isinstance(value, str) for value in labels):
        if recipe.label_separator is not None and any(recipe.label_separator in text for text in strings):
            return "multi-label", f"Labels are separated by {recipe.label_separator!r}"
        mark = looks_like_sets(strings)
        if mark and not _numbers(strings):
            return "multi-label", f"Fields hold several labels, separated by {mark!r}"
    numbers = _numbers(strings)
    fractions = sum(1 for number in numbers if not number.is_integer())
    if fractions:
        return "regression", f"{fractions} of {len(numbers)} labels are numbers with a fraction"
    return "single-label", ""


def _numbers(strings: Sequence[str]) -> Sequence[float]:
    """All of them as numbers; none where one is no number."""
    try:
        return [float(text) for text in strings]
    except ValueError:
        return []
