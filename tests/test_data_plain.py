"""Plain text: documents read, joined and cut to blocks, and masked once where they are judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compressor.answers import IGNORED
from compressor.artifacts import Corpus, Tokenized
from compressor.data import read_corpus, tokenize
from compressor.data.blocks import mask
from compressor.errors import DataError
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS, Kind
from tests import tiny, tiny_data

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def read(source: Path, kind: Kind = "fill-mask", **recipe: object) -> Corpus:
    return read_corpus(DataRecipe(**recipe), str(source), None, 0, task=TASKS[kind])


def texts(corpus: Corpus) -> set[str]:
    return {text for split in corpus.splits.values() for text in split.texts}


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_separate_documents(tmp_path: Path, end: str) -> None:
    documents = [f"document {index}\nof two lines\x85and more" for index in range(20)]
    text = "\n\n" + "\n \t\n\n".join(documents) + "\n"
    (tmp_path / "a.txt").write_bytes(text.replace("\n", end).encode())
    assert texts(read(tmp_path / "a.txt")) == set(documents)


def test_without_blank_lines_each_line_is_a_document(tmp_path: Path) -> None:
    lines = [f"line {index}\x0bstill" for index in range(20)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    corpus = read(tmp_path / "a.txt", "feature-extraction")
    assert texts(corpus) == set(lines)
    assert corpus.notes[0] == "a.txt has no blank line: each of its lines is a document."


def test_files_that_name_no_split_are_all_training_data(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{name} {index}" for index in range(20)))
    (tmp_path / "LICENSE.txt").write_text("do what you like")
    corpus = read(tmp_path)
    assert texts(corpus) == {f"{name} {index}" for name in ("one", "two") for index in range(20)}


def test_blank_rows_of_a_table_separate_documents_and_are_no_fault(tmp_path: Path) -> None:
    rows = [{"text": "" if index % 2 else f"text {index}"} for index in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = read(tmp_path / "a.jsonl")
    assert len(texts(corpus)) == 30
    assert corpus.notes[0].startswith("Dropped 30 of 60 train rows: 30 without text")


def test_labels_of_a_table_are_not_needed(tmp_path: Path) -> None:
    source = tiny_data.write("single-label", tmp_path, train=30, validation=8, test=8)
    corpus = read(source, "feature-extraction")
    assert corpus.labels == ()
    assert corpus.splits["train"].labels.tolist() == [0] * 30


def test_equal_documents_stay_on_one_side(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"document {index % 25}" for index in range(100)))
    held = [set(split.texts) for split in read(tmp_path / "a.txt", test_fraction=0.2).splits.values()]
    assert [len(found) for found in held] == [18, 2, 5]
    assert len(set.union(*held)) == 25


@pytest.mark.parametrize(("content", "message"), [("", "is empty."), (" \n\n", "is empty."), (b"caf\xe9", "byte 4")])
def test_a_bad_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.txt")


# --- blocks ---------------------------------------------------------------------------------


def blocks(corpus: Corpus, cache: Path, length: int = 16, seed: int = 0) -> Tokenized:
    return tokenize(corpus, tiny.tokenizer(), INPUTS, length, cache, seed=seed)


def test_blocks_put_together_are_the_documents_with_a_separator_between(tmp_path: Path) -> None:
    corpus = read(tiny_data.write("fill-mask", tmp_path / "data"))
    tokenizer = tiny.tokenizer()
    rows = blocks(corpus, tmp_path).splits["train"]
    assert "labels" not in rows.column_names
    expected: list[int] = []
    for text in corpus.splits["train"].texts:
        expected += [
            *([tokenizer.sep_token_id] if expected else []),
            *tokenizer(text, add_special_tokens=False)["input_ids"],
        ]
    found = rows["input_ids"][:]
    assert all(ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id for ids in found)
    assert [token for ids in found for token in ids[1:-1]] == expected
    assert {len(ids) for ids in found[:-1]} == {16}
    assert rows["attention_mask"][:] == [[1] * len(ids) for ids in found]


def test_fifteen_in_a_hundred_tokens_are_masked_once_where_they_are_judged(tmp_path: Path) -> None:
    corpus = read(tiny_data.write("fill-mask", tmp_path / "data"))
    tokenizer = tiny.tokenizer()
    plain = blocks(corpus, tmp_path / "other").splits["test"]
    assert plain["input_ids"][:] == blocks(corpus, tmp_path).splits["test"]["input_ids"][:]
    shares = []
    for row in plain:
        ids, labels = np.array(row["input_ids"]), np.array(row["labels"])
        asked = labels != IGNORED
        assert (ids[asked] == tokenizer.mask_token_id).all()
        assert (ids[~asked] != tokenizer.mask_token_id).all()
        assert not np.isin(labels[asked], tokenizer.all_special_ids).any()
        shares.append(asked.sum() / (len(ids) - 2))
    assert min(shares) > 0
    assert abs(np.mean(shares) - 0.15) < 0.02
    other = blocks(corpus, tmp_path, seed=1)
    assert other.splits["test"]["labels"][:] != plain["labels"][:]
    assert other.splits["train"]["input_ids"][:] == blocks(corpus, tmp_path).splits["train"]["input_ids"][:]


def test_a_block_of_special_tokens_alone_has_nothing_to_mask() -> None:
    ids, labels = mask([2, 1, 3], tiny.tokenizer(), (0,))
    assert ids.tolist() == [2, 1, 3]
    assert labels.tolist() == [IGNORED] * 3


def test_a_tokenizer_without_mask_is_refused(tmp_path: Path) -> None:
    corpus = read(tiny_data.write("fill-mask", tmp_path / "data"))
    tokenizer = tiny.tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(DataError, match="The tokenizer has no mask token"):
        tokenize(corpus, tokenizer, INPUTS, 16, tmp_path)
    with pytest.raises(DataError, match="Blocks of 2 tokens have no room"):
        tokenize(corpus, tiny.tokenizer(), INPUTS, 2, tmp_path)
