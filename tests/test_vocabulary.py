"""A trimmed vocabulary cuts and answers as the whole one wherever its pieces suffice, and never knows less."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compressor import vocabulary
from compressor.artifacts import Teacher
from compressor.cli import main
from compressor.errors import DataError, RecipeError, StageError, UserError
from compressor.runtime import Predictor
from compressor.tasks import TASKS, Kind
from compressor.teacher import inspect, load
from compressor.teacher.hub import open_folder
from compressor.vocabulary import pieces
from compressor.vocabulary.trim import trim
from tests import tiny, tiny_data, tiny_tokenizers
from tests.test_end_to_end_tasks import SCHEMA, run

TEXTS = [text for text, _ in tiny.reviews(40)]
NAMES = list(tiny_tokenizers.KINDS)


def teacher_of(folder: Path, kind: Kind = "single-label") -> Teacher:
    checkpoint = open_folder(folder, "tiny")
    return load(checkpoint, inspect(checkpoint, task=TASKS[kind].name))


@pytest.fixture(scope="module", params=NAMES)
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    return teacher_of(tiny_tokenizers.teacher_folder(tmp_path_factory.mktemp("teacher"), request.param))


def trimmed(teacher: Teacher, held_out: list[Any] | None = None, texts: list[str] = TEXTS) -> Any:
    names = tuple(name for name in ("input_ids", "attention_mask") if name in teacher.tokenizer.model_input_names)
    rows = held_out if held_out is not None else [(text,) for text in TEXTS]
    return trim(teacher, iter(texts), rows, source="train", input_names=names, max_length=64)


def odd_texts(count: int) -> list[str]:
    """Words of the toy language, invented ones, and letters and marks in a heap."""
    rng = random.Random(1)
    words = [*tiny.POSITIVE, *tiny.NEUTRAL, *tiny_tokenizers.invented(50, seed=2)]
    heaps = ["".join(rng.choices("abcdeklmnoprstuz-.,é中", k=rng.randint(1, 9))) for _ in range(50)]
    return [" ".join(rng.choices([*words, *heaps], k=rng.randint(1, 8))) for _ in range(count)]


# --- what stays -----------------------------------------------------------------------------


def test_fewer_pieces_cut_the_texts_that_need_no_others_as_before_and_no_text_becomes_unknown(teacher: Teacher) -> None:
    odd = odd_texts(600)
    small, found = trimmed(teacher, [(text,) for text in [*TEXTS, *odd]])
    assert found.pieces_after < 0.8 * found.pieces_before
    assert 0 < found.changed_texts < len(odd)
    assert (found.texts, found.unknown_texts) == (640, 0)
    assert found.saved_bytes == 4 * 32 * (found.pieces_before - found.pieces_after)
    for text in TEXTS:
        assert small.tokenizer.tokenize(text) == teacher.tokenizer.tokenize(text)
    kept = set(small.tokenizer.get_vocab())
    for text in odd:
        before, after = teacher.tokenizer.tokenize(text), small.tokenizer.tokenize(text)
        assert after == before or not set(before) <= kept


def test_every_text_can_be_read_back_as_before(teacher: Teacher) -> None:
    small, _ = trimmed(teacher)
    for text in odd_texts(50):
        texts = [one.decode(one(text)["input_ids"]) for one in (teacher.tokenizer, small.tokenizer)]
        assert texts[0].replace(" ", "") == texts[1].replace(" ", "")


def test_the_trimmed_model_answers_as_the_whole_one_to_the_last_bit_and_shares_its_layers(teacher: Teacher) -> None:
    small, found = trimmed(teacher)
    assert found.max_abs_difference == 0.0
    logits = [one.model(**one.tokenizer(TEXTS, padding=True, return_tensors="pt")).logits for one in (teacher, small)]
    assert torch.equal(*logits)
    before, after = (dict(one.model.named_parameters()) for one in (teacher, small))
    assert [name for name in before if before[name] is not after[name]] == [
        f"{teacher.architecture.layers.split('.')[0]}.embeddings.word_embeddings.weight"
    ]
    assert after[next(iter(after))].requires_grad
    assert teacher.model.config.vocab_size == found.pieces_before  # the teacher itself stays


def test_special_tokens_keep_their_meaning_and_the_config_follows(teacher: Teacher) -> None:
    small, found = trimmed(teacher)
    assert small.tokenizer.all_special_tokens == teacher.tokenizer.all_special_tokens
    assert small.model.config.vocab_size == len(small.tokenizer) == found.pieces_after
    assert small.model.config.pad_token_id == small.tokenizer.pad_token_id
    assert small.fingerprint != teacher.fingerprint
    embeddings = small.model.get_input_embeddings()
    assert (embeddings.num_embeddings, embeddings.padding_idx) == (found.pieces_after, small.tokenizer.pad_token_id)


def test_pairs_are_proved_as_pairs(teacher: Teacher) -> None:
    _, found = trimmed(teacher, list(zip(TEXTS, reversed(TEXTS), strict=True)))
    assert (found.texts, found.changed_texts, found.max_abs_difference) == (40, 0, 0.0)


def test_merges_of_what_stays_stay_down_to_single_bytes() -> None:
    state = json.loads(tiny_tokenizers.bpe().backend_tokenizer.to_str())
    vocab = state["model"]["vocab"]
    longest = max((piece for piece in vocab if piece.isalpha()), key=len)
    kept = pieces.trimmed(state, pieces.kept_ids(state, [vocab[longest]]))["model"]
    assert longest in kept["vocab"]
    products = {"".join(merge) for merge in kept["merges"]}
    assert all(len(piece) == 1 or piece in products or piece.startswith("<") for piece in kept["vocab"])
    assert sorted(kept["vocab"].values()) == list(range(len(kept["vocab"])))


def test_a_word_piece_with_a_letter_that_is_no_piece_in_its_place_stays() -> None:
    state = json.loads(tiny_tokenizers.wordpiece().backend_tokenizer.to_str())
    state["model"]["vocab"]["##aq"] = len(state["model"]["vocab"])
    kept = pieces.trimmed(state, pieces.kept_ids(state, []))["model"]["vocab"]
    assert "##q" not in kept
    assert "##aq" in kept
    # Its letters are no pieces inside a word either, but no text is cut into it.
    state["model"]["vocab"]["[unused9]"] = len(state["model"]["vocab"])
    assert "[unused9]" not in pieces.trimmed(state, pieces.kept_ids(state, []))["model"]["vocab"]


def test_the_lowest_score_of_unigram_stays_because_unknown_letters_cost_by_it() -> None:
    state = json.loads(tiny_tokenizers.unigram().backend_tokenizer.to_str())
    entries = state["model"]["vocab"]
    lowest = min(entries, key=lambda entry: entry[1])
    kept = pieces.trimmed(state, pieces.kept_ids(state, []))["model"]["vocab"]
    assert lowest in kept
    assert [entry for entry in entries if entry in kept] == kept


# --- refused --------------------------------------------------------------------------------


def test_a_tokenizer_of_whole_words_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher")
    with pytest.raises(RecipeError, match=r"cannot trim a tokenizer of the kind WordLevel.*WordPiece, BPE and Unigram"):
        run(teacher, tiny_data.write("single-label", tmp_path / "data"), tmp_path, trim_vocab="train")


def test_a_masked_language_model_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"--trim-vocab does not go with fill-mask"):
        vocabulary.check(tiny_tokenizers.wordpiece(), TASKS["fill-mask"])


def test_a_model_that_answers_otherwise_is_never_passed_on(teacher: Teacher) -> None:
    changed = replace(teacher, tokenizer=teacher.tokenizer)
    before = teacher.model.forward

    def forward(*args: Any, **inputs: Any) -> Any:
        output = before(*args, **inputs)
        output.logits = output.logits + 1e-3
        return output

    changed.model.forward = forward
    try:
        with pytest.raises(
            StageError, match=r"answers otherwise about a text that is cut as before: outputs differ by"
        ):
            trimmed(changed)
    finally:
        del changed.model.forward


# --- texts ----------------------------------------------------------------------------------


def test_every_string_of_every_format_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\nstill\u0085one\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "tw\\u00f6", "n": 3}\n\n', encoding="utf-8")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.json").write_text('{"data": [{"context": "three"}]}', encoding="utf-8")
    with (tmp_path / "d.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(["four, with a comma", "five\nlines"])
    (tmp_path / "e.bin").write_bytes(b"\xff")
    (tmp_path / "f.json").write_text('{"text": "six"}\n{"text": "seven"}\n', encoding="utf-8")
    found = sorted(vocabulary.read_texts(tmp_path))
    assert found == sorted(
        ["one", "still\u0085one", "twö", "three", "four, with a comma", "five\nlines", "six", "seven"]
    )
    assert list(vocabulary.read_texts(tmp_path / "a.txt")) == ["one", "still\u0085one"]


def test_texts_that_are_not_there_or_damaged_are_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--trim-vocab .*nowhere does not exist"):
        list(vocabulary.read_texts(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"has no file with texts"):
        list(vocabulary.read_texts(tmp_path))
    (tmp_path / "bad.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.jsonl cannot be read"):
        list(vocabulary.read_texts(tmp_path))


# --- whole runs -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_trims_says_so_and_its_folder_answers_alike_everywhere(tmp_path: Path) -> None:
    teacher = tiny_tokenizers.teacher_folder(tmp_path / "teacher", "BPE")
    (tmp_path / "more.txt").write_text(" ".join(tiny_tokenizers.invented(3)), encoding="utf-8")
    data = tiny_data.write("single-label", tmp_path / "data")
    found = run(teacher, data, tmp_path, trim_vocab=str(tmp_path / "more.txt"), hidden_weight=1.0)
    report, folder = found.report, found.output_dir

    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    told = report["vocabulary"]
    assert told["pieces_after"] < told["pieces_before"]
    assert (told["texts"], told["max_abs_difference"]) == (80, 0.0)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == told["pieces_after"]
    sentence = f"from {told['pieces_before']:,} to {told['pieces_after']:,} pieces"
    for name in ("README.md", "report/report.md", "report/report.html"):
        assert sentence in (folder / name).read_text(encoding="utf-8")

    texts = [*odd_texts(20), *TEXTS]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == told["pieces_after"] == model.get_input_embeddings().num_embeddings
    rows = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**rows).logits.numpy()
    np.testing.assert_allclose(Predictor(folder, model="fp32").logits(texts), expected, atol=1e-5)
    assert main(["check", str(folder), "--no-timing", "--max-drop", "100"]) == 0


# The unknown words of a text are other tokens for the teacher than for the student.
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("token-classification", "Unigram", marks=pytest.mark.slow),
        pytest.param("question-answering", "WordPiece", marks=pytest.mark.slow),
        pytest.param("feature-extraction", "WordPiece", marks=pytest.mark.slow),
    ],
)
def test_tasks_about_tokens_are_judged_though_the_tokens_are_others(kind: Kind, name: str, tmp_path: Path) -> None:
    teacher = tiny_tokenizers.teacher_folder(tmp_path / "teacher", name, kind)
    data = tiny_data.write(kind, tmp_path / "data", train=16)
    for path in (
        data / f"{split}{suffix}" for split in ("validation", "test") for suffix in (".conll", ".json", ".jsonl")
    ):
        if path.exists():  # pieces that the training texts do not have
            path.write_text(path.read_text().replace("the", "pradomo").replace("and", "stetri"), encoding="utf-8")
    found = run(teacher, data, tmp_path, task=TASKS[kind].name, trim_vocab="train")
    jsonschema.Draft202012Validator(SCHEMA).validate(found.report)
    assert found.report["vocabulary"]["changed_texts"] > 0
    assert found.report["vocabulary"]["unknown_texts"] == 0
    assert len(found.report["models"]) == 4
