"""Texts without labels are read, and join the training rows where they are new and not tested."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compressor.answers import IGNORED
from compressor.artifacts import Corpus
from compressor.data import read_corpus, read_unlabelled, tokenize
from compressor.errors import DataError
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS, Kind
from tests import tiny, tiny_data

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def corpus_of(folder: Path, kind: Kind = "single-label", *, pairs: bool = False) -> Corpus:
    return read_corpus(DataRecipe(), str(tiny_data.write(kind, folder, pairs=pairs)), None, 0, task=TASKS[kind])


def grown(corpus: Corpus, path: Path, text: str, **recipe: str) -> Corpus:
    path.write_text(text, encoding="utf-8")
    return read_unlabelled(DataRecipe(**recipe), str(path), corpus)


def refused(corpus: Corpus, path: Path, text: str | None = None) -> str:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_unlabelled(DataRecipe(), str(path), corpus)
    return str(caught.value)


def test_rows_that_are_tested_or_repeated_are_left_out_and_counted(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "data")
    train, test = corpus.splits["train"].texts, corpus.splits["test"].texts
    text = "\n".join(["a new film", "", *test[:3], train[0], "still\u0085one", "  a new film ", "it was warm"])
    found = grown(corpus, tmp_path / "more.txt", text)
    assert found.added is not None
    assert found.added.split.texts == ("a new film", "still\u0085one", "it was warm")
    (part,) = found.added.parts
    assert (part.kind, part.rows, part.held_out, part.repeated) == ("unlabelled", 3, 3, 2)
    assert found.splits == corpus.splits
    assert found.fingerprint == corpus.fingerprint


def test_tables_are_read_by_the_columns_of_the_run(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "data")
    csv = grown(corpus, tmp_path / "a.csv", 'words,text\n"it, was",other\n', text_column="words")
    jsonl = grown(corpus, tmp_path / "a.jsonl", '{"text": "the plot", "label": 3}\n{"text": null}\n')
    assert csv.added is not None
    assert jsonl.added is not None
    assert csv.added.split.texts == ("it, was",)
    assert jsonl.added.split.texts == ("the plot",)


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression", "token-classification"])
def test_added_rows_stand_behind_the_training_rows_without_labels(tmp_path: Path, kind: Kind) -> None:
    corpus = corpus_of(tmp_path / "data", kind)
    found = grown(corpus, tmp_path / "more.txt", "the film was superb\nflat and dull\n")
    plain, more = (tokenize(item, tiny.tokenizer(), INPUTS, 64, tmp_path / "cache") for item in (corpus, found))
    assert plain.fingerprint != more.fingerprint
    train, rows = len(plain.splits["train"]), more.splits["train"]
    assert (len(rows), len(more.splits["test"])) == (train + 2, len(plain.splits["test"]))
    assert rows["labels"][:train] == plain.splits["train"]["labels"][:]
    last = np.asarray(rows[train]["labels"])
    assert np.isnan(last).all() if last.dtype.kind == "f" else (last == IGNORED).all()
    again = replace(found, added=None)
    assert tokenize(again, tiny.tokenizer(), INPUTS, 64, tmp_path / "cache").fingerprint == plain.fingerprint


def test_words_of_a_tagged_file_are_joined(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "data", "token-classification")
    found = grown(corpus, tmp_path / "more.jsonl", json.dumps({"tokens": ["the", " ", "film"]}) + "\n")
    assert found.added is not None
    assert found.added.split.texts == ("the film",)


def test_pairs_need_pairs(tmp_path: Path) -> None:
    pairs, single = corpus_of(tmp_path / "pairs", pairs=True), corpus_of(tmp_path / "single")
    row = '{"sentence1": "the film", "sentence2": "it was dull"}\n'
    found = grown(pairs, tmp_path / "more.jsonl", row)
    assert found.added is not None
    assert (found.added.split.texts, found.added.split.pairs) == (("the film",), ("it was dull",))
    assert "the training rows are pairs" in refused(pairs, tmp_path / "more.txt", "the film\n")
    assert "the training rows are single texts" in refused(single, tmp_path / "more.jsonl", row)


def test_files_that_give_no_row_are_explained(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "data")
    assert "--unlabelled" in refused(corpus, tmp_path / "nowhere.txt")
    assert "does not exist" in refused(corpus, tmp_path / "nowhere.txt")
    assert "is a folder" in refused(corpus, tmp_path)
    assert "no known format" in refused(corpus, tmp_path / "a.xlsx", "x")
    assert "is empty" in refused(corpus, tmp_path / "a.txt", "\n \n")
    assert "every text is empty" in refused(corpus, tmp_path / "a.jsonl", '{"text": " "}\n')
    assert "no text column" in refused(corpus, tmp_path / "b.jsonl", '{"label": 1}\n')
    tested = "\n".join(corpus.splits["validation"].texts)
    assert "no row that can be used: of 32, 32 are validation or test texts" in refused(
        corpus, tmp_path / "b.txt", tested
    )
