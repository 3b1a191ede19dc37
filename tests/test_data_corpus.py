"""Reading labelled text: formats, columns, splits, labels, and bad input refused with file and line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compressor.artifacts import Corpus
from compressor.data import read_corpus
from compressor.errors import DataError
from compressor.events import Event, Note, Warned
from compressor.recipe import DataRecipe
from tests import tiny

REVIEWS = tiny.reviews(60)


def read(source: Path, teacher: tuple[str, ...] | None = None, seed: int = 0, **recipe: object) -> Corpus:
    return read_corpus(DataRecipe(**recipe), str(source), teacher, seed)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def csv_text(rows: list[tuple[str, object]], header: str = "text,label") -> str:
    return "\n".join([header, *(f"{text},{label}" for text, label in rows)]) + "\n"


def pairs(corpus: Corpus) -> Counter[tuple[str, str]]:
    return Counter(
        (text, corpus.labels[label])
        for split in corpus.splits.values()
        for text, label in zip(split.texts, split.labels.tolist(), strict=True)
    )


def write_as(path: Path) -> Path:
    """Write the toy reviews in the format that the extension names."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [t for t, _ in REVIEWS], "label": [n for _, n in REVIEWS]}), path)
    elif path.suffix == ".jsonl":
        write(path, "\n".join(json.dumps({"text": text, "label": name}) for text, name in REVIEWS))
    else:
        write(path, csv_text(REVIEWS).replace(",", "\t" if path.suffix == ".tsv" else ","))
    return path


# --- formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "A.CSV"])
def test_every_format_reads_the_same_rows(tmp_path: Path, name: str) -> None:
    corpus = read(write_as(tmp_path / name))
    assert pairs(corpus) == Counter(REVIEWS)
    assert corpus.labels == ("negative", "positive")
    assert corpus.splits["train"].labels.dtype == np.int64


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_understood(tmp_path: Path, encoding: str) -> None:
    rows = [(f"schön {index}", index % 2) for index in range(30)]
    corpus = read(write(tmp_path / "a.csv", csv_text(rows).encode(encoding)))
    assert pairs(corpus) == Counter((text, str(label)) for text, label in rows)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, name: str) -> None:
    rows = [(f"one\x85two\u2028three\x0cfour {index}", "ab"[index % 2]) for index in range(30)]
    separator = "\t" if name == "a.tsv" else ","
    lines = [f"text{separator}label", *(f"{text}{separator}{label}" for text, label in rows)]
    if name == "a.jsonl":
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    assert pairs(read(write(tmp_path / name, "\r\n".join(lines)))) == Counter(rows)


def test_quoted_texts_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    text = csv_text([('"a ""fine"", long\nfilm"', "good"), *REVIEWS])
    assert pairs(read(write(tmp_path / "a.csv", text)))['a "fine", long\nfilm', "good"] == 1


def test_a_field_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    long = "x" * 200_000
    assert pairs(read(write(tmp_path / "a.csv", csv_text([(long, "positive"), *REVIEWS]))))[long, "positive"] == 1


def test_a_tsv_with_stray_quotation_marks_is_read_plainly_and_said_so(tmp_path: Path) -> None:
    content = 'text\tlabel\n" a stray mark\tgood\n"two" in one\tbad\n' + "fine\tgood\nflat\tbad\n" * 3
    corpus = read(write(tmp_path / "a.tsv", content))
    assert pairs(corpus)['" a stray mark', "good"] == 1
    assert "a.tsv: its quotation marks do not pair up, so they were read as plain characters." in corpus.notes


def test_a_csv_separated_by_semicolons_is_read_and_said_so(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.csv", csv_text(REVIEWS).replace(",", ";")))
    assert pairs(corpus) == Counter(REVIEWS)
    assert "a.csv is separated by a semicolon." in corpus.notes


# --- splits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "validation.csv", "test.csv"),
        ("Train.csv", "reviews_dev.csv", "test-2.csv"),
        ("data/train-00000-of-00001.csv", "data/val-00000-of-00001.csv", "data/test-00000-of-00001.csv"),
        ("train/0000.csv", "valid/0000.csv", "test/0000.csv"),
    ],
)
def test_file_and_folder_names_say_the_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    for size, name in zip((30, 20, 10), names, strict=True):
        write(tmp_path / name, csv_text(REVIEWS[-size:]))
    write(tmp_path / "README.md", "about")
    write(tmp_path / ".cache" / "train.csv", "old")
    corpus = read(tmp_path)
    assert [len(corpus.splits[split].texts) for split in ("train", "validation", "test")] == [30, 20, 10]
    assert not [note for note in corpus.notes if "held out" in note]


def test_shards_of_a_split_are_joined(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.csv", csv_text(REVIEWS[:30]))
    write(tmp_path / "train-00001-of-00002.csv", csv_text(REVIEWS[30:]))
    assert pairs(read(tmp_path)) == Counter(REVIEWS)


def test_missing_splits_are_carved_out_stratified_and_said_so(tmp_path: Path) -> None:
    told: list[Event] = []
    source = write(tmp_path / "a.csv", csv_text(tiny.reviews(200)))
    corpus = read_corpus(DataRecipe(test_fraction=0.2), str(source), None, 7, told.append)
    sizes = {name: np.bincount(split.labels).tolist() for name, split in corpus.splits.items()}
    assert sizes == {"train": [70, 70], "validation": [10, 10], "test": [20, 20]}
    assert corpus.notes == (
        "No test split was given: 40 of the 200 training rows were held out for it (stratified by label, seed 7).",
        "No validation split was given: 20 of the 200 training rows were held out for it (stratified by label, "
        "seed 7).",
    )
    assert told == [Note(text) for text in corpus.notes]


def test_a_test_split_that_is_given_is_left_whole(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", csv_text(REVIEWS[:40]))
    write(tmp_path / "test.csv", csv_text(REVIEWS[40:]))
    corpus = read(tmp_path)
    assert corpus.splits["test"].texts == tuple(text for text, _ in REVIEWS[40:])
    assert len(corpus.splits["validation"].texts) == 4


def test_the_seed_decides_what_is_carved_out(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", csv_text(tiny.reviews(200)))
    assert read(source, seed=1).fingerprint == read(source, seed=1).fingerprint
    assert read(source, seed=1).fingerprint != read(source, seed=2).fingerprint


def test_a_label_of_one_row_stays_in_the_training_split(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.csv", csv_text([*REVIEWS, ("odd", "rare")])))
    assert "odd" in corpus.splits["train"].texts


def test_training_rows_are_limited_by_a_stratified_sample(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.csv", csv_text(tiny.reviews(200))), max_train_rows=50)
    assert np.bincount(corpus.splits["train"].labels).tolist() == [25, 25]
    assert "Trained on a sample of 50 of 160 training rows (stratified by label, seed 0)." in corpus.notes


def test_texts_of_the_training_split_in_the_test_split_are_counted(tmp_path: Path) -> None:
    rows = [(f"text {index}", "ab"[index % 2]) for index in range(30)]
    write(tmp_path / "train.csv", csv_text(rows))
    write(tmp_path / "validation.csv", csv_text([("other", "a"), ("more", "b")]))
    write(tmp_path / "test.csv", csv_text([*rows[:3], ("new", "a")]))
    told: list[Event] = []
    read_corpus(DataRecipe(), str(tmp_path), None, 0, told.append)
    assert told == [
        Warned("3 of 4 test texts are in the training split too: test scores flatter the model."),
    ]


def test_data_files_whose_name_says_no_split_are_named(tmp_path: Path) -> None:
    for name in ("train.csv", "extra.csv"):
        write(tmp_path / name, csv_text(REVIEWS))
    write(tmp_path / "dataset_info.json", "{}")
    assert "Not read, because the name says no split: extra.csv." in read(tmp_path).notes


def test_a_few_empty_rows_are_dropped_and_said_so(tmp_path: Path) -> None:
    rows = [(f"text {index}", "ab"[index % 2]) for index in range(300)]
    corpus = read(write(tmp_path / "a.csv", csv_text([*rows[:4], ("  ", "a"), *rows[4:], ("no label", "")])))
    assert pairs(corpus) == Counter(rows)
    assert corpus.notes[0] == (
        f"Dropped 2 of 302 train rows: 1 without text and 1 without label ({tmp_path / 'a.csv'}, line 6; "
        f"{tmp_path / 'a.csv'}, line 303)."
    )


# --- columns --------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["sentence,intent", "Review,Sentiment", "utterance,category", "content,class"])
def test_columns_are_found_by_convention(tmp_path: Path, header: str) -> None:
    assert pairs(read(write(tmp_path / "a.csv", csv_text(REVIEWS, header)))) == Counter(REVIEWS)


def test_columns_are_named_by_flags(tmp_path: Path) -> None:
    content = csv_text([(f"{text},0", name) for text, name in REVIEWS], "words,label,mood")
    assert pairs(read(write(tmp_path / "a.csv", content), text_column="words", label_column="mood")) == Counter(REVIEWS)


# --- labels ---------------------------------------------------------------------------------

NAMED = ("positive", "negative")
GENERIC = ("LABEL_0", "LABEL_1")


def labelled(path: Path, labels: list[object], names: tuple[str, ...] | None = None) -> Path:
    table = pa.table({"text": [f"text {index}" for index in range(len(labels))], "label": labels})
    if names is not None:
        features = {"label": {"_type": "ClassLabel", "names": list(names)}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def written(corpus: Corpus) -> dict[str, str]:
    return dict(pairs(corpus).keys())


@pytest.mark.parametrize("label", [int, float, str])
def test_integer_labels_are_ordered_by_number(tmp_path: Path, label: type) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", [label(index % 11) for index in range(55)]))
    assert corpus.labels == tuple(str(number) for number in range(11))
    assert written(corpus)["text 10"] == "10"


def test_declared_names_keep_their_order(tmp_path: Path) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", [0, 1] * 20, ("zebra", "ant")))
    assert corpus.labels == ("zebra", "ant")
    assert written(corpus)["text 0"] == "zebra"


def test_names_are_matched_with_the_teachers_whatever_their_order(tmp_path: Path) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", ["negative", "positive"] * 20), NAMED)
    assert corpus.labels == NAMED
    assert written(corpus)["text 0"] == "negative"


def test_declared_names_are_matched_with_the_teachers_by_name(tmp_path: Path) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", [0, 1] * 20, ("negative", "positive")), NAMED)
    assert corpus.labels == NAMED
    assert written(corpus)["text 0"] == "negative"


def test_integers_that_a_teacher_uses_as_names_are_matched_by_name(tmp_path: Path) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", [0, 1] * 20), ("1", "0"))
    assert written(corpus)["text 0"] == "0"
    assert corpus.labels == ("1", "0")


@pytest.mark.parametrize("teacher", [NAMED, GENERIC])
def test_integers_are_the_teachers_ids_and_said_so(tmp_path: Path, teacher: tuple[str, ...]) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", [0, 1] * 20), teacher)
    assert written(corpus)["text 1"] == teacher[1]
    assert f"Integer labels were taken as the teacher's ids: 0 is {teacher[0]}, 1 is {teacher[1]}." in corpus.notes


def test_truth_values_are_the_teachers_ids_0_and_1(tmp_path: Path) -> None:
    source = labelled(tmp_path / "a.parquet", [False, True] * 20)
    assert read(source).labels == ("False", "True")
    assert written(read(source, NAMED))["text 1"] == NAMED[1]


def test_declared_names_with_a_nameless_teacher_are_a_warning(tmp_path: Path) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", [0, 1] * 20, ("neg", "pos")), GENERIC)
    assert written(corpus)["text 1"] == "LABEL_1"
    assert any("neg is LABEL_0, pos is LABEL_1" in note for note in corpus.notes)


def test_a_teachers_label_without_rows_is_said(tmp_path: Path) -> None:
    corpus = read(labelled(tmp_path / "a.parquet", ["negative", "positive"] * 20), ("neutral", *NAMED))
    assert "No row of the data has the label neutral." in corpus.notes


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    first = read(write_as(tmp_path / "a.csv"))
    assert first.fingerprint == read(write_as(tmp_path / "b.parquet")).fingerprint
    assert first.fingerprint != read(tmp_path / "a.csv", NAMED).fingerprint


def test_reading_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, compressor.data; print('torch' in sys.modules, 'datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# --- bad input ------------------------------------------------------------------------------

GOOD = csv_text(REVIEWS)
Bad = tuple[str, str | bytes, str, str]  # file, content, message, part of the remedy

BAD: dict[str, Bad] = {
    "empty file": ("a.csv", "", "{path} is empty.", "downloaded completely"),
    "empty parquet": ("a.parquet", "", "{path} is empty.", "downloaded completely"),
    "blank file": ("a.jsonl", "\n \n", "{path} is empty.", "downloaded completely"),
    "only a byte order mark": ("a.csv", b"\xef\xbb\xbf", "{path} is empty.", "downloaded completely"),
    "header only": ("a.csv", "text,label\n", "{path} has a header and no rows.", "downloaded completely"),
    "no text column": (
        "a.csv", csv_text(REVIEWS, "phrase,label"), "{path}: no text column. Its columns: 'phrase', 'label'.",
        "--text-column",
    ),
    "no label column": (
        "a.csv", csv_text(REVIEWS, "text,labell"), "{path}: no label column. Its columns: 'text', 'labell'.",
        "Name it with --label-column 'labell'",
    ),
    "no header": (
        "a.tsv", "a fine film\t1\na flat film\t0\n", "{path}: no text column. Its columns: 'a fine film', '1'.",
        "The first line of a CSV or TSV file names the columns.",
    ),
    "column twice": ("a.csv", "text,label,text\na,b,c\n", "{path}: the column name 'text' is there twice.", "Rename"),
    "key twice": ("a.jsonl", '{"text": "a", "text": "b", "label": 1}', "{path}, line 1: the key 'text' is there twice.", ""),
    "one label": (
        "a.csv", csv_text([("a", "good"), ("b", "good"), ("c", "good")] * 9),
        "All training rows of {path} have the label 'good': there is nothing to tell apart.", "--label-column",
    ),
    "empty texts": ("a.csv", csv_text([("", "a"), ("", "b")]), "{path}: every text is empty.", "--text-column"),
    "empty labels": ("a.csv", csv_text([("a", ""), ("b", " ")]), "{path}: every label is empty.", "--label-column"),
    "many empty texts": (
        "a.csv", csv_text([*REVIEWS[:58], (" ", "positive"), ("", "negative")]),
        "2 of 60 train rows cannot be used: 2 without text ({path}, line 60; {path}, line 61).", "At most 1%",
    ),
    "not UTF-8": (
        "a.csv", "text,label\nfine,1\ncaf\xe9,0\n".encode("latin-1"),
        "{path}, line 3, byte 4: 0xe9 is not valid utf-8.", "iconv -f WINDOWS-1252 -t UTF-8 a.csv",
    ),
    "NUL": ("a.csv", "text,label\nfine,1\nfl\0at,0\n", "{path}, line 3: a NUL character.", "UTF-16"),
    "UTF-16 without mark": ("a.csv", GOOD.encode("utf-16-le"), "{path}, line 1: a NUL character.", "iconv -f UTF-16LE"),
    "broken JSON": (
        "a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", \n',
        "{path}, line 3, column 15: not valid JSON: Expecting property name enclosed in double quotes.",
        'as in {"text"',
    ),
    "JSON that is no object": ("a.jsonl", '["a", 1]'.join(["1\n", ""]), "{path}, line 1: expected an object, found 1.", "as in"),
    "a JSON list": ("a.json", '[{"text": "a"}]', "{path} is one JSON list, not one object on each line.", "jq -c"),
    "a field too many": (
        "a.csv", "text,label\nfine,1\na flat, dull film,0\n",
        "{path}, line 3: 3 fields where the header has 2.", "Put a text that holds a comma or a line break in quotation marks.",
    ),
    "an unquoted line break": ("a.csv", "text,label\na flat\nfilm,0\n", "{path}, line 2: 1 fields where the header has 2.", "line break"),
    "an open quotation mark": (
        "a.csv", 'text,label\nfine,1\n"flat,0\nbad,0\n', "{path}, line 3: not valid CSV: unexpected end of data.", "twice",
    ),
    "not Parquet": ("a.parquet", "text,label\n" * 9, "{path} is not a readable Parquet file: Parquet magic bytes not found in footer", ""),
    "a score": ("a.csv", csv_text([("a", 0.5), ("b", 1)]), "{path}: label 0.5 is a number with a fraction: a score, not a class.", "--label-column"),
    "mixed labels": (
        "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": "bad"}',
        "{path}, line 2: label 'bad', where {path}, line 1 has 1: strings and numbers are mixed.", "all as integers",
    ),
    "several labels": (
        "a.jsonl", '{"text": "a", "label": [1, 2]}', "{path}, line 1: the label is several labels, [1, 2].", "one label",
    ),
    "a text that is a number": ("a.jsonl", '{"text": 5, "label": 1}', "{path}, line 1: the text is a int, '5'.", "--text-column"),
    "half a character": (
        "a.jsonl", '{"text": "a\\ud800", "label": 1}',
        "{path}, line 1: the text holds half of a surrogate pair, which is no character.", "escape",
    ),
    "a workbook": ("a.xlsx", "PK", "{path} is not a data file: .xlsx.", "Save the sheet as CSV UTF-8."),
    "a file without extension": ("a", GOOD, "{path} is not a data file: it has no extension.", "Give CSV, TSV, JSONL or Parquet"),
    "too few rows": ("a.csv", csv_text([("a", 0), ("b", 1)]), "2 rows of 2 labels are too few to hold rows out.", "more rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    name, content, message, remedy = BAD[case]
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.message.startswith(message.replace("{path}", str(path)))
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 2


def refused(source: Path, teacher: tuple[str, ...] | None = None, **recipe: object) -> str:
    with pytest.raises(DataError) as caught:
        read(source, teacher, **recipe)
    return str(caught.value)


def test_a_missing_path_is_refused_with_a_near_miss(tmp_path: Path) -> None:
    write_as(tmp_path / "reviews.csv")
    assert refused(tmp_path / "review.csv") == (
        f"Data {tmp_path / 'review.csv'} does not exist.\nDid you mean {tmp_path / 'reviews.csv'}?"
    )


def test_a_folder_without_data_is_refused_with_its_listing(tmp_path: Path) -> None:
    assert "It holds: nothing." in refused(tmp_path)
    write(tmp_path / "train.xlsx", "PK")
    write(tmp_path / "notes" / "a.md", "")
    assert f"Folder {tmp_path} has no data file. It holds: notes/a.md, train.xlsx.\nSave the sheet as CSV" in refused(
        tmp_path
    )


def test_a_folder_without_a_training_split_is_refused(tmp_path: Path) -> None:
    write_as(tmp_path / "neg.csv")
    write_as(tmp_path / "pos.csv")
    assert "has no training split. Its data files: neg.csv, pos.csv." in refused(tmp_path)


def test_a_split_in_two_places_is_refused(tmp_path: Path) -> None:
    write_as(tmp_path / "train.csv")
    write_as(tmp_path / "train.jsonl")
    assert "has more than one train split: train.csv, train.jsonl." in refused(tmp_path)


def test_a_column_that_is_not_there_is_refused_with_a_near_miss(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", csv_text(REVIEWS, "Phrase,label"))
    assert refused(source, text_column="phrases") == (
        f"{source}: no column 'phrases'. Its columns: 'Phrase', 'label'.\nDid you mean 'Phrase'?"
    )


def test_one_column_for_both_is_refused(tmp_path: Path) -> None:
    assert "text and label are both read from column 'label'" in refused(
        write_as(tmp_path / "a.csv"), text_column="label"
    )


def test_a_label_unknown_to_the_teacher_is_refused_with_its_place(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", csv_text([("a", "negative"), ("b", "Positive"), ("c", "mixed")] * 9))
    assert refused(source, NAMED) == (
        f"{source}, line 3: label 'Positive' is unknown to the teacher, which has 'positive', 'negative'. "
        "Also unknown: 'mixed'.\n"
        "Did you mean to write 'Positive' as 'positive'? Use the teacher's names in the data, or a teacher that was "
        "trained on these labels."
    )


def test_an_id_that_the_teacher_does_not_have_is_refused(tmp_path: Path) -> None:
    source = labelled(tmp_path / "a.parquet", [0, 1, 2] * 9)
    assert f"{source}, row 3: label 2 is not one of the teacher's ids, 0 to 1." in refused(source, NAMED)


def test_names_with_a_nameless_teacher_are_refused(tmp_path: Path) -> None:
    message = refused(write_as(tmp_path / "a.csv"), GENERIC)
    assert message.startswith(
        "The teacher does not name its labels (LABEL_0, LABEL_1), the data does (negative, positive)"
    )
    assert "id2label" in message


def test_declared_names_that_a_named_teacher_lacks_are_refused(tmp_path: Path) -> None:
    source = labelled(tmp_path / "a.parquet", [0, 1] * 20, ("neg", "pos"))
    assert "label 'neg' is unknown to the teacher" in refused(source, NAMED)


def test_a_label_that_is_only_tested_is_refused_unless_the_teacher_knows_it(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", csv_text(REVIEWS))
    write(tmp_path / "test.csv", csv_text([("so so", "neutral"), ("fine", "positive")]))
    message = "1 test rows have a label that no training row has: neutral."
    assert refused(tmp_path).startswith(message)
    assert message in read(tmp_path, ("neutral", *NAMED)).notes


def test_a_sample_smaller_than_the_labels_is_refused(tmp_path: Path) -> None:
    assert "--max-train-rows 1: A sample of 1 rows cannot hold all 2 labels." in refused(
        write_as(tmp_path / "a.csv"), max_train_rows=1
    )


# --- columns to slice by ----------------------------------------------------------------------


def keep(source: Path, *columns: str) -> Corpus:
    return read_corpus(DataRecipe(), str(source), None, 0, columns=columns)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_named_columns_follow_their_rows_into_the_carved_splits(tmp_path: Path, name: str) -> None:
    # The value tells the text, so that a row in the wrong place shows.
    table = pa.table(
        {
            "text": [t for t, _ in REVIEWS],
            "label": [n for _, n in REVIEWS],
            "words": [len(t.split()) for t, _ in REVIEWS],
        }
    )
    path = tmp_path / name
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        write(path, "\n".join(json.dumps(row) for row in table.to_pylist()))
    else:
        write(path, "text,label,words\n" + "\n".join(",".join(map(str, row.values())) for row in table.to_pylist()))
    for split in keep(path, "words").splits.values():
        assert split.columns["words"] == tuple(str(len(text.split())) for text in split.texts)


def test_columns_are_needed_in_the_test_split_alone_and_gaps_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", csv_text(REVIEWS))
    rows = [("a good film", "positive", "en"), ("", "positive", "fr"), ("a dull plot", "negative", "")] + [
        ("a fine film", "positive", "de")
    ] * 200
    write(tmp_path / "test.csv", "text,label,lang\n" + "\n".join(",".join(row) for row in rows))
    corpus = keep(tmp_path, "lang")
    # The second row has no text and is dropped, with its language.
    assert corpus.splits["test"].columns["lang"][:3] == ("en", "(empty)", "de")
    assert corpus.splits["train"].columns == {}


def test_without_a_request_no_column_is_kept_and_the_fingerprint_is_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text([(t, f"{n},x") for t, n in REVIEWS], "text,label,lang"))
    plain, kept = keep(path), keep(path, "lang")
    assert plain.splits["test"].columns == {}
    assert kept.fingerprint == plain.fingerprint


def test_a_column_to_slice_by_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", csv_text([(t, f"{n},x") for t, n in REVIEWS], "text,label,source"))
    with pytest.raises(DataError) as caught:
        keep(path, "sorce")
    assert str(caught.value) == (
        f"{path}: no column 'sorce' to slice by. Its columns: 'text', 'label', 'source'.\nDid you mean 'source'?"
    )


def test_a_column_of_too_many_values_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    rows = [(t, f"{n},{index}") for index, (t, n) in enumerate(tiny.reviews(150))]
    path = write(tmp_path / "a.csv", csv_text(rows, "text,label,id"))
    with pytest.raises(DataError, match="Column 'id' has 150 different values in 150 train rows: at most 100"):
        keep(path, "id")
