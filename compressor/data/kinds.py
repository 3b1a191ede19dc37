"""One row per kind of task: which files hold its data, how a row is read, and how rows are divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compressor.artifacts import Split, SplitName
from compressor.data import conll, label_sets, questions, scores, tables, tags, texts, words
from compressor.data.files import Formats
from compressor.data.labels import Labelled, reconcile
from compressor.data.plain import read_plain
from compressor.data.rows import Examine, Rows
from compressor.data.splits import Ids
from compressor.data.squad import read_squad
from compressor.recipe import DataRecipe
from compressor.tasks import Kind

Label = Callable[[Mapping[SplitName, Sequence[Rows]], tuple[str, ...] | None, DataRecipe], Labelled]


@dataclass(frozen=True)
class Reading:
    """How the rows of one kind of task are read, checked and divided.

    Attributes:
        formats: Which files hold them.
        examine: Checks one row.
        label: Makes of what is right what ``Split.labels`` holds.
        whole: What must not be cut through when rows are held out: a string that such rows share.
        unit: What that is called.
        strata: The kind of each row, of which the held-out rows keep the shares.
        division: How the held-out rows are chosen, in words.
        complaint: What is wrong with training rows that teach nothing; empty where they do.
        ids: Labels that occur in each row; ``None`` where rows have no labels of a list.
        gaps: Blank rows are nothing to warn of.
    """

    formats: Formats
    examine: Examine
    label: Label
    whole: Callable[[Split], Sequence[str]]
    unit: str
    strata: Callable[[Split], Ids]
    division: str
    complaint: Callable[[Split, Sequence[str]], str]
    ids: Callable[[Split], Sequence[Sequence[int]]] | None = None
    gaps: bool = False


# --- what occurs in a row -------------------------------------------------------------------


def _one(split: Split) -> Sequence[Sequence[int]]:
    return [(label,) for label in split.labels.tolist()]


def _several(split: Split) -> Sequence[Sequence[int]]:
    return [np.flatnonzero(row).tolist() for row in split.labels]


def _tags(split: Split) -> Sequence[Sequence[int]]:
    return [tuple(sorted(set(row))) for row in split.labels]


# --- strata ---------------------------------------------------------------------------------


def _labels(split: Split) -> Ids:
    found: Ids = split.labels
    return found


def _alike(split: Split) -> Ids:
    return np.zeros(len(split.texts), dtype=np.int64)


def _rarest(ids: Callable[[Split], Sequence[Sequence[int]]]) -> Callable[[Split], Ids]:
    """Put a row to its rarest label, so that rare labels are divided as well as common ones."""

    def strata(split: Split) -> Ids:
        sets = ids(split)
        counts = Counter(label for row in sets for label in row)
        none = max(counts, default=-1) + 1
        return np.array([min(row, key=lambda label: (counts[label], label), default=none) for row in sets], np.int64)

    return strata


# --- what must stay together ----------------------------------------------------------------


def _texts(split: Split) -> Sequence[str]:
    return split.texts


def _contexts(split: Split) -> Sequence[str]:
    return split.pairs


# --- labels ---------------------------------------------------------------------------------


def _as_given(splits: Mapping[SplitName, Sequence[Rows]], teacher: Any, recipe: DataRecipe) -> Labelled:
    return Labelled({split: tuple(row for part in parts for row in part.labels) for split, parts in splits.items()}, ())


def _none(splits: Mapping[SplitName, Sequence[Rows]], teacher: Any, recipe: DataRecipe) -> Labelled:
    sizes = {split: sum(len(part.texts) for part in parts) for split, parts in splits.items()}
    return Labelled({split: np.zeros(size, dtype=np.int64) for split, size in sizes.items()}, ())


# --- rows that teach nothing ----------------------------------------------------------------


def _one_label(split: Split, names: Sequence[str]) -> str:
    found = set(split.labels.tolist())
    return f"have the label {names[min(found)]!r}" if len(found) < 2 else ""


def _one_set(split: Split, names: Sequence[str]) -> str:
    alike = bool((split.labels == split.labels[:1]).all())
    return f"have the same labels, {', '.join(names[i] for i in _several(split)[0]) or 'none'}" if alike else ""


def _one_score(split: Split, names: Sequence[str]) -> str:
    return f"have the score {split.labels[0]:g}" if np.ptp(split.labels) == 0 else ""


def _one_tag(split: Split, names: Sequence[str]) -> str:
    found = {tag for row in split.labels for tag in row}
    return f"have the tag {names[min(found)]!r} at every word" if len(found) < 2 else ""


def _no_answer(split: Split, names: Sequence[str]) -> str:
    return "" if any(split.labels) else "have no answer"


def _nothing(split: Split, names: Sequence[str]) -> str:
    return ""


_TABLES = Formats(tables.READERS, "CSV, TSV, JSONL or Parquet")
_OBJECTS = {suffix: reader for suffix, reader in tables.READERS.items() if suffix not in (".csv", ".tsv", ".tab")}
_TAGGED = Formats(
    {**dict.fromkeys(conll.SUFFIXES, conll.read_conll), **_OBJECTS},
    "CoNLL, JSONL or Parquet",
    (conll.looks_like_conll, conll.read_conll),
)
_ASKED = Formats({**_OBJECTS, ".json": read_squad}, "SQuAD JSON, JSONL or Parquet")
_PLAIN = Formats({".txt": read_plain, **tables.READERS}, "plain text, CSV, TSV, JSONL or Parquet", unnamed=True)

_BY_RAREST = "stratified by the rarest label of each row"

READING: Mapping[Kind, Reading] = {
    "single-label": Reading(
        _TABLES, texts.labelled, lambda rows, teacher, _: reconcile(rows, teacher), _texts, "texts", _labels,
        "stratified by label", _one_label, _one,
    ),
    "multi-label": Reading(
        _TABLES, texts.with_labels,
        lambda rows, teacher, recipe: label_sets.reconcile_sets(rows, teacher, recipe.label_separator),
        _texts, "texts", _rarest(_several), _BY_RAREST, _one_set, _several,
    ),
    "regression": Reading(
        _TABLES, texts.labelled, lambda rows, teacher, _: scores.read_scores(rows, teacher), _texts, "texts", _alike,
        "at random", _one_score,
    ),
    "token-classification": Reading(
        _TAGGED, words.tagged, lambda rows, teacher, _: tags.reconcile_tags(rows, teacher), _texts, "texts",
        _rarest(_tags), _BY_RAREST, _one_tag, _tags,
    ),
    "question-answering": Reading(
        _ASKED, questions.asked, _as_given, _contexts, "contexts", _alike, "whole contexts, at random", _no_answer
    ),
    "fill-mask": Reading(
        _PLAIN, texts.unlabelled, _none, _texts, "documents", _alike, "whole documents, at random", _nothing, gaps=True
    ),
    "feature-extraction": Reading(
        _PLAIN, texts.unlabelled, _none, _texts, "texts", _alike, "at random", _nothing, gaps=True
    ),
}  # fmt: skip
