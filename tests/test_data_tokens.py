"""Texts are tokenised once, found again by content, and never read from a damaged cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compressor.artifacts import Corpus, Split
from compressor.data import tokenize
from compressor.errors import DataError, OutputError
from compressor.events import Event, Note, Progress, Warned
from tests import tiny

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def split(rows: int, seed: int) -> Split:
    reviews = tiny.reviews(rows, seed)
    return Split(
        tuple(text for text, _ in reviews), np.array([name == "positive" for _, name in reviews], dtype=np.int64)
    )


CORPUS = Corpus(
    {"train": split(1500, 0), "validation": split(20, 1), "test": split(10, 2)}, ("negative", "positive"), "toy", "f0"
)


def test_token_ids_are_the_tokenizers_own(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenized = tokenize(CORPUS, tokenizer, INPUTS, 64, tmp_path)
    for name, rows in CORPUS.splits.items():
        found = tokenized.splits[name]
        assert found["input_ids"][:] == [tokenizer(text)["input_ids"] for text in rows.texts]
        assert found["labels"][:] == rows.labels.tolist()
        assert found["length"][:] == [len(row) for row in found["input_ids"]]
        assert set(found.column_names) == {*INPUTS, "labels", "length"}
    assert tokenized.input_names == INPUTS


def test_only_inputs_that_the_model_takes_are_made(tmp_path: Path) -> None:
    assert tokenize(CORPUS, tiny.tokenizer(), ("input_ids", "attention_mask"), 64, tmp_path).input_names == (
        "input_ids",
        "attention_mask",
    )
    assert tokenize(CORPUS, tiny.tokenizer("roberta"), INPUTS, 64, tmp_path).input_names == (
        "input_ids",
        "attention_mask",
    )
    with pytest.raises(DataError, match="the model takes"):
        tokenize(CORPUS, tiny.tokenizer(), ("pixel_values",), 64, tmp_path)


def test_rows_that_lose_tokens_are_counted_and_rows_that_just_fit_are_not(tmp_path: Path) -> None:
    texts = ("good film", "good good film", "a good good film")  # 4, 5 and 6 tokens
    corpus = replace(CORPUS, splits={**CORPUS.splits, "test": Split(texts, np.zeros(3, dtype=np.int64))})
    told: list[Event] = []
    tokenized = tokenize(corpus, tiny.tokenizer(), INPUTS, 5, tmp_path, told.append)
    assert tokenized.truncated["test"] == 1
    cut = {split: rows for split, rows in tokenized.truncated.items() if rows}
    listed = ", ".join(f"{rows} of {split}" for split, rows in cut.items())
    assert told[-1] == Note(f"Texts of more than 5 tokens were cut: {listed}.")
    assert tokenized.splits["test"]["length"][:] == [4, 5, 5]
    assert tokenized.max_length == 5


def count(corpus: Corpus, cache: Path, length: int = 64) -> tuple[int, list[Event]]:
    """Tokenise; return how often the tokenizer was asked and what was told."""
    told: list[Event] = []
    tokenize(corpus, tiny.tokenizer(), INPUTS, length, cache, told.append)
    return sum(1 for event in told if isinstance(event, Progress)), told


def test_a_second_run_reads_the_cache(tmp_path: Path) -> None:
    assert count(CORPUS, tmp_path)[0] == 4
    assert count(CORPUS, tmp_path) == (0, [])


def test_other_texts_or_another_length_are_another_cache(tmp_path: Path) -> None:
    count(CORPUS, tmp_path)
    assert count(replace(CORPUS, fingerprint="f1"), tmp_path)[0] == 4
    assert count(CORPUS, tmp_path, length=32)[0] == 4


def test_using_the_tokenizer_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    before = tokenize(CORPUS, tokenizer, INPUTS, 64, tmp_path).fingerprint
    tokenizer(["good film", "film"], padding=True, truncation=True, max_length=8)
    assert tokenize(CORPUS, tokenizer, INPUTS, 64, tmp_path).fingerprint == before
    tokenizer.add_tokens(["brandnew"])
    assert tokenize(CORPUS, tokenizer, INPUTS, 64, tmp_path).fingerprint != before


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "unsealed"])
def test_a_damaged_cache_is_made_anew_and_said_so(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "tokens" / tokenize(CORPUS, tiny.tokenizer(), INPUTS, 64, tmp_path).fingerprint
    content = (folder / "train.arrow").read_bytes()
    match damage:
        case "cut":
            (folder / "train.arrow").write_bytes(content[: len(content) // 2])
        case "flipped":
            (folder / "train.arrow").write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
        case "missing":
            (folder / "test.arrow").unlink()
        case "unsealed":
            (folder / "seal.json").write_text("{}")
    steps, told = count(CORPUS, tmp_path)
    assert told[0] == Warned(f"The token cache {folder} is damaged and was made anew.")
    assert steps == 4
    assert (folder / "train.arrow").read_bytes() == content


def test_a_run_that_is_cut_off_leaves_no_cache(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(CORPUS, tiny.tokenizer(), INPUTS, 64, tmp_path, interrupt)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_a_cache_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Folder .*tokens cannot be written: .*\nChoose another --cache-dir\."):
        tokenize(CORPUS, tiny.tokenizer(), INPUTS, 64, tmp_path / "file")
