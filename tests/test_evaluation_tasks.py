"""What changed between a teacher and its students, for the kinds of task beyond single labels."""

import numpy as np
import pytest

from compressor.answers import IGNORED, Answers
from compressor.artifacts import Split
from compressor.errors import StageError
from compressor.evaluation.evaluate import Evaluation, evaluate
from compressor.evaluation.metrics import Gold
from tests import judged


def compared(gold: Gold, teacher: Answers, *students: Answers, **options: object) -> Evaluation:
    names = ("student_onnx", "student_int8")
    models = [judged.facts(name, some) for name, some in zip(names, students, strict=False)]
    return evaluate([judged.facts("teacher", teacher), *models], gold, **options)


# --- label sets -------------------------------------------------------------------------------


def label_sets(rows: int = 200, lost: int = 0) -> Evaluation:
    """A student that no longer gives label ``b`` to so many rows that have it."""
    right = np.stack([np.arange(rows) % 2 == 0, np.arange(rows) % 4 == 0], axis=1)
    teacher = np.where(right, 3.0, -3.0)
    student = teacher.copy()
    student[np.flatnonzero(right[:, 1])[:lost], 1] = -1.0
    gold, answers = judged.label_sets(right, teacher, 2)
    return compared(gold, answers, judged.by_row(student))


def test_a_row_of_many_labels_is_right_where_the_whole_set_is() -> None:
    found = label_sets(lost=20)
    change = found.comparisons[0]
    assert (change.flipped, change.broken, change.repaired, change.moved) == (20, 20, 0, 0)
    flip = change.flips[0]
    assert (flip.kind, flip.label, flip.teacher_label, flip.student_label) == ("broken", "a, b", "a, b", "a")
    assert (flip.teacher_score, flip.student_score) == (None, None)
    assert found.scores[1].agreement_with_teacher == 0.9


def test_the_verdict_on_label_sets_is_about_micro_f1() -> None:
    found = label_sets(lost=20)
    assert (found.task, found.metric, found.metric_title) == ("multi-label", "micro_f1", "micro F1")
    # 150 labels of 150 before; 130 of 150 after: F1 is 260 / 280.
    assert found.verdict.difference.estimate == pytest.approx(260 / 280 - 1)
    assert found.verdict.decision == "do not ship"
    assert found.verdict.sentence.startswith("Do not ship: on 200 test rows its micro F1 differs from the teacher's")
    assert found.verdict.mcnemar_p == pytest.approx(2 * 0.5**20)
    assert label_sets(rows=2000).verdict.decision == "ship"


def test_every_label_has_its_own_f1_and_an_adjusted_p_value() -> None:
    a, b = label_sets(lost=20).comparisons[0].labels
    assert (a.label, a.rows, a.teacher_f1, a.f1, a.broken, a.p_value) == ("a", 100, 1.0, 1.0, 0, 1.0)
    assert (b.label, b.rows, b.teacher_f1, b.broken, b.repaired) == ("b", 50, 1.0, 20, 0)
    assert b.f1 == pytest.approx(2 * 30 / (2 * 30 + 20))
    assert b.p_value == pytest.approx(2 * 2 * 0.5**20)


def test_scores_of_label_sets_have_intervals_and_a_calibration_error_but_no_temperature() -> None:
    scores = label_sets(lost=20).scores[1]
    assert [item.name for item in scores.metrics] == ["micro_f1", "macro_f1", "subset_accuracy"]
    assert scores.deciding.low < scores.deciding.estimate < scores.deciding.high
    assert scores.metric("subset_accuracy").estimate == 0.9
    assert (scores.temperature, scores.ece_calibrated, scores.thresholds) == (None, None, None)
    assert 0 < scores.ece < 0.2


def test_a_timid_model_is_judged_with_the_thresholds_that_validation_rows_ask_for() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((300, 3)) < 0.3
    teacher = np.where(right, 3.0, -3.0)
    gold, answers = judged.label_sets(right, teacher, 3)
    timid = judged.by_row(teacher - 3.5)
    plain = compared(gold, answers, timid)
    fitted = compared(gold, answers, timid, validation=gold, validation_answers={"student_onnx": timid})
    assert plain.scores[1].deciding.estimate == 0.0
    assert fitted.scores[1].deciding.estimate == 1.0
    assert len(fitted.scores[1].thresholds) == 3
    assert fitted.scores[0].thresholds is None
    assert plain.warnings == ("student_onnx gives the same answer to every test row: none.",)


# --- numbers ----------------------------------------------------------------------------------


def test_numbers_have_differences_and_no_flips() -> None:
    rng = np.random.default_rng(1)
    right = rng.normal(size=120)
    gold = judged.gold("regression", Split(judged.texts(120), right))
    student = right.copy()
    student[7] += 4
    found = compared(gold, judged.by_row(right[:, None]), judged.by_row(student[:, None]))
    change = found.comparisons[0]
    assert (change.flipped, change.broken, change.repaired, change.moved, change.shift_mean) == (None,) * 5
    (flip,) = change.flips
    assert (flip.row, flip.kind, flip.label, flip.student_label) == (7, "moved", f"{right[7]:.2f}", f"{student[7]:.2f}")
    assert found.scores[1].agreement_with_teacher is found.verdict.mcnemar_p is found.majority is None
    assert [item.lower_is_better for item in found.scores[0].metrics] == [False, False, True]


def test_slices_of_numbers_have_their_own_correlation() -> None:
    right = np.array([1.0, 2, 3, 4, 1, 2, 3, 4])
    student = np.array([1.0, 2, 3, 4, 4, 3, 2, 1])
    split = Split(judged.texts(8), right, {"source": ("app",) * 4 + ("web",) * 4})
    gold = judged.gold("regression", split)
    found = compared(gold, judged.by_row(right[:, None]), judged.by_row(student[:, None])).comparisons[0]
    by_source = {item.name: item for item in found.slices if item.column == "source"}
    assert (by_source["app"].score, by_source["web"].score) == pytest.approx((1.0, -1.0))
    assert (by_source["web"].teacher_score, by_source["web"].p_value, by_source["web"].broken) == (1.0, None, None)


# --- tags -------------------------------------------------------------------------------------

NAMES = ("B-LOC", "B-PER", "I-PER", "O")


def tagged() -> Evaluation:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"]] * 20
    student = [row[:] for row in truth]
    student[0][1] = "O"
    student[1][0] = "B-LOC"
    gold = judged.tagged(truth, NAMES)
    return compared(gold, judged.tag_answers(gold, truth), judged.tag_answers(gold, student))


def test_entities_are_shown_as_they_stand_in_the_text() -> None:
    flips = {flip.row: flip for flip in tagged().comparisons[0].flips}
    assert flips[0].text == "w0 w1 w2 w3"
    assert (flips[0].label, flips[0].student_label) == ("PER: w0 w1; LOC: w3", "PER: w0; LOC: w3")
    assert (flips[1].label, flips[1].teacher_label, flips[1].student_label) == ("none", "none", "LOC: w0")


def test_a_text_is_right_where_all_its_entities_are() -> None:
    change = tagged().comparisons[0]
    assert (change.flipped, change.broken, change.repaired) == (2, 2, 0)
    assert 0 < change.shift_mean < 1
    assert {(item.label, item.rows, item.broken) for item in change.labels} == {("PER", 20, 1), ("LOC", 20, 1)}


def test_the_confusion_of_tags_counts_words() -> None:
    cells = {(cell.label, cell.predicted): (cell.teacher, cell.student) for cell in tagged().comparisons[0].confusion}
    assert cells == {
        ("I-PER", "I-PER"): (20, 19),
        ("I-PER", "O"): (0, 1),
        ("O", "O"): (60, 59),
        ("O", "B-LOC"): (0, 1),
    }


def test_a_type_of_entity_without_a_test_row_is_named() -> None:
    gold = judged.tagged([["B-PER", "O"]] * 3, NAMES)
    answers = judged.tag_answers(gold, [["B-PER", "O"]] * 3)
    assert compared(gold, answers, answers).warnings[-1] == (
        "The test split has no row of 1 of 2 labels: LOC. They are not judged."
    )


def test_answers_about_texts_of_other_lengths_are_refused() -> None:
    gold = judged.tagged([["O", "O"], ["O"]], NAMES)
    answers = judged.tag_answers(gold, [["O", "O"], ["O"]])
    moved = Answers(answers.values, answers.starts + np.array([0, 1, 0]))
    with pytest.raises(StageError, match="student_onnx are about rows of other lengths"):
        compared(gold, answers, moved)


# --- questions --------------------------------------------------------------------------------


def questions(rows: int, said: list[int], per_context: int) -> Evaluation:
    """Each context is ``c<number> right wrong``; the student answers with the word of this number."""
    contexts = [f"c{row // per_context} right wrong" for row in range(rows)]
    answers = tuple(((context.index("right"), "right"),) for context in contexts)
    offsets = []
    for context in contexts:
        first, second, third = (context.index(word) for word in context.split())
        offsets.append([-1, -1, first, second - 1, second, second + 5, third, third + 5])
    split = Split(judged.texts(rows), answers, pairs=tuple(contexts))
    gold = judged.gold("question-answering", split, {"row": list(range(rows)), "offsets": offsets})

    def spans(words: list[int]) -> Answers:
        return Answers.of([np.repeat(judged.sure([word + 1], 4).T, 2, axis=1) for word in words])

    return compared(gold, spans([1] * rows), spans(said))


def test_questions_are_resampled_by_context_and_shown_with_it() -> None:
    found = questions(60, [2] * 4 + [1] * 56, per_context=3)
    assert found.verdict.difference.estimate == pytest.approx(-4 / 60)
    assert found.verdict.difference.method.startswith("BCa bootstrap over contexts")
    assert (found.row_word, found.verdict.mcnemar_p) == ("test question", None)
    flip = found.comparisons[0].flips[0]
    assert (flip.kind, flip.label, flip.teacher_label, flip.student_label) == ("broken", "right", "right", "wrong")
    assert flip.text == "text 0\nc0 right wrong"


def test_questions_of_a_context_each_are_independent() -> None:
    found = questions(60, [2] * 12 + [1] * 48, per_context=1)
    assert found.verdict.mcnemar_p == pytest.approx(2 * 0.5**12)
    assert found.comparisons[0].slices[0].p_value is not None
    assert found.scores[1].metric("exact_match").method == "BCa bootstrap, exact"


# --- masked tokens ----------------------------------------------------------------------------


def test_masked_tokens_are_counted_one_by_one_and_resampled_by_block() -> None:
    labels = [[IGNORED, 5, 6, 7]] * 40
    columns = {"labels": labels, "input_ids": [[1, 2, 2, 2]] * 40}
    gold = judged.gold("fill-mask", Split(("x",), np.zeros(1)), columns, spell=lambda ids: "".join(map(str, ids)))
    teacher = np.tile(np.array([[-0.1, 5, -0.1], [-0.1, 6, -0.1], [-0.1, 7, -0.1]], np.float32), (40, 1))
    student = teacher.copy()
    student[:30, 1], student[:30, 0], student[:30, 2] = 9, -3.0, -0.5
    starts = np.arange(41) * 3
    found = compared(gold, Answers(teacher, starts), Answers(student, starts), Answers(student, starts))
    assert (found.rows, found.row_word) == (120, "masked token")
    assert found.verdict.difference.estimate == pytest.approx(-0.25)
    assert (found.comparisons[0].broken, found.verdict.mcnemar_p) == (30, None)
    flip = found.comparisons[0].flips[0]
    assert (flip.text, flip.label, flip.student_label) == ("1267", "5", "9")
    assert flip.student_score == pytest.approx(np.exp(-0.5))
    assert (found.drifts[0].changed_labels, found.drifts[0].max_abs_difference) == (0, 0.0)


# --- embeddings -------------------------------------------------------------------------------


def test_embeddings_are_judged_by_the_teachers_and_flips_are_changed_neighbours() -> None:
    rng = np.random.default_rng(2)
    teacher = rng.normal(size=(300, 16))
    gold = judged.gold("feature-extraction", Split(judged.texts(300), np.zeros(300)))
    found = compared(gold, judged.by_row(teacher), judged.by_row(teacher + 0.6 * rng.normal(size=teacher.shape)))
    assert found.scores[0].deciding.estimate == pytest.approx(1.0)
    assert found.verdict.difference.high < 0
    assert found.verdict.decision == "do not ship"
    change = found.comparisons[0]
    assert change.flipped == change.moved > 0
    assert change.flipped == pytest.approx(300 * (1 - found.scores[1].metric("recall_at_1").estimate))
    flip = change.flips[0]
    assert flip.teacher_label != flip.student_label != flip.text
    assert flip.label == ""
    assert 0 < flip.student_score <= 1
    assert all(-1 <= item.score < item.teacher_score for item in change.slices)


def test_embeddings_that_are_the_teachers_ship() -> None:
    teacher = judged.by_row(np.random.default_rng(3).normal(size=(2500, 4)))
    gold = judged.gold("feature-extraction", Split(judged.texts(2500), np.zeros(2500)))
    found = compared(gold, teacher, teacher)
    assert (found.verdict.decision, found.comparisons[0].flipped) == ("ship", 0)
    same = compared(gold, teacher, teacher, teacher)
    assert [(drift.rows, drift.changed_labels) for drift in same.drifts] == [(2500, None)]
