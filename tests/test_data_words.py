"""Words with tags: CoNLL files, lists and entities read, schemes and teachers reconciled, tags put onto tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compressor.answers import IGNORED
from compressor.artifacts import Corpus
from compressor.data import read_corpus, tokenize
from compressor.data.words import align, inside_labels, join, split_words, token_labels
from compressor.errors import DataError
from compressor.events import Event, Note
from compressor.recipe import DataRecipe
from compressor.tasks import TASKS
from tests import tiny, tiny_data

TASK = TASKS["token-classification"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def read(source: Path, teacher: tuple[str, ...] | None = None, **recipe: object) -> Corpus:
    return read_corpus(DataRecipe(**recipe), str(source), teacher, 0, task=TASK)


def refused(source: Path, teacher: tuple[str, ...] | None = None, **recipe: object) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        read(source, teacher, **recipe)
    assert caught.value.exit_code == 2
    return caught.value.message, caught.value.remedy


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path


def rows(corpus: Corpus) -> dict[str, list[tuple[str, str]]]:
    """Each text with its words and their tags."""
    return {
        text: [(text[start:end], corpus.labels[tag]) for (start, end), tag in zip(words, tags, strict=True)]
        for split in corpus.splits.values()
        for text, words, tags in zip(split.texts, split.words, split.labels, strict=True)
    }


def conll(sentences: Sequence[Sequence[tuple[str, str]]], separator: str = "\t") -> str:
    return "\n\n".join("\n".join(separator.join(line) for line in lines) for lines in sentences) + "\n"


EMMA = [("Emma", "B-PER"), ("Stone", "I-PER"), ("smiles", "O")]
FILLER = [[(f"word{index}", "O"), ("Rome", "B-LOC")] for index in range(20)]
PLAIN = conll([EMMA, *FILLER])


# --- CoNLL ----------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_words_and_tags_stand_on_lines_with_blank_lines_between_sentences(
    tmp_path: Path, separator: str, end: str
) -> None:
    text = conll([EMMA, *FILLER], separator).replace("\n", end)
    corpus = read(write(tmp_path / "a.conll", text))
    assert rows(corpus)["Emma Stone smiles"] == EMMA
    assert corpus.labels == ("O", "B-LOC", "B-PER", "I-PER")
    assert len(rows(corpus)) == 21


def test_the_tag_is_the_last_column_or_the_one_that_is_named(tmp_path: Path) -> None:
    four = [(word, "NN" if index else "JJ", "X", tag) for index, (word, tag) in enumerate(EMMA)]
    source = write(tmp_path / "a.conll", conll([four, *[[(w, "NN", "X", t) for w, t in f] for f in FILLER]], " "))
    corpus = read(source)
    assert rows(corpus)["Emma Stone smiles"] == EMMA
    assert corpus.notes[0] == "a.conll has 4 columns: words were read from column 1, tags from column 4."
    assert rows(read(source, tags_column="2"))["Emma Stone smiles"][0] == ("Emma", "JJ")


def test_documents_comments_and_the_word_that_is_a_hash(tmp_path: Path) -> None:
    content = f"-DOCSTART- -X- O\n\n# id = 7\n# a comment\nEmma B-PER\n# O\n\n# O\n1 O\n\n{conll(FILLER, ' ')}"
    # The first line has three columns and is passed over, whatever its width.
    found = rows(read(write(tmp_path / "a.conll", content)))
    assert found["Emma #"] == [("Emma", "B-PER"), ("#", "O")]
    assert found["# 1"] == [("#", "O"), ("1", "O")]
    assert len(found) == 22


def test_lines_end_at_line_feeds_alone_and_blank_ones_may_hold_tabs(tmp_path: Path) -> None:
    content = f"a\x85b\tO\nc\u2028d\tB-X\n\t\nnext\tO\n\n{conll(FILLER)}"
    found = rows(read(write(tmp_path / "a.conll", content)))
    assert found["a\x85b c\u2028d"] == [("a\x85b", "O"), ("c\u2028d", "B-X")]
    assert found["next"] == [("next", "O")]


@pytest.mark.parametrize(
    "names",
    [("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"), ("train.txt", "devel.tsv", "test.bio")],
)
def test_files_of_a_folder_are_found_by_split_and_content(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path / name, PLAIN)
    write(tmp_path / "test_notes.md", "# About\n\nThe test split is about films.\n")
    corpus = read(tmp_path)
    assert [len(split.texts) for split in corpus.splits.values()] == [21, 21, 21]


BAD = {
    "a line without tag": ("Emma\tB-PER\nStone\n", "{path}, line 2: 1 column where the first line has 2: 'Stone'."),
    "no tags": ("Emma\nStone\n", "{path}, line 1: expected a word and its tag, found 'Emma'."),
    "a blank word": ("Emma\tB-PER\n \tO\n", "{path}, line 2: a word or a tag is blank."),
    "a blank tag": ("Emma\tB-PER\nStone\t\n", "{path}, line 2: a word or a tag is blank."),
    "no words": ("# nothing here\n\n-DOCSTART-\tO\n", "{path} has no words."),
    "a tag without prefix": (
        "Emma\tB-PER\nStone\tI-PER\nRome\tLOC\n",
        "{path}, line 3: tag 'LOC' has no B- or I- before it, others do ('B-PER').",
    ),
    "one tag": ("Emma\tO\n\nRome\tO\n", "All training rows of {path} have the tag 'O' at every word: there is nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = write(tmp_path / "a.conll", content)
    assert refused(path)[0].startswith(message.replace("{path}", str(path)))


# --- lists and entities ---------------------------------------------------------------------


def test_lists_of_words_and_tags_are_read_from_jsonl(tmp_path: Path) -> None:
    items = [{"tokens": [w for w, _ in s], "tags": [t for _, t in s]} for s in (EMMA, *FILLER)]
    found = rows(read(write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, items)))))
    assert found["Emma Stone smiles"] == EMMA


def test_declared_tags_are_read_from_parquet_in_their_order(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER", "B-LOC"]
    sentences = [EMMA, *FILLER]
    table = pa.table(
        {
            "tokens": [[word for word, _ in lines] for lines in sentences],
            "ner_tags": [[names.index(tag) for _, tag in lines] for lines in sentences],
        }
    )
    feature = {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": names}}
    info = {"huggingface": json.dumps({"info": {"features": {"ner_tags": feature}}})}
    pq.write_table(table.replace_schema_metadata(info), tmp_path / "a.parquet")
    corpus = read(tmp_path / "a.parquet")
    assert corpus.labels == tuple(names)
    assert rows(corpus)["Emma Stone smiles"] == EMMA
    assert read(tmp_path / "a.parquet", tuple(reversed(names))).labels == tuple(reversed(names))


ENTITIES = {"text": "Ms. Emma Stone, of New-York!", "entities": [
    {"start": 4, "end": 14, "label": "PER"}, {"start": 19, "end": 27, "label": "LOC"}]}  # fmt: skip


def with_entities(path: Path, *first: dict[str, object]) -> Path:
    more = [{"text": f"word{index} Rome", "entities": [[len(f"word{index} "), len(f"word{index} Rome"), "LOC"]]}
            for index in range(20)]  # fmt: skip
    return write(path, "\n".join(json.dumps(row) for row in (*first, *more)))


def test_entities_of_a_text_become_words_and_tags(tmp_path: Path) -> None:
    found = rows(read(with_entities(tmp_path / "a.jsonl", ENTITIES)))
    assert found[str(ENTITIES["text"])] == [
        ("Ms", "O"), (".", "O"), ("Emma", "B-PER"), ("Stone", "I-PER"), (",", "O"), ("of", "O"),
        ("New", "B-LOC"), ("-", "I-LOC"), ("York", "I-LOC"), ("!", "O"),
    ]  # fmt: skip


def test_chinese_entities_are_counted_in_characters_and_each_is_a_word(tmp_path: Path) -> None:
    # The emoji takes two UTF-16 units, and four bytes.
    row = {"text": "😀王小明在北京AI公司", "entities": [[1, 4, "PER"], [5, 7, "LOC"]]}
    found = rows(read(with_entities(tmp_path / "a.jsonl", row)))
    assert found[row["text"]] == [
        ("😀", "O"), ("王", "B-PER"), ("小", "I-PER"), ("明", "I-PER"), ("在", "O"), ("北", "B-LOC"), ("京", "I-LOC"),
        ("AI", "O"), ("公", "O"), ("司", "O"),
    ]  # fmt: skip


def test_an_entity_inside_a_word_cuts_it(tmp_path: Path) -> None:
    row = {"text": "Londoners smile", "entities": [{"start": 0, "end": 6, "label": "LOC"}]}
    assert rows(read(with_entities(tmp_path / "a.jsonl", row)))["Londoners smile"] == [
        ("London", "B-LOC"), ("ers", "O"), ("smile", "O"),
    ]  # fmt: skip


BAD_ENTITIES = {
    "overlap": ([[0, 4, "A"], [3, 6, "B"]], "the entities 'A' and 'B' overlap at character 3."),
    "outside": ([[0, 40, "A"]], "the entity 'A' from 0 to 40 is outside the text, which has 10 characters."),
    "blank": ([[4, 5, "A"]], "the entity 'A' from 4 to 5 holds no word."),
    "other text": (
        [{"start": 0, "end": 4, "label": "A", "text": "Rome"}],
        "the entity 'Rome' stands at 0 to 4, where the text has 'Emma'.",
    ),
    "no label": ([{"start": 0, "end": 4}], "the entity is {'start': 0, 'end': 4}."),
}


@pytest.mark.parametrize("case", BAD_ENTITIES)
def test_bad_entities_are_refused_with_their_line(tmp_path: Path, case: str) -> None:
    entities, message = BAD_ENTITIES[case]
    source = with_entities(tmp_path / "a.jsonl", {"text": "Emma Stone", "entities": entities})
    assert refused(source)[0] == f"{source}, line 1: {message}"


def test_words_and_tags_of_unequal_number_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", json.dumps({"tokens": ["Emma", "Stone"], "tags": ["B-PER"]}))
    assert refused(source)[0] == f"{source}, line 1: 2 tokens have 1 tags."


# --- schemes and teachers -------------------------------------------------------------------


def test_entities_that_begin_with_inside_begin_with_b_and_are_counted(tmp_path: Path) -> None:
    iob1 = [("Emma", "I-PER"), ("Stone", "I-PER"), ("Rome", "I-LOC"), ("Bonn", "B-LOC"), (".", "O")]
    corpus = read(write(tmp_path / "a.conll", conll([iob1, *FILLER])))
    assert [tag for _, tag in rows(corpus)["Emma Stone Rome Bonn ."]] == ["B-PER", "I-PER", "B-LOC", "B-LOC", "O"]
    assert corpus.notes[0].startswith("2 entities begin with I- where none of their type goes before (as in IOB1)")


def test_tags_are_matched_with_the_teachers_names_and_left_as_they_are(tmp_path: Path) -> None:
    names = ("I-PER", "B-PER", "O", "B-LOC", "I-LOC")
    stray = [("Emma", "I-PER"), (".", "O")]
    corpus = read(write(tmp_path / "a.conll", conll([EMMA, stray, *FILLER])), names)
    assert corpus.labels == names
    assert rows(corpus)["Emma Stone smiles"] == EMMA
    assert rows(corpus)["Emma ."] == stray
    assert "No row of the data has the label I-LOC." in corpus.notes


def test_a_tag_that_the_teacher_lacks_is_refused_with_its_line(tmp_path: Path) -> None:
    source = write(tmp_path / "a.conll", PLAIN)
    message, remedy = refused(source, ("O", "B-per", "I-per", "B-LOC"))
    assert message.startswith(f"{source}, line 1: label 'B-PER' is unknown to the teacher, which has 'O', 'B-per'")
    assert "'B-PER' as 'B-per'" in remedy
    assert refused(source, ("O", "B-PER", "B-LOC"))[0].startswith(f"{source}, line 2: label 'I-PER' is unknown")
    assert "which is which cannot be known" in refused(source, ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"))[0]


def test_another_scheme_is_read_as_the_one_that_the_teacher_knows(tmp_path: Path) -> None:
    bioes = [("Emma", "B-PER"), ("Stone", "E-PER"), ("Rome", "S-LOC")]
    source = write(tmp_path / "a.conll", conll([bioes, *FILLER]))
    corpus = read(source, ("O", "B-PER", "I-PER", "B-LOC"))
    assert [tag for _, tag in rows(corpus)["Emma Stone Rome"]] == ["B-PER", "I-PER", "B-LOC"]
    assert "BIOES" in corpus.notes[0]
    assert read(source).labels == ("O", "B-LOC", "S-LOC", "B-PER", "E-PER")


# --- texts ----------------------------------------------------------------------------------


def test_words_are_joined_by_spaces_but_not_within_chinese() -> None:
    for words, text in (
        (["Emma", "smiles", "."], "Emma smiles ."),
        (["北", "京", "AI", "公", "司", "。", "Yes"], "北京 AI 公司。 Yes"),
        (["カ", "タ", "カ", "ナ"], "カタカナ"),
        (["한국", "사람"], "한국 사람"),
    ):
        found, spans = join(words)
        assert found == text
        assert [found[start:end] for start, end in spans] == words


def test_texts_are_cut_to_words_at_marks_and_not_inside_letters_with_marks() -> None:
    for text, words in (
        ("don't (e-mail) a_b 3.5", ["don", "'", "t", "(", "e", "-", "mail", ")", "a", "_", "b", "3", ".", "5"]),
        ("हिन्दी\u200d भाषा", ["हिन्दी", "भाषा"]),
        ("एक می\u200cخواهم", ["एक", "می\u200cخواهم"]),
        ("cafe\u0301\x85x", ["cafe\u0301", "x"]),
        ("東京は", ["東", "京", "は"]),
    ):
        assert [text[start:end] for start, end in split_words(text)] == words


# --- onto tokens ----------------------------------------------------------------------------


def pieces() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer that cuts most words."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "em", "##ma", "st", "##one", "smile", "##s", ".", "ro",
                  "##me", "王", "明", "北", "京", "-", "new", "york", "'", "##x"]  # fmt: skip
    inner = Tokenizer(models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_input_names=list(INPUTS),
    )  # fmt: skip


def byte_pieces(add_prefix_space: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer as RoBERTa has it, every byte a token; a space belongs to the word behind it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index for index, character in enumerate(["<s>", "</s>", "<unk>", *alphabet])}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    inner.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


SENTENCES = (
    ["Emma", "Stone", "smiles", "."],
    ["北", "京", "Rome", "王"],
    ["New-York", "smilesx", "Emma's", "zzz"],
    ["."],
)


@pytest.mark.parametrize("words", SENTENCES)
def test_tokens_belong_to_the_words_that_transformers_says(words: list[str]) -> None:
    tokenizer = pieces()
    text, spans = join(words)
    encoded = tokenizer(text, return_offsets_mapping=True)
    cut = tokenizer(words, is_split_into_words=True)
    assert encoded["input_ids"] == cut["input_ids"]
    expected = [-1 if word is None else word for word in cut.word_ids()]
    assert align(text, encoded["offset_mapping"], spans) == expected


@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_a_token_that_begins_with_a_space_belongs_to_the_word_behind_it(add_prefix_space: bool) -> None:
    words = ["Emma", "é😀", "王"]
    text, spans = join(words)
    encoded = byte_pieces(add_prefix_space)(text, return_offsets_mapping=True)
    found = align(text, encoded["offset_mapping"], spans)
    # A space is a token of its own here, and belongs to no word; one put in front has the place of the first letter.
    sizes = [len(word.encode()) for word in words]
    assert [found.count(word) for word in range(3)] == [sizes[0] + add_prefix_space, *sizes[1:]]
    assert found[0] == found[-1] == -1
    inner = [word for word in found if word >= 0]
    assert inner == sorted(inner)


def test_the_first_token_has_the_tag_and_further_ones_that_of_inside() -> None:
    names = ("O", "B-PER", "I-PER", "B-LOC", "S-ORG", "NOUN")
    inside = inside_labels(names)
    assert inside == (0, 2, 2, 3, 4, 5)
    aligned = [-1, 0, 0, 1, 1, 2, 2, 3, -1]
    assert token_labels(aligned, [1, 2, 3, 0], inside) == [IGNORED, 1, 2, 2, 2, 3, 3, 0, IGNORED]


def test_tokenised_rows_have_words_and_labels_and_words_cut_off_are_counted(tmp_path: Path) -> None:
    tokenizer = pieces()
    source = write(tmp_path / "a.conll", conll([EMMA, *([("Rome", "B-LOC"), (word, "O")] for word in "abcdefghij")]))
    corpus = read(source, test_fraction=0.2)
    told: list[Event] = []
    tokenized = tokenize(corpus, tokenizer, INPUTS, 5, tmp_path, told.append)
    for name, split in corpus.splits.items():
        for text, words, tags, row in zip(split.texts, split.words, split.labels, tokenized.splits[name], strict=True):
            encoded = tokenizer(text, truncation=True, max_length=5, return_offsets_mapping=True)
            assert row["input_ids"] == encoded["input_ids"]
            assert row["words"] == align(text, encoded["offset_mapping"], words)
            assert row["labels"] == token_labels(row["words"], tags, inside_labels(corpus.labels))
    assert tokenized.truncated["train"] == 1  # Emma Stone smiles: em ##ma st | ##one smile ##s
    words = sum(map(len, corpus.splits["train"].words))
    assert told[-1] == Note(
        f"1 of {words} train words have no token of their own, cut off or joined with the word before: they count as "
        "outside."
    )


def test_a_split_by_the_toy_data_is_learnable_word_by_word(tmp_path: Path) -> None:
    corpus = read(tiny_data.write("token-classification", tmp_path))
    tags = {word: tag for row in rows(corpus).values() for word, tag in row}
    assert all(tags[word] == tag for row in rows(corpus).values() for word, tag in row)
    assert set(tags.values()) == set(tiny.LABELS["token-classification"])
