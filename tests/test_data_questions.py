"""Questions: SQuAD files and tables read, answers found in their contexts, windows that hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compressor.artifacts import Corpus
from compressor.data import read_corpus, tokenize
from compressor.data.windows import answer_tokens
from compressor.errors import DataError
from compressor.events import Event, Note
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS
from tests import tiny, tiny_data

TASK = TASKS["question-answering"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CONTEXT = "Emma Stone was born in Rome. Rome is old."


def read(source: Path, **recipe: object) -> Corpus:
    return read_corpus(DataRecipe(**recipe), str(source), None, 0, task=TASK)


def refused(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(source)
    assert caught.value.exit_code == 2
    return str(caught.value)


def row(answers: object, question: str = "Where?", context: str = CONTEXT) -> dict[str, object]:
    return {"question": question, "context": context, "answers": answers}


def squad(path: Path, *first: dict[str, Any], more: int = 300) -> Path:
    """Write a SQuAD file: the given rows, and others that are well."""
    rest = [
        row([{"text": "Rome", "answer_start": 23}], f"Where {index}?", CONTEXT + f" {index}") for index in range(more)
    ]
    paragraphs = [
        {"context": item["context"], "qas": [{name: item[name] for name in item if name != "context"}]}
        for item in (*first, *rest)
    ]
    path.write_text(json.dumps({"version": "2.0", "data": [{"title": "one", "paragraphs": paragraphs}]}, indent=1))
    return path


def answers(corpus: Corpus) -> dict[str, Any]:
    return {
        question: found
        for split in corpus.splits.values()
        for question, found in zip(split.texts, split.labels, strict=True)
    }


# --- reading --------------------------------------------------------------------------------


def test_questions_contexts_and_answers_are_read_from_a_squad_file(tmp_path: Path) -> None:
    several = [{"text": "Rome", "answer_start": 23}, {"text": "in Rome", "answer_start": 20}]
    impossible = {**row([], "Who?"), "is_impossible": True, "plausible_answers": several}
    corpus = read(squad(tmp_path / "train.json", row(several, "Both?"), impossible))
    assert answers(corpus)["Both?"] == ((23, "Rome"), (20, "in Rome"))
    assert answers(corpus)["Who?"] == ()
    assert corpus.labels == ()
    assert CONTEXT in {context for split in corpus.splits.values() for context in split.pairs}


@pytest.mark.parametrize(
    "written",
    [
        [{"text": "Rome", "answer_start": 23}],
        {"text": ["Rome"], "answer_start": [23]},
        {"text": "Rome", "answer_start": 23},
        ["Rome"],
        "Rome",
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_answers_may_be_written_in_the_usual_ways(tmp_path: Path, written: object, suffix: str) -> None:
    items = [row(written, f"q{index}", f"{CONTEXT} {index}") for index in range(30)]
    path = tmp_path / f"train{suffix}"
    path.write_text("\n".join(map(json.dumps, items)))
    assert set(answers(read(path)).values()) == {((23, "Rome"),)}


def test_questions_are_read_from_parquet_as_the_hub_has_them(tmp_path: Path) -> None:
    items = [row({"text": ["Rome"], "answer_start": [23]} if index % 2 else {"text": [], "answer_start": []},
                 f"q{index}", f"{CONTEXT} {index}") for index in range(30)]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "train.parquet")
    found = answers(read(tmp_path / "train.parquet"))
    assert (found["q1"], found["q2"]) == (((23, "Rome"),), ())


def test_answers_are_counted_in_characters_and_white_space_at_their_ends_is_left_off(tmp_path: Path) -> None:
    chinese = row([{"text": "北京", "answer_start": 4}], "哪里?", "😀他住在北京市。")
    spaced = row([{"text": " Rome ", "answer_start": 22}], "Spaces?")
    crlf = row([{"text": "two", "answer_start": 5}], "Lines?", "one\r\ntwo\x85three")
    found = answers(read(squad(tmp_path / "train.json", chinese, spaced, crlf)))
    assert found["哪里?"] == ((4, "北京"),)
    assert found["Spaces?"] == ((23, "Rome"),)
    assert found["Lines?"] == ((5, "two"),)


def test_an_answer_beside_its_place_is_searched_for_and_counted(tmp_path: Path) -> None:
    moved = row([{"text": "Rome", "answer_start": 27}], "Moved?")
    corpus = read(squad(tmp_path / "train.json", moved))
    assert answers(corpus)["Moved?"] == ((29, "Rome"),)
    assert corpus.notes[0] == (
        "An answer does not stand where answer_start says; the nearest place in the context was taken: 1 train rows."
    )


def test_answers_that_are_nowhere_are_dropped_up_to_one_in_a_hundred(tmp_path: Path) -> None:
    lost = row([{"text": "Paris", "answer_start": 3}], "Lost?")
    path = tmp_path / "train.json"
    corpus = read(squad(path, lost))
    assert "Lost?" not in answers(corpus)
    assert corpus.notes[0] == (
        f"Dropped 1 of 301 train rows: 1 whose answer is not in the context ({path}, question 1)."
    )
    message = refused(squad(path, *[lost] * 9))
    assert message.startswith("9 of 309 train rows cannot be used: 9 whose answer is not in the context (")
    assert "answer_start (it counts characters, not bytes)" in message


BAD = {
    "no paragraphs": ('{"data": [{"title": "x"}]}', "{path}: data[0] has no 'paragraphs'."),
    "no questions": ('{"data": []}', "{path} has no questions."),
    "no answers": (
        '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]}',
        "{path}: data[0].paragraphs[0].qas[0] has no 'answers'.",
    ),
    "broken": ('{"data": [\n{"paragraphs": ', "{path}, line 1, column 11: not valid JSON"),
    "no columns": ('{"text": "a", "label": 1}', "{path}: no question column. Its columns: 'text', 'label'."),
    "an answer without text": (
        json.dumps(row([{"answer_start": 3}])),
        "{path}, line 1: the answer is {'answer_start': 3}.",
    ),
    "empty contexts": (json.dumps(row(["a"], context=" ")), "{path}: every context is empty."),
    "empty questions": (json.dumps(row(["a"], question=" ")), "{path}: every question is empty."),
    "only unanswerable": (
        "\n".join(json.dumps(row([], f"q{index}")) for index in range(9)),
        "All training rows of {path} have no answer: there is nothing to tell apart.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "train.json"
    path.write_text(content)
    assert refused(path).startswith(message.replace("{path}", str(path)))


def test_contexts_never_stand_on_both_sides_of_a_split(tmp_path: Path) -> None:
    items = [row(["Rome"], f"q{index}", f"{CONTEXT} {index // 5}") for index in range(200)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, items)))
    corpus = read(path)
    contexts = [set(split.pairs) for split in corpus.splits.values()]
    assert [len(found) for found in contexts] == [32, 4, 4]
    assert len(set.union(*contexts)) == 40
    assert "(whole contexts, at random, seed 0)" in corpus.notes[0]


# --- windows --------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "stride"), [(64, 128), (32, 8), (24, 4)])
def test_windows_are_those_of_transformers_and_hold_the_answer(tmp_path: Path, length: int, stride: int) -> None:
    corpus = read(tiny_data.write("question-answering", tmp_path / "data"))
    tokenizer = tiny.tokenizer()
    tokenized = tokenize(corpus, tokenizer, INPUTS, length, tmp_path, doc_stride=stride)
    train, rows = corpus.splits["train"], tokenized.splits["train"]
    assert len(rows) > len(train.texts)
    # Questions have 3 tokens here, and contexts share at most half of what is left beside them.
    expected = tokenizer(
        list(train.texts), list(train.pairs), truncation="only_second", max_length=length,
        stride=min(stride, (length - 6) // 2), return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    assert rows["input_ids"][:] == expected["input_ids"]
    assert rows["token_type_ids"][:] == expected["token_type_ids"]
    assert rows["row"][:] == expected["overflow_to_sample_mapping"]
    held = set()
    for index, window in enumerate(rows):
        offsets = np.array(window["offsets"]).reshape(-1, 2)
        inside = np.array([part == 1 for part in expected.sequence_ids(index)])
        assert np.array_equal(offsets[inside], np.array(expected["offset_mapping"][index])[inside])
        assert (offsets[~inside] == -1).all()
        context, (start, text) = train.pairs[window["row"]], train.labels[window["row"]][0]
        first, last = window["labels"]
        whole = offsets[inside][0, 0] <= start and start + len(text) <= offsets[inside][-1, 1]
        assert (first > 0) == whole
        if whole:
            held.add(window["row"])
            assert context[offsets[first, 0] : offsets[last, 1]] == text
    if stride > 2:  # two windows share more tokens than an answer has
        assert held == set(range(len(train.texts)))


def test_windows_are_told_and_the_stride_is_part_of_the_key(tmp_path: Path) -> None:
    corpus = read(tiny_data.write("question-answering", tmp_path / "data"))
    told: list[Event] = []
    first = tokenize(corpus, tiny.tokenizer(), INPUTS, 64, tmp_path, told.append)
    windows = len(first.splits["train"])
    assert Note(f"12 of 96 train contexts are longer than a window: {windows} windows.") in told
    again: list[Event] = []
    assert tokenize(corpus, tiny.tokenizer(), INPUTS, 64, tmp_path, again.append).fingerprint == first.fingerprint
    assert again == [event for event in told if isinstance(event, Note)]
    assert tokenize(corpus, tiny.tokenizer(), INPUTS, 64, tmp_path, doc_stride=4).fingerprint != first.fingerprint


def test_a_question_that_leaves_no_room_is_cut_and_counted(tmp_path: Path) -> None:
    items = [row(["good"], "film " * 40 + str(index), "the plot is good and " + "the " * index) for index in range(20)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, items)))
    tokenized = tokenize(read(path), tiny.tokenizer(), INPUTS, 16, tmp_path)
    assert max(tokenized.splits["train"]["length"][:]) == 16
    # With 41 tokens no question fits beside its context; the shortest contexts then need one window alone.
    assert 0 < tokenized.truncated["train"] <= len(tokenized.splits["train"])


def test_an_answer_inside_a_token_is_that_token_and_one_across_the_border_is_none() -> None:
    #          0    5      12
    context = "Emma Stones smile"
    offsets = np.array([(-1, -1), (0, 4), (4, 11), (11, 17), (-1, -1)])  # two of them with the space before
    assert answer_tokens(context, offsets, [(5, "Stone")]) == (2, 2)
    assert answer_tokens(context, offsets, [(0, "Emma Stones")]) == (1, 2)
    assert answer_tokens(context, offsets, [(12, "smile")]) == (3, 3)
    assert answer_tokens(context, offsets, []) == (0, 0)
    assert answer_tokens(context, offsets[[0, 2, 4]], [(0, "Emma Stones"), (5, "Stones")]) == (1, 1)
    assert answer_tokens(context, offsets[[0, 2, 4]], [(0, "Emma Stones")]) == (0, 0)
    assert answer_tokens(context, offsets[[0, 4]], [(0, "Emma")]) == (0, 0)
