"""Every kind of task reads its own data; several labels, scores and pairs in tables; the kind found by the labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compressor.artifacts import SPLITS, Corpus
from compressor.data import detect_problem_type, read_corpus, read_held_out, tokenize
from compressor.errors import DataError
from compressor.events import Event, Note
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS, Kind
from tests import tiny, tiny_data

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def read(source: Path, kind: Kind, teacher: tuple[str, ...] | None = None, seed: int = 0, **recipe: object) -> Corpus:
    return read_corpus(DataRecipe(**recipe), str(source), teacher, seed, task=TASKS[kind])


def refused(source: Path, kind: Kind, teacher: tuple[str, ...] | None = None, **recipe: object) -> str:
    with pytest.raises(DataError) as caught:
        read(source, kind, teacher, **recipe)
    return str(caught.value)


def lines(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def table(path: Path, column: str, values: Sequence[object]) -> Path:
    return lines(path, [{"text": f"text {index}", column: value} for index, value in enumerate(values)])


def by_text(corpus: Corpus) -> dict[str, object]:
    return {
        text: label
        for split in corpus.splits.values()
        for text, label in zip(split.texts, np.asarray(split.labels).tolist(), strict=True)
    }


# --- every kind -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TASKS)
def test_the_tiny_data_of_every_kind_are_read_and_tokenised(tmp_path: Path, kind: Kind) -> None:
    source = tiny_data.write(kind, tmp_path / "data", train=40, validation=16, test=24)
    corpus = read(source, kind)
    assert corpus.task is TASKS[kind]
    assert [len(corpus.splits[split].texts) for split in SPLITS] == [40, 16, 24]
    assert corpus.labels == tiny_data.LABELS.get(kind, ("score",) if kind == "regression" else ())
    tokenized = tokenize(corpus, tiny.tokenizer(), INPUTS, 64, tmp_path)
    assert tokenized.task is TASKS[kind]
    for split in SPLITS:
        for row in tokenized.splits[split]:
            assert row["length"] == len(row["input_ids"]) <= 64
            assert len(row["token_type_ids"]) == len(row["attention_mask"]) == row["length"]


@pytest.mark.parametrize("kind", [kind for kind in TASKS if TASKS[kind].named])
def test_labels_are_in_the_order_of_a_teacher_that_has_a_head(tmp_path: Path, kind: Kind) -> None:
    source = tiny_data.write(kind, tmp_path, train=40, validation=16, test=24)
    names = tuple(reversed(tiny.LABELS[kind]))
    assert read(source, kind, names).labels == names


@pytest.mark.parametrize("kind", [kind for kind in TASKS if kind != "fill-mask"])
def test_held_out_rows_are_the_test_split_of_a_folder_or_a_whole_file(tmp_path: Path, kind: Kind) -> None:
    source = tiny_data.write(kind, tmp_path, train=40, validation=16, test=24)
    corpus = read(source, kind, tiny.LABELS.get(kind))
    (file,) = source.glob("test.*")
    for place in (source, file):
        held = read_held_out(DataRecipe(), str(place), tiny.LABELS.get(kind, ()), 0, task=TASKS[kind])
        assert held.split.texts == corpus.splits["test"].texts
        assert np.array_equal(np.asarray(held.split.labels, object), np.asarray(corpus.splits["test"].labels, object))
        assert held.labels == corpus.labels


@pytest.mark.parametrize("kind", TASKS)
def test_missing_splits_are_carved_out_and_nothing_is_in_two_of_them(tmp_path: Path, kind: Kind) -> None:
    source = tiny_data.write(kind, tmp_path, train=80, validation=8, test=8)
    for name in ("validation", "test"):
        next(source.glob(f"{name}.*")).unlink()
    (file,) = source.iterdir()
    corpus = read(file, kind)
    sizes = [len(corpus.splits[split].texts) for split in SPLITS]
    assert sum(sizes) == 80
    assert all(5 <= size <= 8 for size in sizes[1:])
    held = [set(split.pairs or split.texts) for split in corpus.splits.values()]
    assert sum(map(len, held)) == len(set.union(*held))


@pytest.mark.parametrize("kind", ["multi-label", "regression", "token-classification", "question-answering"])
def test_the_fingerprint_follows_what_is_right(tmp_path: Path, kind: Kind) -> None:
    first = read(tiny_data.write(kind, tmp_path / "a"), kind)
    again = read(tiny_data.write(kind, tmp_path / "b"), kind)
    assert first.fingerprint == again.fingerprint
    (file,) = (tmp_path / "b").glob("test.*")
    old, new = {
        "multi-label": ('["long"]', "[]"),
        "regression": ("0.5", "0.25"),
        "token-classification": ("B-GOOD", "B-BAD"),
        "question-answering": ('"answers": [{', '"is_impossible": true, "answers": [{'),
    }[kind]
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert read(tmp_path / "b", kind).fingerprint != first.fingerprint


# --- several labels -------------------------------------------------------------------------

SETS = [["b", "a"], [], ["c"], ["a"]] * 10


@pytest.mark.parametrize(
    "values",
    [
        SETS,
        [", ".join(names) for names in SETS],
        ["|".join(names) for names in SETS],
        [str(names) for names in SETS],
    ],
    ids=["lists", "commas", "bars", "as pandas writes lists"],
)
def test_several_labels_become_a_vector_of_zeros_and_ones(tmp_path: Path, values: list[object]) -> None:
    corpus = read(table(tmp_path / "a.jsonl", "labels", values), "multi-label")
    assert corpus.labels == ("a", "b", "c")
    assert corpus.splits["train"].labels.dtype == np.float32
    found = by_text(corpus)
    assert [found[f"text {index}"] for index in range(4)] == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert "10 rows have no label; they are kept as such." in corpus.notes


def test_vectors_of_zeros_and_ones_follow_the_teachers_order(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", "labels", [[1, 0, 0], [0, 1, 1]] * 20)
    corpus = read(source, "multi-label", ("x", "y", "z"))
    assert corpus.labels == ("x", "y", "z")
    assert by_text(corpus)["text 1"] == [0, 1, 1]
    assert "Labels are vectors of 3 zeros and ones; the teacher has 2 labels." in refused(
        source, "multi-label", ("x", "y")
    )


def test_several_labels_are_matched_with_the_teachers_by_name(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", "labels", SETS)
    assert by_text(read(source, "multi-label", ("c", "b", "a")))["text 0"] == [0, 1, 1]
    assert f"{source}, line 3: label 'c' is unknown to the teacher" in refused(source, "multi-label", ("a", "b"))


def test_ids_in_lists_are_the_teachers_and_said_so(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", "labels", [[0, 2], [1], [0]] * 10)
    corpus = read(source, "multi-label", ("x", "y", "z"))
    assert by_text(corpus)["text 0"] == [1, 0, 1]
    assert "Integer labels were taken as the teacher's ids: 0 is x, 1 is y, 2 is z." in corpus.notes


def test_declared_names_of_lists_keep_their_order(tmp_path: Path) -> None:
    names = {"_type": "List", "feature": {"_type": "ClassLabel", "names": ["zebra", "ant"]}}
    found = pa.table({"text": [f"text {index}" for index in range(30)], "labels": [[1], [0, 1], []] * 10})
    metadata = {"huggingface": json.dumps({"info": {"features": {"labels": names}}})}
    pq.write_table(found.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    corpus = read(tmp_path / "a.parquet", "multi-label")
    assert corpus.labels == ("zebra", "ant")
    assert by_text(corpus)["text 0"] == [0, 1]


def test_two_separators_want_a_flag(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", "labels", ["a, b|c", "a", "c"] * 10)
    assert refused(source, "multi-label") == (
        "Several labels in one field are separated by commas and by bars.\nSay which with --label-separator."
    )
    assert read(source, "multi-label", label_separator="|").labels == ("a", "a, b", "c")


@pytest.mark.parametrize("value", [[{"label": "a"}], [["a"]], [["a"], "b"], [{}, {}]])
def test_what_is_no_label_in_a_list_is_refused_with_its_place(tmp_path: Path, value: object) -> None:
    source = table(tmp_path / "a.jsonl", "labels", [["a"], value, ["b", "c"]] * 10)
    assert f"{source}, line 2: the label is " in refused(source, "multi-label")


def test_rare_labels_are_divided_too(tmp_path: Path) -> None:
    values = [["common", "rare"] if index % 10 == 0 else ["common"] for index in range(200)]
    corpus = read(table(tmp_path / "a.jsonl", "labels", values), "multi-label", test_fraction=0.2)
    assert [int(corpus.splits[split].labels[:, 1].sum()) for split in SPLITS] == [14, 2, 4]
    assert "(stratified by the rarest label of each row, seed 0)" in corpus.notes[0]


def test_rows_that_have_all_the_same_labels_teach_nothing(tmp_path: Path) -> None:
    assert "have the same labels, a, b: there is nothing" in refused(
        table(tmp_path / "a.jsonl", "labels", [["a", "b"]] * 20), "multi-label"
    )
    assert "no row has a label." in refused(table(tmp_path / "b.jsonl", "labels", [[]] * 20), "multi-label")


# --- scores ---------------------------------------------------------------------------------


def test_scores_are_read_as_numbers_from_the_usual_columns(tmp_path: Path) -> None:
    for column in ("label", "score"):
        values = [0, 0.5, "1.25", True] * 10
        corpus = read(table(tmp_path / "a.jsonl", column, values), "regression")
        assert [by_text(corpus)[f"text {index}"] for index in range(4)] == [0, 0.5, 1.25, 1]
        assert corpus.splits["train"].labels.dtype == np.float32
        assert corpus.labels == ("score",)


@pytest.mark.parametrize("value", ["good", "0,5", "inf", [1.0], 10**400])
def test_a_score_that_is_no_number_is_refused_with_its_place(tmp_path: Path, value: object) -> None:
    source = table(tmp_path / "a.jsonl", "label", [0.1, value, 0.3] * 10)
    message = refused(source, "regression")
    assert message.startswith(
        f"{source}, line 2: label {str(value)[:40]!r} is no finite number, and a regression needs one."
    )
    assert ("Write it with a point: 0.5." in message) == (value == "0,5")


def test_scores_that_are_not_a_number_are_dropped_up_to_one_in_a_hundred(tmp_path: Path) -> None:
    values: list[object] = [index / 300 for index in range(299)]
    corpus = read(table(tmp_path / "a.jsonl", "label", [*values, float("nan")]), "regression")
    assert "Dropped 1 of 300 train rows: 1 without label" in corpus.notes[0]
    assert "rows cannot be used: 10 without label" in refused(
        table(tmp_path / "a.jsonl", "label", [*values, *[float("nan")] * 10]), "regression"
    )


def test_one_score_for_all_rows_is_refused(tmp_path: Path) -> None:
    assert "have the score 2: there is nothing to tell apart." in refused(
        table(tmp_path / "a.jsonl", "label", [2] * 20), "regression"
    )


def test_a_test_split_that_hides_its_scores_is_not_used(tmp_path: Path) -> None:
    table(tmp_path / "train.jsonl", "label", [index / 100 for index in range(100)])
    table(tmp_path / "test.jsonl", "label", [-1.0] * 10)
    corpus = read(tmp_path, "regression")
    assert "All rows of the test split have the score -1, so it is not used." in corpus.notes
    assert len(corpus.splits["test"].texts) == 10


def test_a_regression_has_one_output(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", "label", [0.1, 0.2] * 10)
    assert "A regression has one output; the teacher has 2." in refused(source, "regression", ("a", "b"))
    assert read(source, "regression", ("LABEL_0",)).labels == ("LABEL_0",)


# --- pairs ----------------------------------------------------------------------------------


def test_pairs_are_tokenised_as_the_tokenizer_does_it(tmp_path: Path) -> None:
    source = tiny_data.write("single-label", tmp_path / "data", train=20, validation=8, test=8, pairs=True)
    corpus = read(source, "single-label")
    assert "Rows are pairs of the columns 'sentence1' and 'sentence2'." in corpus.notes
    test = corpus.splits["test"]
    tokenized = tokenize(corpus, tiny.tokenizer(), INPUTS, 12, tmp_path)
    expected = tiny.tokenizer()(list(test.texts), list(test.pairs), truncation=True, max_length=12)
    for name in INPUTS:
        assert tokenized.splits["test"][name][:] == expected[name]
    assert tokenized.truncated["test"] == sum(
        len(ids) > 12 for ids in tiny.tokenizer()(list(test.texts), list(test.pairs))["input_ids"]
    )


def test_pair_columns_are_named_by_flags(tmp_path: Path) -> None:
    rows = [{"query": f"q {i}", "doc": f"d {i}", "label": i % 2} for i in range(40)]
    source = lines(tmp_path / "a.jsonl", rows)
    corpus = read(source, "single-label", pair_column="doc")
    pairs = dict(zip(corpus.splits["train"].texts, corpus.splits["train"].pairs, strict=True))
    assert all(second == first.replace("q", "d") for first, second in pairs.items())
    assert read(source, "single-label").splits["train"].pairs == ()
    assert corpus.fingerprint != read(source, "single-label").fingerprint
    assert "the second text is read from column 'label' too." in refused(source, "single-label", pair_column="label")
    assert "no column 'dok'" in refused(source, "single-label", pair_column="dok")


def test_pairs_of_one_first_text_go_to_the_same_side(tmp_path: Path) -> None:
    rows = [{"premise": f"p {i // 4}", "hypothesis": f"h {i}", "label": i % 2} for i in range(200)]
    corpus = read(lines(tmp_path / "a.jsonl", rows), "single-label")
    held = set(corpus.splits["test"].texts)
    assert held
    assert not held & set(corpus.splits["train"].texts)
    assert "(stratified by label, rows of the same first text together, seed 0)" in " ".join(corpus.notes)


def test_an_empty_second_text_is_a_gap(tmp_path: Path) -> None:
    rows = [{"sentence1": f"a {i}", "sentence2": "" if i < 3 else f"b {i}", "label": i % 2} for i in range(40)]
    assert "3 without second text" in refused(lines(tmp_path / "a.jsonl", rows), "single-label")


# --- which kind -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([["a"], ["b", "c"]], "multi-label"),
        (["a,b", "a", "b"], "multi-label"),
        (["New York, NY", "Boston, MA", "Austin, TX"], "single-label"),
        ([0.5, 1, 0], "regression"),
        (["0.25", "1", "0.5"], "regression"),
        ([0, 1, 2], "single-label"),
        ([1.0, 2.0], "single-label"),
        (["1", "2"], "single-label"),
        (["good", "bad"], "single-label"),
        ([True, False], "single-label"),
    ],
)
def test_the_kind_is_found_by_the_labels(tmp_path: Path, values: list[object], kind: Kind) -> None:
    told: list[Event] = []
    found = detect_problem_type(DataRecipe(), str(table(tmp_path / "a.jsonl", "label", values * 10)), told.append)
    assert found is TASKS[kind]
    assert len(told) == (kind != "single-label")
    for event in told:
        assert isinstance(event, Note)
        assert event.text.endswith(f"taken for {found.problem_type}. --problem-type says otherwise.")


def test_a_column_of_scores_is_found_without_a_label_column(tmp_path: Path) -> None:
    source = table(tmp_path / "a.jsonl", "similarity", [0.5, 1, 0] * 9)
    assert detect_problem_type(DataRecipe(), str(source)) is TASKS["regression"]
    with pytest.raises(DataError, match="no label column"):
        detect_problem_type(DataRecipe(), str(table(tmp_path / "b.jsonl", "other", [1, 2])))
