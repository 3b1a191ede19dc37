"""What a predictor gives back for each kind of task, from text on, and how long and odd texts fare."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor.errors import ManifestError, UserError
from compressor.runtime import Answer, Entity, Fill, Predictor, Score
from compressor.runtime.decode import best_spans, sigmoid, softmax
from compressor.tasks import TASKS, Kind

from . import deployed, deployed_tasks
from .deployed import WORDS
from .tiny import reviews, tokenizer

TEXTS = [text for text, _ in reviews(40)]
MANY = "fine " * 10_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: deployed_tasks.write(tmp_path_factory.mktemp(kind) / "run", kind) for kind in TASKS}


def predictor(folder: Path) -> Predictor:
    return Predictor(folder, threads=1)


def rows(text: str, kind: Kind, pair: str | None = None, max_length: int = 16) -> np.ndarray:
    """The table's rows of a text's tokens, from transformers' own ids."""
    given = (text,) if pair is None else (text, pair)
    return deployed_tasks.table_of(kind)[tokenizer()(*given, truncation=True, max_length=max_length)["input_ids"]]


INPUTS: dict[Kind, list[Any]] = {
    "question-answering": [("the plot", text) for text in TEXTS],
    "fill-mask": [f"{text} [MASK]" for text in (text[:20] for text in TEXTS)],
}


@pytest.mark.parametrize("kind", TASKS)
def test_every_kind_answers_one_input_as_it_answers_many(folders: dict[Kind, Path], kind: Kind) -> None:
    predict, inputs = predictor(folders[kind]), INPUTS.get(kind, TEXTS)
    together, alone = predict(inputs), [predict(item)[0] for item in inputs]
    assert len(together) == len(inputs)
    if kind == "feature-extraction":
        np.testing.assert_allclose(together, alone, atol=1e-6)
    else:
        assert same(together, alone)


def same(one: Any, two: Any) -> bool:
    """Equal up to the rounding of scores."""
    if isinstance(one, float):
        return bool(one == pytest.approx(two, rel=1e-4, abs=1e-6))
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return same([*one.items()], [*two.items()])
    if hasattr(one, "__slots__"):
        return type(one) is type(two) and all(same(getattr(one, name), getattr(two, name)) for name in one.__slots__)
    return bool(one == two)


@pytest.mark.parametrize("kind", TASKS)
def test_no_inputs_have_no_answers(folders: dict[Kind, Path], kind: Kind) -> None:
    assert len(predictor(folders[kind])([])) == 0
    assert predictor(folders[kind]).raw([]) == []


@pytest.mark.parametrize("kind", [kind for kind, task in TASKS.items() if task.unit == "row"])
def test_the_raw_answers_about_texts_are_the_logits_row_by_row(folders: dict[Kind, Path], kind: Kind) -> None:
    predict = predictor(folders[kind])
    found = predict.raw(TEXTS)
    assert {row.shape for row in found} == {(1, deployed_tasks.table_of(kind).shape[1])}
    np.testing.assert_array_equal(np.concatenate(found), predict.logits(TEXTS))
    np.testing.assert_allclose(found[3][0], rows(TEXTS[3], kind).mean(axis=0), atol=1e-5)


def test_concurrent_callers_of_windows_get_their_own_answers(folders: dict[Kind, Path]) -> None:
    predict = predictor(folders["question-answering"])
    jobs = [[("the plot", MANY[: 200 * (1 + start)])] for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predict, jobs)) == [predict(job) for job in jobs]


@pytest.mark.parametrize("kind", ["token-classification", "question-answering", "fill-mask"])
def test_logits_of_tokens_are_refused_with_a_pointer(folders: dict[Kind, Path], kind: Kind) -> None:
    with pytest.raises(UserError, match=rf"^A model for {kind} answers about each .*token\.\nUse raw"):
        predictor(folders[kind]).logits(["fine"])


# --- several labels, a number, pairs --------------------------------------------------------


def test_labels_are_those_above_their_threshold_the_most_probable_first(tmp_path: Path) -> None:
    thresholds = (0.4, 0.6, 0.55)
    predict = predictor(deployed_tasks.write(tmp_path, "multi-label", settings={"thresholds": thresholds}))
    for text, found in zip(TEXTS, predict(TEXTS, top_k=None), strict=True):
        expected = dict(zip(deployed_tasks.EMOTIONS, sigmoid(rows(text, "multi-label").mean(axis=0)), strict=True))
        assert found.scores == pytest.approx(expected, rel=1e-4)
        assert list(found.scores) == sorted(expected, key=lambda label: -expected[label])
        limits = dict(zip(deployed_tasks.EMOTIONS, thresholds, strict=True))
        assert set(found.labels) == {label for label, score in expected.items() if score >= limits[label]}
        assert list(found.labels) == [label for label in found.scores if label in found.labels]
    assert {len(found.labels) for found in predict(TEXTS)} >= {0, 1, 2}


def test_scores_hold_every_label_that_applies_and_as_many_as_were_asked_for(folders: dict[Kind, Path]) -> None:
    for found in predictor(folders["multi-label"])(TEXTS):
        assert set(found.labels) <= set(found.scores)
        assert len(found.scores) == max(1, len(found.labels))


def test_a_temperature_softens_scores_and_leaves_the_labels(tmp_path: Path) -> None:
    folder = deployed_tasks.write(tmp_path, "multi-label", settings={"thresholds": [0.3, 0.6, 0.5]})
    plain = Predictor(folder, threads=1)(TEXTS, top_k=None)
    deployed.edit(folder, files={
        name: {"sha256": entry.sha256, "size_bytes": entry.size_bytes, "precision": entry.precision, "temperature": 3.0}
        for name, entry in Predictor(folder, threads=1).manifest.files.items()
    })  # fmt: skip
    softened = Predictor(folder, threads=1, calibrated=True)(TEXTS, top_k=None)
    assert [found.labels for found in softened] == [found.labels for found in plain]
    logits = predictor(folder).logits(TEXTS[:1])[0]
    expected = dict(zip(deployed_tasks.EMOTIONS, sigmoid(logits / 3), strict=True))
    assert softened[0].scores == pytest.approx(expected)


def test_a_regression_gives_its_number_as_it_is(folders: dict[Kind, Path]) -> None:
    assert predictor(folders["regression"])("fine film") == [
        Score(pytest.approx(float(rows("fine film", "regression").mean()), abs=1e-6))
    ]


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_pairs_are_cut_from_the_longer_text_as_transformers_does(tmp_path: Path, kind: Kind) -> None:
    predict = predictor(deployed_tasks.write(tmp_path, kind, settings={"pairs": True}))
    assert predict.takes == ("text", "pair")
    pairs = [("fine film", "dull plot"), ("fine " * 20, "dull"), ("fine", "dull " * 20), ("fine " * 20, "dull " * 20)]
    expected = [rows(*pair[:1], kind, pair[1]).mean(axis=0) for pair in pairs]
    np.testing.assert_allclose(predict.logits(pairs), expected, atol=1e-5)
    np.testing.assert_allclose(predict.logits(pairs[0]), expected[:1], atol=1e-5)
    np.testing.assert_allclose(predict.logits([list(pair) for pair in pairs]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a"], "Input 0 is of type str, not a text with its pair.\nPass a tuple (text, pair) or a list of them."),
        ("a", "Expected pairs, not of type str.\nPass a tuple (text, pair) or a list of them."),
        ([("a", "b"), ("a", None)], "Input 1 is of type tuple, not a text with its pair.\nPass a tuple"),
        ([("a", "b", "c")], "Input 0 is of type tuple, not a text with its pair.\nPass a tuple"),
    ],
)
def test_what_is_not_a_pair_is_refused(tmp_path: Path, inputs: Any, message: str) -> None:
    predict = predictor(deployed_tasks.write(tmp_path, "regression", settings={"pairs": True}))
    with pytest.raises(UserError) as caught:
        predict(inputs)
    assert str(caught.value).startswith(message)


# --- entities -------------------------------------------------------------------------------


def named(found: list[Entity], text: str) -> list[tuple[str, str]]:
    assert all(text[one.start : one.end] == one.text for one in found)
    return [(one.label, one.text) for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("this film is good", [("GOOD", "good")]),
        ("Fine very, very good!", [("GOOD", "Fine very"), ("GOOD", "very"), ("GOOD", "good")]),
        ("北京 的 fine电影", [("GOOD", "fine")]),
        ("e\u0301 🎬 Superb very 🎬", [("GOOD", "Superb very")]),
        ("awful\u3000quite", [("BAD", "awful\u3000quite")]),
        ("the plot", []),
        ("", []),
        (" \n", []),
    ],
)
def test_entities_stand_where_the_text_has_them(
    folders: dict[Kind, Path], text: str, expected: list[tuple[str, str]]
) -> None:
    (found,) = predictor(folders["token-classification"])(text)
    assert named(found, text) == expected


@pytest.mark.parametrize("text", ["\ud83c\udfac fine", "a \ud83c fine \udfac", "\ud83c\udfac\ud83c fine \ud83c\udfac"])
def test_surrogates_do_not_shift_entities(folders: dict[Kind, Path], text: str) -> None:
    (found,) = predictor(folders["token-classification"])(text)
    assert named(found, text) == [("GOOD", "fine")]


def test_the_score_of_an_entity_is_the_mean_of_its_words(folders: dict[Kind, Path]) -> None:
    ((found,),) = predictor(folders["token-classification"])("the fine very plot")
    table = softmax(deployed_tasks.tag_table())
    expected = (table[WORDS.index("fine"), 1] + table[WORDS.index("very"), 2]) / 2
    assert found.score == pytest.approx(expected)


@pytest.mark.parametrize("doc_stride", [0, 1, 5, 100])
def test_the_entities_of_a_long_text_are_those_of_all_its_windows(tmp_path: Path, doc_stride: int) -> None:
    predict = predictor(deployed_tasks.write(tmp_path, "token-classification", settings={"doc_stride": doc_stride}))
    text = " ".join(TEXTS * 3)
    whole = predictor(deployed_tasks.write(tmp_path / "whole", "token-classification", max_length=10_000))
    assert len(whole(text)[0]) > 50
    assert same(predict(text), whole(text))
    assert len(predict(MANY)[0]) == 10_000


def test_tags_are_judged_on_one_row_of_each_text(folders: dict[Kind, Path]) -> None:
    found = predictor(folders["token-classification"]).raw([MANY, "fine film", ""])
    assert [len(row) for row in found] == [16, 4, 2]
    np.testing.assert_array_equal(found[0], rows(MANY, "token-classification"))


def test_tags_are_judged_on_the_end_of_a_text_where_its_begin_is_cut(tmp_path: Path) -> None:
    predict = predictor(deployed_tasks.write(tmp_path, "token-classification", truncation_side="left"))
    (found,) = predict.raw("fine " * 20 + "dull")
    assert len(found) == 16
    np.testing.assert_array_equal(found[-2], deployed_tasks.tag_table()[WORDS.index("dull")])


# --- answers --------------------------------------------------------------------------------

CONTEXT = "The plot was dull, and the actor was very bright. 北京 is a lovely scene."
QUESTION = "this is the story"


def windows(context: str, max_length: int = 16, stride: int = 4, question: str = QUESTION) -> Any:
    """As transformers cuts them."""
    return tokenizer()(
        question, context, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip


def test_windows_are_those_of_transformers(tmp_path: Path) -> None:
    predict = predictor(deployed_tasks.write(tmp_path, "question-answering", settings={"doc_stride": 4}))
    expected = windows(CONTEXT)["input_ids"]
    found = predict.raw([(QUESTION, CONTEXT), (QUESTION, "short")])
    assert len(found) == len(expected) + 1 > 3
    table = deployed_tasks.table_of("question-answering")
    for values, ids in zip(found, expected, strict=False):
        np.testing.assert_array_equal(values, table[ids])


def test_the_answer_is_the_best_stretch_of_all_windows(tmp_path: Path) -> None:
    settings = {"doc_stride": 4, "max_answer_tokens": 3}
    predict = predictor(deployed_tasks.write(tmp_path, "question-answering", settings=settings))
    (found,) = predict([(QUESTION, CONTEXT)], top_k=3)
    cut = windows(CONTEXT)
    table = deployed_tasks.table_of("question-answering")
    spans = best_spans(
        [table[ids] for ids in cut["input_ids"]],
        [
            np.where((np.array(cut.sequence_ids(index), dtype=float) == 1)[:, None], places, -1)
            for index, places in enumerate(cut["offset_mapping"])
        ],
        most_tokens=3,
        count=3,
    )
    expected = [(CONTEXT[one.start : one.end], one.start, one.end) for one in spans]
    assert [(one.text, one.start, one.end) for one in (found, *found.others)] == expected
    assert [one.score for one in (found, *found.others)] == pytest.approx([one.score for one in spans])
    assert all(one.text and one.others == () for one in found.others)


def test_an_answer_has_no_others_unless_they_are_asked_for(folders: dict[Kind, Path]) -> None:
    (found,) = predictor(folders["question-answering"])((QUESTION, CONTEXT))
    assert found.others == ()
    assert CONTEXT[found.start : found.end] == found.text


@pytest.mark.parametrize("lacks", [True, False])
def test_no_answer_is_possible_where_the_data_had_such_questions(tmp_path: Path, lacks: bool) -> None:
    table = np.zeros((len(WORDS), 2), np.float32)
    table[WORDS.index("[CLS]")] = 9
    folder = deployed_tasks.write(tmp_path, "question-answering", table=table, settings={"null_score": lacks})
    (found,) = predictor(folder)((QUESTION, CONTEXT))
    assert (found.text == "") is lacks
    assert (found.start, found.end) == (0, 0) or not lacks


def test_a_question_that_is_longer_than_a_window_keeps_half_of_it(folders: dict[Kind, Path]) -> None:
    predict = predictor(folders["question-answering"])
    long = "this film " * 200
    (found,) = predict((long, CONTEXT))
    assert CONTEXT[found.start : found.end] == found.text != ""
    assert all(len(row) <= 16 for row in predict.raw((long, CONTEXT)))
    assert predict.raw((long, CONTEXT))[0].shape == (16, 2)


def test_a_context_shorter_than_its_question_is_one_window(folders: dict[Kind, Path]) -> None:
    predict = predictor(folders["question-answering"])
    (found,) = predict(("is this the very good film", "fine"))
    assert (found.text, found.start, found.end) == ("fine", 0, 4)
    assert found.score == pytest.approx(1)


def test_an_empty_context_has_an_empty_answer(folders: dict[Kind, Path]) -> None:
    assert predictor(folders["question-answering"])([(QUESTION, ""), ("", "")]) == [Answer("", 0.0, 0, 0)] * 2


def test_surrogates_do_not_shift_answers(folders: dict[Kind, Path]) -> None:
    context = "\ud83c\udfac \ud83c\udfac \ud83c fine"
    predict = predictor(folders["question-answering"])
    found = predict(("", context), top_k=None)[0]
    assert "fine" in {one.text for one in (found, *found.others)}
    assert all(context[one.start : one.end] == one.text for one in (found, *found.others))


def test_a_question_without_context_is_refused(folders: dict[Kind, Path]) -> None:
    with pytest.raises(UserError, match=r"^Input 0 is of type str, not a question with its context\.\nPass a tuple"):
        predictor(folders["question-answering"])(["where?"])


# --- masks ----------------------------------------------------------------------------------


def test_every_mask_has_its_likeliest_pieces(folders: dict[Kind, Path]) -> None:
    predict = predictor(folders["fill-mask"])
    one, two = predict(["a [MASK] film", "[MASK] plot [MASK]"], top_k=3)
    scores = softmax(deployed_tasks.table_of("fill-mask")[WORDS.index("[MASK]")])
    best = np.argsort(-scores)[:3]
    assert one == [[Fill(WORDS[at], pytest.approx(float(scores[at])), int(at)) for at in best]]
    assert two == one * 2
    assert len(predict("[MASK]", top_k=None)[0][0]) == len(WORDS)


def test_the_raw_answers_about_masks_are_whole_vocabularies(folders: dict[Kind, Path]) -> None:
    found = predictor(folders["fill-mask"]).raw(["a film", "[MASK] plot [MASK]"])
    assert [row.shape for row in found] == [(0, len(WORDS)), (2, len(WORDS))]


def test_a_text_without_a_mask_is_named(folders: dict[Kind, Path]) -> None:
    predict = predictor(folders["fill-mask"])
    with pytest.raises(UserError) as caught:
        predict(["a [MASK]"] * 300 + ["a film"])
    assert str(caught.value) == (
        "Text 300 has no [MASK].\nWrite [MASK] where a piece is missing: at least once, and where the model sees it."
    )


def test_a_mask_that_was_cut_off_is_named(folders: dict[Kind, Path]) -> None:
    with pytest.raises(UserError, match=r"^Text 0 has 2 times \[MASK\], but 1 in its first 16 tokens\."):
        predictor(folders["fill-mask"])("[MASK] " + "fine " * 30 + "[MASK]")


# --- embeddings -----------------------------------------------------------------------------


def test_embeddings_come_as_one_matrix(folders: dict[Kind, Path]) -> None:
    predict = predictor(folders["feature-extraction"])
    found = predict(TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (len(TEXTS), 8))
    np.testing.assert_allclose(found[0], rows(TEXTS[0], "feature-extraction").mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(predict.logits(TEXTS), found)


def test_the_dimension_is_known_before_the_first_text(tmp_path: Path) -> None:
    folder = deployed_tasks.write(tmp_path, "feature-extraction", settings={"dimension": 8})
    assert predictor(folder)([]).shape == (0, 8)
    with pytest.raises(
        ManifestError, match=r"gives sentence_embedding of shape \(1, 8\) where the manifest's .* \(1, 9\)"
    ):
        predictor(deployed.edit(folder, settings={"dimension": 9}))("a")


def test_only_the_outputs_of_the_manifest_are_computed(tmp_path: Path) -> None:
    outputs = ("sentence_embedding", "last_hidden_state")
    predict = predictor(deployed_tasks.write(tmp_path, "feature-extraction", outputs=outputs))
    assert predict.session.outputs == outputs
    assert predict("a fine film").shape == (1, 8)
    feeds = {name: np.ones((2, 3), np.int64) for name in predict.session.inputs}
    assert [found.shape for found in predict.session.run_all(feeds)] == [(2, 8), (2, 3, 8)]
    assert [found.shape for found in predict.session.run_all(feeds, outputs[::-1])] == [(2, 3, 8), (2, 8)]


# --- folders --------------------------------------------------------------------------------


def test_outputs_that_the_model_does_not_have_are_explained(tmp_path: Path) -> None:
    folder = deployed_tasks.write(tmp_path, "feature-extraction", outputs=("pooler_output",))
    with pytest.raises(ManifestError, match=r"gives pooler_output; the manifest says sentence_embedding\."):
        predictor(folder)


def test_a_kind_that_is_none_of_its_task_is_explained(tmp_path: Path) -> None:
    folder = deployed.edit(deployed_tasks.write(tmp_path, "regression"), kind="ordinal")
    with pytest.raises(
        ManifestError, match=r"kind 'ordinal' of task 'text-classification' is not one that this runtime"
    ):
        predictor(folder)


def test_results_cannot_be_changed(folders: dict[Kind, Path]) -> None:
    (found,) = predictor(folders["regression"])("a")
    with pytest.raises((FrozenInstanceError, AttributeError)):
        found.value = 1.0
