"""Decoding, on arrays alone: what the predictor ships and the evaluation judges by."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from compressor.runtime.decode import (
    Chunk,
    best_span,
    best_spans,
    chosen,
    chunks,
    entities,
    scheme_of,
    sigmoid,
    softmax,
    top_pieces,
    words,
)

# --- labels ---------------------------------------------------------------------------------


def test_sigmoid_is_the_logistic_function_without_overflow() -> None:
    logits = np.array([[-1e4, -2.0, 0.0, 2.0, 1e4]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        found = sigmoid(logits)
    np.testing.assert_allclose(found, [[0, 1 / (1 + np.e**2), 0.5, 1 / (1 + np.e**-2), 1]], rtol=1e-6)
    assert found.dtype == np.float32


def test_labels_apply_from_their_threshold_on() -> None:
    logits = np.log(np.array([[0.3, 0.3, 0.5]]) / (1 - np.array([[0.3, 0.3, 0.5]]))).astype(np.float32)
    assert chosen(logits).tolist() == [[False, False, True]]
    assert chosen(logits, (0.29, 0.31, 0.9)).tolist() == [[True, False, False]]


# --- tags -----------------------------------------------------------------------------------

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
IOBES = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "S-LOC")


def merged(tags: list[str], names: tuple[str, ...]) -> list[tuple[str, int, int]]:
    return [(one.label, one.first, one.end) for one in chunks([names.index(tag) for tag in tags], names)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "O"], []),
        (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 2), ("LOC", 3, 4)]),
        (["B-PER", "B-PER"], [("PER", 0, 1), ("PER", 1, 2)]),
        (["I-PER", "I-PER", "O", "I-PER"], [("PER", 0, 2), ("PER", 3, 4)]),  # IOB1, and what conlleval forgives
        (["I-PER", "B-PER", "I-PER"], [("PER", 0, 1), ("PER", 1, 3)]),  # IOB1: B where two of a kind touch
        (["B-PER", "I-LOC"], [("PER", 0, 1), ("LOC", 1, 2)]),
    ],
)
def test_tags_with_b_and_i_are_merged_as_conlleval_does(tags: list[str], expected: list[Any]) -> None:
    assert merged(tags, BIO) == expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-PER", "I-PER", "E-PER", "S-PER"], [("PER", 0, 3), ("PER", 3, 4)]),
        (["S-PER", "S-PER", "S-LOC"], [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 3)]),
        (["B-PER", "E-PER", "I-PER"], [("PER", 0, 2), ("PER", 2, 3)]),
        (["E-PER"], [("PER", 0, 1)]),
    ],
)
def test_e_and_s_end_an_entity(tags: list[str], expected: list[Any]) -> None:
    assert merged(tags, IOBES) == expected


def test_bilou_and_bmes_are_iobes_in_other_words() -> None:
    bilou = ("O", "B-X", "I-X", "L-X", "U-X")
    assert merged(["B-X", "I-X", "L-X", "U-X"], bilou) == [("X", 0, 3), ("X", 3, 4)]
    bmes = ("O", "B_X", "M_X", "E_X", "S_X")
    assert merged(["B_X", "M_X", "E_X", "S_X"], bmes) == [("X", 0, 3), ("X", 3, 4)]


def test_a_run_of_tags_without_prefix_is_one_entity() -> None:
    names = ("O", "PER", "LOC")
    assert scheme_of(names) == "plain"
    assert merged(["PER", "PER", "LOC", "O", "PER"], names) == [("PER", 0, 2), ("LOC", 2, 3), ("PER", 4, 5)]


def test_parts_of_speech_name_each_word() -> None:
    names = ("NOUN", "VERB", "I-LIKE")
    assert scheme_of(names) == "each"
    assert chunks([0, 0, 2], names) == [Chunk("NOUN", 0, 1), Chunk("NOUN", 1, 2), Chunk("I-LIKE", 2, 3)]


# Two ways to say the same rules: conlleval's own, start and end of a chunk from neighbouring tags.
def conlleval(tags: list[str]) -> list[tuple[str, int, int]]:
    found, begin, before = [], 0, ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, label = tag.partition("-")
        ends = before[0] != "O" and (before[0] in "ES" or prefix in "BSO" or before[1] != label)
        starts = prefix != "O" and (prefix in "BS" or before[0] in "ESO" or before[1] != label)
        if ends:
            found.append((before[1], begin, place))
        if starts:
            begin = place
        before = prefix, label
    return found


def test_every_sequence_of_three_tags_is_merged_as_conlleval_does() -> None:
    names = ("O", *(f"{prefix}-{label}" for prefix in "BIES" for label in ("X", "Y")))
    for tags in itertools.product(names, repeat=3):
        assert merged(list(tags), names) == conlleval(list(tags)), tags


# --- words and entities ---------------------------------------------------------------------


def found_words(text: str, offsets: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for _, start, end in words(text, np.array(offsets)).tolist()]


def test_pieces_that_touch_are_one_word_and_marks_stand_alone() -> None:
    text = "Unbelievable, in London."
    offsets = [(-1, -1), (0, 2), (2, 9), (9, 12), (12, 13), (14, 16), (17, 23), (23, 24), (0, 0)]
    assert found_words(text, offsets) == ["Unbelievable", ",", "in", "London", "."]
    assert words(text, np.array(offsets))[:, 0].tolist() == [1, 4, 5, 6, 7]


def test_the_space_before_a_word_is_not_part_of_it() -> None:
    assert found_words("in London", [(0, 2), (2, 9)]) == ["in", "London"]


def test_bytes_of_one_character_are_one_word() -> None:
    assert found_words("a 🎬 b", [(0, 1), (2, 3), (2, 3), (2, 3), (4, 5)]) == ["a", "🎬", "b"]


@pytest.mark.parametrize("text", ["北京", "東京タワー", "กขค", "𠀀𠀁"])
def test_scripts_without_spaces_have_a_word_for_each_token(text: str) -> None:
    assert found_words(text, [(index, index + 1) for index in range(len(text))]) == list(text)


def one_hot(tags: list[int], labels: int, logit: float = 4.0) -> np.ndarray:
    return (logit * np.eye(labels)[tags]).astype(np.float32)


def test_the_first_token_of_a_word_speaks_for_it_and_the_score_is_the_mean_over_words() -> None:
    text = "Anna Maria sings"
    offsets = np.array([(-1, -1), (0, 2), (2, 4), (5, 10), (11, 16), (-1, -1)])
    logits = one_hot([3, 1, 0, 2, 0, 3], len(BIO))
    logits[3] *= 0.5
    (found,) = entities(text, offsets, logits, BIO)
    assert (found.label, found.text, found.start, found.end) == ("PER", "Anna Maria", 0, 10)
    certain = [softmax(one_hot([0], len(BIO), logit))[0].max() for logit in (4.0, 2.0)]
    assert found.score == pytest.approx(np.mean(certain), rel=1e-6)


def test_parts_of_a_word_that_repeat_a_closing_tag_are_one_entity() -> None:
    text = "in the U.S. 中美"
    offsets = np.array([(0, 2), (3, 6), (7, 8), (8, 9), (9, 10), (10, 11), (12, 13), (13, 14)])
    names = ("O", "S-LOC", "S-PER")
    found = entities(text, offsets, one_hot([0, 0, 1, 1, 1, 1, 1, 1], 3), names)
    assert [one.text for one in found] == ["U.S.", "中", "美"]


def test_a_text_without_tokens_has_no_entities() -> None:
    assert entities("", np.array([(-1, -1), (-1, -1)]), one_hot([1, 1], len(BIO)), BIO) == []


# --- spans ----------------------------------------------------------------------------------


def by_hand(windows: list[Any], offsets: list[Any], most: int, may_lack: bool) -> list[tuple[int, int, float]]:
    """Every stretch, one by one."""
    best: dict[tuple[int, int], float] = {}
    for values, places in zip(windows, offsets, strict=True):
        for first in range(len(values)):
            for last in range(first, min(first + most, len(values))):
                if min(places[first][0], places[last][0]) >= 0 and all(
                    places[at][1] > places[at][0] for at in (first, last)
                ):
                    key = int(places[first][0]), int(places[last][1])
                    best[key] = max(best.get(key, -np.inf), float(values[first, 0]) + float(values[last, 1]))
    if may_lack:
        best[0, 0] = min(float(values[0].sum()) for values in windows)
    total = sum(np.exp(logit) for logit in best.values())
    ranked = sorted(best.items(), key=lambda item: -item[1])
    return [(start, end, np.exp(logit) / total) for (start, end), logit in ranked]


@pytest.mark.parametrize("may_lack", [False, True])
@pytest.mark.parametrize("most", [1, 3, 30])
def test_the_best_spans_are_those_of_a_search_through_all(most: int, may_lack: bool) -> None:
    random = np.random.default_rng(most)
    values = [random.normal(size=(length, 2)).astype(np.float32) for length in (12, 9)]
    # Question and special tokens in front, a special token behind; the windows share three tokens of the context.
    first = [(-1, -1)] * 3 + [(4 * at, 4 * at + 3) for at in range(8)] + [(-1, -1)]
    second = [(-1, -1)] * 3 + [(4 * at, 4 * at + 3) for at in range(5, 10)] + [(-1, -1)]
    found = best_spans(values, [np.array(first), np.array(second)], most_tokens=most, count=5, may_lack=may_lack)
    expected = by_hand(values, [first, second], most, may_lack)[:5]
    assert [(one.start, one.end) for one in found] == [one[:2] for one in expected]
    assert [one.score for one in found] == pytest.approx([one[2] for one in expected])


def test_offsets_may_come_flat_as_they_are_kept_with_the_data() -> None:
    values = [np.array([[9, 9], [1, 0], [0, 2]], np.float32)]
    assert best_span(values, [[-1, -1, 0, 3, 4, 6]]) == best_span(values, [np.array([(-1, -1), (0, 3), (4, 6)])])


def test_an_end_before_its_start_is_no_answer() -> None:
    values = [np.array([[0, 9], [9, 0]], np.float32)]
    found = best_span(values, [[(0, 1), (1, 2)]], most_tokens=30)
    assert (found.start, found.end) in {(0, 1), (1, 2), (0, 2)}
    assert found.start < found.end


def test_what_one_window_does_not_see_does_not_outvote_the_one_that_does() -> None:
    sees = np.array([[-4, -4], [5, 5]], np.float32)
    sees_nothing = np.array([[8, 8], [0, 0]], np.float32)
    offsets = [[(-1, -1), (0, 2)], [(-1, -1), (3, 5)]]
    found = best_span([sees, sees_nothing], offsets, may_lack=True)
    assert (found.start, found.end) == (0, 2)


def test_no_answer_wins_where_every_window_says_so() -> None:
    found = best_span([np.array([[6, 6], [5, 5]], np.float32)], [[(-1, -1), (0, 2)]], may_lack=True)
    assert (found.start, found.end) == (0, 0)
    assert found.score == pytest.approx(1 / (1 + np.exp(-2)))


def test_a_context_without_tokens_has_an_empty_answer() -> None:
    found = best_span([np.array([[1, 1], [1, 1]], np.float32)], [[(-1, -1), (-1, -1)]])
    assert (found.start, found.end, found.score) == (0, 0, 0.0)


# --- masks ----------------------------------------------------------------------------------


def test_the_likeliest_pieces_are_those_of_a_full_sort() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    ids, scores = top_pieces(logits, 7)
    assert ids.tolist() == np.argsort(-logits, axis=1)[:, :7].tolist()
    np.testing.assert_allclose(scores, np.take_along_axis(softmax(logits), ids, axis=1))
    assert top_pieces(logits, None)[0].tolist() == np.argsort(-logits, axis=1).tolist()
    assert top_pieces(logits[:0], 2)[0].shape == (0, 2)
