"""The metrics of every kind of task, against references and values computed by hand."""

import math
import random
import re
import string
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from compressor.answers import IGNORED, Answers
from compressor.artifacts import Corpus, Split
from compressor.errors import StageError
from compressor.evaluation.figures import Ranked
from compressor.evaluation.metrics import METRICS, TITLES, Gold, gold_of, score
from compressor.evaluation.metrics import spans as squad
from compressor.tasks import TASKS
from tests import judged

# --- labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 5])
def test_the_metrics_of_label_sets_are_those_of_scikit_learn(count: int) -> None:
    rng = np.random.default_rng(0)
    right, scores = rng.random((80, count)) < 0.4, rng.normal(size=(80, count))
    found = score(TASKS["multi-label"], *reversed(judged.label_sets(right, scores, count)))
    assert found["micro_f1"] == pytest.approx(f1_score(right, scores > 0, average="micro"))
    assert found["macro_f1"] == pytest.approx(f1_score(right, scores > 0, average="macro"))
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(right, scores > 0))


def test_a_label_that_nobody_gives_and_nobody_asks_for_is_left_out_of_the_macro_f1() -> None:
    right, scores = np.array([[1, 0], [1, 0]]), np.array([[2.0, -2.0], [2.0, -2.0]])
    gold, answers = judged.label_sets(right, scores, 2)
    assert score(gold.task, answers, gold)["macro_f1"] == 1.0
    assert METRICS["multi-label"].absent(gold) == ["b"]


def shifted(rows: int, seed: int, shift: float) -> tuple[Gold, Answers]:
    """Logits that are well ordered, but too low by ``shift``."""
    rng = np.random.default_rng(seed)
    right = rng.random((rows, 3)) < 0.3
    return judged.label_sets(right, np.where(right, 2.0, -2.0) + rng.normal(size=right.shape) - shift, 3)


def test_thresholds_are_fitted_where_a_model_is_too_timid() -> None:
    gold, answers = shifted(300, 0, 3.0)
    limits = METRICS["multi-label"].thresholds(answers, gold)
    assert all(0.02 < limit < 0.2 for limit in limits)  # sigmoid(-3) is 0.05
    test, said = shifted(300, 1, 3.0)
    judge = METRICS["multi-label"].mark
    assert judge(said, test, limits).figures[0].value > judge(said, test, ()).figures[0].value + 0.1


def test_thresholds_that_do_not_help_on_the_other_half_of_the_rows_are_not_kept() -> None:
    gold, answers = shifted(300, 0, 0.0)
    flat = Answers(np.where(answers.values > 0, 3.0, -3.0).astype(np.float32), answers.starts)
    assert METRICS["multi-label"].thresholds(flat, gold) is None


def test_a_label_with_few_rows_keeps_its_threshold() -> None:
    gold, answers = shifted(300, 0, 3.0)
    gold.right[9:, 1] = False
    assert METRICS["multi-label"].thresholds(answers, gold)[1] == 0.5


def test_the_calibration_of_label_sets_counts_every_label_of_every_row() -> None:
    # 0.9 twice, right once: a gap of 0.4; 0.1 twice, right once: a gap of 0.4.
    scores = np.log(np.array([[9, 1 / 9], [9, 1 / 9]]))
    gold, answers = judged.label_sets(np.array([[1, 1], [0, 0]]), scores, 2)
    assert METRICS["multi-label"].calibration_error(answers, gold, 1.0) == pytest.approx(0.4)


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [0, 6], ids=["many ties", "no ties"])
def test_the_metrics_of_numbers_are_those_of_scipy(digits: int) -> None:
    rng = np.random.default_rng(1)
    right = rng.normal(size=60).round(digits)
    said = (right + rng.normal(size=60)).round(digits) + 100
    gold = judged.gold("regression", Split(judged.texts(60), right))
    found = score(gold.task, judged.by_row(said[:, None]), gold)
    assert found["spearman"] == pytest.approx(stats.spearmanr(right, said).statistic, abs=1e-6)
    assert found["pearson"] == pytest.approx(stats.pearsonr(right, said).statistic, abs=1e-5)
    assert found["mse"] == pytest.approx(np.mean((right - said) ** 2), rel=1e-4)


def test_a_constant_answer_correlates_with_nothing() -> None:
    gold = judged.gold("regression", Split(judged.texts(5), np.arange(5) / 7))
    found = score(gold.task, judged.by_row(np.full((5, 1), 0.3)), gold)
    assert found["spearman"] == found["pearson"] == 0.0


@pytest.mark.parametrize("digits", [1, 6])
def test_a_weighted_rank_correlation_is_that_of_repeated_rows(digits: int) -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 40)).round(digits)
    weights = rng.integers(0, 4, size=(5, 40))
    found = Ranked(first, second, np.arange(40), 40).at(weights.astype(float))
    expected = [stats.spearmanr(np.repeat(first, row), np.repeat(second, row)).statistic for row in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)


# --- tags -------------------------------------------------------------------------------------

SEQEVAL = {  # of seqeval 1.2.2: entity F1, precision, recall, accuracy
    ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"): (
        0.7205882352941176, 0.7205882352941176, 0.7205882352941176, 0.7536945812807881,
    ),
    ("O", "I-PER", "I-LOC"): (0.693069306930693, 0.6862745098039216, 0.7, 0.817258883248731),
    ("O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B"): (
        0.7297297297297298, 0.75, 0.7105263157894737, 0.6956521739130435,
    ),
}  # fmt: skip


def random_tags(names: tuple[str, ...]) -> tuple[list[list[str]], list[list[str]]]:
    rng = random.Random(0)
    truth = [[rng.choice(names) for _ in range(rng.randint(1, 9))] for _ in range(40)]
    return truth, [[tag if rng.random() < 0.7 else rng.choice(names) for tag in row] for row in truth]


@pytest.mark.parametrize("names", SEQEVAL, ids=["BIO", "IOB1", "IOBES"])
def test_the_metrics_of_tags_are_those_of_seqeval(names: tuple[str, ...]) -> None:
    truth, said = random_tags(names)
    gold = judged.tagged(truth, names)
    found = score(gold.task, judged.tag_answers(gold, said), gold)
    assert tuple(found) == ("entity_f1", "precision", "recall", "word_accuracy")
    assert tuple(found.values()) == pytest.approx(SEQEVAL[names])


def test_only_the_first_token_of_a_word_speaks_for_it() -> None:
    gold = judged.tagged([["B-PER", "O"]], ("O", "B-PER"))
    assert score(gold.task, judged.tag_answers(gold, [["B-PER", "O"]], misled=1), gold)["entity_f1"] == 1.0


def test_a_word_that_was_cut_off_counts_as_outside() -> None:
    rows = [["O", "B-PER", "O", "B-PER"]]
    gold = judged.tagged(rows, ("B-PER", "O"), kept=2)
    found = score(gold.task, judged.tag_answers(gold, rows), gold)
    assert found == pytest.approx({"entity_f1": 2 / 3, "precision": 1.0, "recall": 0.5, "word_accuracy": 0.75})


def test_a_part_of_speech_that_was_cut_off_is_missed() -> None:
    rows = [["NOUN", "VERB", "NOUN"]]
    gold = judged.tagged(rows, ("NOUN", "VERB"), kept=2)
    found = score(gold.task, judged.tag_answers(gold, rows), gold)
    assert found == pytest.approx({"entity_f1": 0.8, "precision": 1.0, "recall": 2 / 3, "word_accuracy": 2 / 3})


# --- answers to questions ---------------------------------------------------------------------


def official(said: str, wanted: str) -> tuple[float, float]:
    """Exact match and F1 as SQuAD's own script has them, step by step."""

    def normal(text: str) -> str:
        text = "".join(mark for mark in text.lower() if mark not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    one, two = normal(said).split(), normal(wanted).split()
    same = sum((Counter(one) & Counter(two)).values())
    if not one or not two:
        return float(one == two), float(one == two)
    if not same:
        return 0.0, 0.0
    precision, recall = same / len(one), same / len(two)
    return float(normal(said) == normal(wanted)), 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("The  Eiffel Tower!", "Eiffel tower"),
        ("Denver Broncos", "the Denver Broncos of Colorado"),
        ("an-other", "another"),
        ("theatre", "atre"),
        ("the a an", "one"),
        ("$5.00", "500"),
        ("red red blue", "red blue blue"),
        ("", "nothing"),
        ("überall", "Überall,"),
    ],
)
def test_an_answer_is_scored_as_the_script_of_squad_does(said: str, wanted: str) -> None:
    assert squad.score_answer(said, [wanted]) == pytest.approx(official(said, wanted))


def test_the_nearest_of_several_accepted_answers_counts() -> None:
    assert squad.score_answer("in 1990", ["1990", "in the year 1990", "nineties"]) == (0.0, pytest.approx(0.8))


def test_saying_nothing_is_right_only_where_there_is_no_answer() -> None:
    assert squad.score_answer("", []) == (1.0, 1.0)
    assert squad.score_answer("Bern", []) == (0.0, 0.0)
    assert squad.score_answer("", ["Bern"]) == (0.0, 0.0)
    # As SQuAD's own script, which drops accepted answers that are articles or marks alone.
    assert squad.score_answer("", ["the"]) == (1.0, 1.0)


def test_chinese_characters_are_words_of_their_own_and_chinese_marks_are_none() -> None:
    # 伯尔尼 and 伯尔尼市 share 3 of 3 and 4 characters.
    assert squad.score_answer("伯尔尼。", ["《伯尔尼市》"]) == (0.0, pytest.approx(6 / 7))
    assert squad.score_answer("伯尔尼。", ["伯尔尼"]) == (1.0, 1.0)


CONTEXT = "Anna lives in Bern now"
PLACES = [(0, 4), (5, 10), (11, 13), (14, 18), (19, 22)]


def windows(first: int, last: int) -> list[int]:
    """Offsets of [CLS] question [SEP], the words ``first`` to ``last`` of the context, [SEP]."""
    return [place for pair in [(-1, -1)] * 3 + PLACES[first:last] + [(-1, -1)] for place in pair]


def asked(answers: tuple, offsets: list[list[int]], row: list[int]) -> Gold:
    count = len(answers)
    split = Split(("Where?",) * count, answers, pairs=(CONTEXT,) * count)
    columns = {"row": row, "offsets": offsets, "length": [len(some) // 2 for some in offsets]}
    return judged.gold("question-answering", split, columns)


def window_answer(tokens: int, start: int, end: int, strength: float) -> np.ndarray:
    values = np.zeros((tokens, 2), np.float32)
    values[start, 0] = values[end, 1] = strength
    return values


def test_the_best_window_answers_a_question() -> None:
    gold = asked((((14, "Bern"),),), [windows(0, 3), windows(2, 5)], [0, 0])
    answers = Answers.of([window_answer(7, 3, 3, 1.0), window_answer(7, 4, 4, 2.0)])
    assert list(METRICS["question-answering"].mark(answers, gold, ()).said) == ["Bern"]
    assert score(gold.task, answers, gold) == {"answer_f1": 1.0, "exact_match": 1.0}


def test_questions_about_one_context_are_one_group_and_rows_of_windows_are_put_back_in_order() -> None:
    gold = asked((((0, "Anna"),), ((14, "Bern"),)), [windows(0, 5), windows(0, 3), windows(3, 5)], [1, 0, 0])
    assert gold.groups.tolist() == [0, 0]
    answers = Answers.of([window_answer(9, 6, 6, 2.0), window_answer(7, 3, 4, 2.0), window_answer(6, 3, 4, 1.0)])
    found = METRICS["question-answering"].mark(answers, gold, ())
    assert list(found.said) == ["Anna lives", "Bern"]
    assert found.right.tolist() == [False, True]
    assert found.worth.tolist() == pytest.approx([2 / 3, 1.0])


def test_no_answer_is_only_given_where_the_data_have_such_questions() -> None:
    answers = Answers.of([window_answer(9, 0, 0, 5.0)])
    never = asked((((0, "Anna"),),), [windows(0, 5)], [0])
    assert METRICS["question-answering"].mark(answers, never, ()).said[0] != ""
    sometimes = asked(((),), [windows(0, 5)], [0])
    assert score(sometimes.task, answers, sometimes) == {"answer_f1": 1.0, "exact_match": 1.0}
    assert sometimes.cuts["answer"].tolist() == ["has no answer"]


def test_a_test_split_is_decoded_as_the_training_data_have_the_model_deployed() -> None:
    answers = Answers.of([window_answer(9, 0, 0, 5.0)])
    test = Split(("Where?",), (((0, "Anna"),),), pairs=(CONTEXT,))
    train = Split(("Where?",), ((),), pairs=(CONTEXT,))
    columns = {"row": [0], "offsets": [windows(0, 5)], "length": [9]}
    corpus = Corpus({"train": train, "test": test}, (), "made up", "0" * 64, task=TASKS["question-answering"])
    gold = gold_of(corpus, SimpleNamespace(splits={"test": columns}), "test")
    assert list(METRICS["question-answering"].mark(answers, gold, ()).said) == [""]
    assert "answer" not in gold.cuts


# --- masked pieces ----------------------------------------------------------------------------


def masked() -> Gold:
    labels = [[IGNORED, 7, IGNORED, 8], [IGNORED, IGNORED], [9, IGNORED]]
    ids = [[1, 103, 2, 103], [1, 2], [103, 5]]
    split = Split(judged.texts(3), np.zeros(3))
    columns = {"labels": labels, "input_ids": ids, "length": [4, 2, 2]}
    return judged.gold("fill-mask", split, columns, spell=lambda ids: " ".join(map(str, ids)))


def test_the_metrics_of_masked_tokens_are_those_of_all_masks_together() -> None:
    gold = masked()
    log = np.log
    answers = Answers(
        np.array([[log(0.5), 7, log(0.5)], [log(0.1), 3, log(0.6)], [log(0.2), 9, log(0.2)]], np.float32),
        np.array([0, 2, 2, 3]),
    )
    found = score(gold.task, answers, gold)
    loss = -(log(0.5) + log(0.1) + log(0.2)) / 3
    assert found == pytest.approx({"masked_accuracy": 2 / 3, "mlm_loss": loss, "perplexity": math.exp(loss)})
    assert gold.groups.tolist() == [0, 0, 2]


def test_a_mask_is_shown_among_the_pieces_that_stand_there() -> None:
    gold = masked()
    assert METRICS["fill-mask"].text(gold, 1) == "1 7 2 103"
    assert METRICS["fill-mask"].truth(gold, 1) == "8"


# --- embeddings -------------------------------------------------------------------------------


def embedded(count: int = 60, noise: float = 0.5) -> tuple[Gold, Answers, np.ndarray]:
    rng = np.random.default_rng(3)
    teacher = rng.normal(size=(count, 8)).astype(np.float32)
    student = teacher + noise * rng.normal(size=teacher.shape).astype(np.float32)
    split = Split(judged.texts(count), np.zeros(count))
    return judged.gold("feature-extraction", split, reference=judged.by_row(teacher)), judged.by_row(student), teacher


def test_the_teacher_judged_by_itself_is_perfect() -> None:
    gold, _, teacher = embedded()
    assert score(gold.task, judged.by_row(teacher), gold) == pytest.approx(
        {"similarity_spearman": 1.0, "recall_at_1": 1.0, "recall_at_10": 1.0, "mean_cosine": 1.0}
    )


def test_similarities_and_neighbours_are_those_that_a_plain_search_finds() -> None:
    gold, answers, teacher = embedded()
    index = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    student = answers.values / np.linalg.norm(answers.values, axis=1, keepdims=True)
    found = score(gold.task, answers, gold)
    first, second = gold.right.first, gold.right.second
    mine, theirs = ((some[first] * some[second]).sum(axis=1) for some in (student, index))
    assert found["similarity_spearman"] == pytest.approx(stats.spearmanr(mine, theirs).statistic, abs=1e-4)
    others = [np.delete(np.arange(60), row) for row in range(60)]
    right = [rest[np.argmax(index[rest] @ index[row])] for row, rest in enumerate(others)]
    for k in (1, 10):
        hits = [right[row] in rest[np.argsort(-index[rest] @ student[row])[:k]] for row, rest in enumerate(others)]
        assert found[f"recall_at_{k}"] == pytest.approx(np.mean(hits))
    assert found["mean_cosine"] == pytest.approx((student * index).sum(axis=1).mean(), abs=1e-6)
    assert 0.3 < found["recall_at_1"] < 1.0


def test_a_turned_space_has_the_same_similarities_but_finds_nothing_in_the_old_index() -> None:
    gold, _, teacher = embedded()
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(8, 8)))[0]
    found = score(gold.task, judged.by_row(teacher @ turn), gold)
    assert found["similarity_spearman"] == pytest.approx(1.0, abs=1e-4)
    assert found["recall_at_1"] < 0.2


def test_pairs_lie_within_groups_and_every_text_is_in_one() -> None:
    gold, _, _ = embedded(601)
    assert (gold.groups[gold.right.first] == gold.groups[gold.right.second]).all()
    assert np.bincount(gold.groups).tolist() == [8] * 75 + [1]
    assert len(gold.right.first) == 75 * 28


def test_of_very_many_texts_some_are_compared() -> None:
    gold, _, _ = embedded(12_000)
    assert len(gold) == len(gold.texts) == 5000
    assert (gold.right.rows[0], gold.right.rows[-1]) == (0, 11_999)


def test_embeddings_need_the_teachers_and_their_width() -> None:
    gold, answers, _ = embedded()
    with pytest.raises(StageError, match=r"shape \(60, 4\), the teacher's \(60, 8\)"):
        score(gold.task, judged.by_row(answers.values[:, :4]), gold)
    alone = judged.gold("feature-extraction", Split(judged.texts(2), np.zeros(2)))
    with pytest.raises(StageError, match="can only be judged by the teacher's"):
        score(gold.task, answers, alone)


# --- all --------------------------------------------------------------------------------------


def examples() -> dict[str, tuple[Gold, Answers]]:
    tags = judged.tagged([["O", "B-PER"]], ("O", "B-PER"))
    questions = asked((((14, "Bern"),),), [windows(0, 5)], [0])
    single = judged.gold("single-label", Split(judged.texts(4), np.array([0, 1, 0, 1])), labels=("no", "yes"))
    return {
        "single-label": (single, judged.by_row(judged.sure([0, 1, 1, 1], 2))),
        "multi-label": judged.label_sets(np.eye(2), np.eye(2), 2),
        "regression": (judged.gold("regression", Split(judged.texts(3), np.arange(3))), judged.by_row(np.eye(3, 1))),
        "token-classification": (tags, judged.tag_answers(tags, [["O", "B-PER"]])),
        "question-answering": (questions, Answers.of([window_answer(9, 3, 3, 1.0)])),
        "fill-mask": (masked(), Answers(np.zeros((3, 3), np.float32), np.array([0, 2, 2, 3]))),
        "feature-extraction": embedded()[:2],
    }


@pytest.mark.parametrize("kind", TASKS)
def test_the_deciding_metric_comes_first_and_every_metric_has_a_title(kind: str) -> None:
    gold, answers = examples()[kind]
    found = score(TASKS[kind], answers, gold)
    assert next(iter(found)) == TASKS[kind].metric
    assert set(found) <= set(TITLES)
    assert TITLES[TASKS[kind].metric].text == TASKS[kind].metric_title


def test_accuracy_and_macro_f1_of_single_labels_are_those_of_scikit_learn() -> None:
    gold, answers = examples()["single-label"]
    expected = {"accuracy": 0.75, "macro_f1": f1_score([0, 1, 0, 1], [0, 1, 1, 1], average="macro")}
    assert score(gold.task, answers, gold) == pytest.approx(expected)


def test_gold_of_some_rows_is_about_those() -> None:
    split = Split(("a", "b", "c"), np.array([0.1, 0.2, 0.3]), {"source": ("x", "y", "z")})
    gold = judged.gold("regression", split, rows=np.array([0, 2]))
    assert (gold.texts, gold.right.tolist(), gold.cuts["source"].tolist()) == (("a", "c"), [0.1, 0.3], ["x", "z"])
    assert gold.starts.tolist() == [0, 1, 2]
