"""Tuning by short trials: what is searched, that a killed search goes on, and what comes of it."""

import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

import compressor.report
from compressor import compress, kept, lesson, rehearsal, tuning
from compressor.artifacts import TunedTrial, Tuning
from compressor.errors import DivergedError, RecipeError
from compressor.events import Note, Progress, Warned
from compressor.plan import plan
from compressor.recipe import DistillRecipe, StudentRecipe, build, read
from compressor.report import document
from compressor.report.html import html
from compressor.report.markdown import markdown
from compressor.training.batches import Collator
from tests import tiny, training_script
from tests.report_inputs import findings

SCHEMA = json.loads((Path(compressor.report.__file__).parent / "schema.json").read_text(encoding="utf-8"))


def judged(recipe, hear, epochs=3):
    """A training that is best at a learning rate of 1e-3 and a temperature of 5, and better after every epoch."""
    for epoch in range(epochs):
        hear(0.5 + 0.1 * epoch - abs(math.log10(recipe.learning_rate / 1e-3)) / 4 - abs(recipe.temperature - 5) / 100)


def search(path, trials, attempt=judged, recipe=None, kind="single-label", seed=1, **named):
    given = recipe or DistillRecipe(learning_rate=5e-4)
    facts = {"metric": "accuracy", "rows": 96, "epochs": 3.0, **named}
    return tuning.tune(given, kind, trials, attempt, path, seed=seed, **facts)


# --- what is searched -------------------------------------------------------------------------


def test_the_default_recipe_is_searched_by_learning_rate_temperature_and_the_share_of_the_labels():
    space = tuning.space_of(DistillRecipe(learning_rate=1e-4), "single-label")
    assert list(space) == ["learning_rate", "temperature", "hard_share"]
    assert (space["learning_rate"].low, space["learning_rate"].high) == (2.5e-5, 4e-4)


@pytest.mark.parametrize(
    ("given", "kind", "names"),
    [
        ({"preset": "distilbert"}, "single-label", ["learning_rate", "temperature", "hard_share", "hidden_weight"]),
        ({"preset": "pkd"}, "single-label", ["learning_rate", "temperature", "hard_share", "pkd_weight"]),
        ({"preset": "tinybert"}, "single-label", ["learning_rate", "temperature"]),
        ({"preset": "minilm"}, "single-label", ["learning_rate", "temperature", "hard_share"]),
        ({}, "regression", ["learning_rate", "hard_share"]),
        ({}, "feature-extraction", ["learning_rate"]),
        ({"soft_weight": 0.0, "hard_weight": 1.0}, "single-label", ["learning_rate"]),
    ],
)
def test_losses_that_weigh_nothing_or_have_a_stage_of_their_own_are_left_alone(given, kind, names):
    assert list(tuning.space_of(DistillRecipe(**given), kind)) == names


def test_values_out_of_the_usual_range_are_within_the_range_that_is_searched():
    space = tuning.space_of(DistillRecipe(temperature=20, soft_weight=1, hard_weight=19), "single-label")
    assert (space["temperature"].high, space["hard_share"].high) == (20, 0.95)


def test_soft_and_hard_weights_keep_their_sum():
    recipe = DistillRecipe(soft_weight=5, hard_weight=2)
    assert tuning.values_of(recipe, {"hard_share": 0.5, "temperature": 3.14159}) == {
        "soft_weight": 3.5, "hard_weight": 3.5, "temperature": 3.14,
    }  # fmt: skip


# --- the search -------------------------------------------------------------------------------


def test_the_first_trial_is_the_recipe_itself_and_the_best_one_is_chosen(tmp_path):
    asked = []

    def attempt(recipe, hear):
        asked.append(recipe)
        judged(recipe, hear)

    recipe = DistillRecipe(learning_rate=5e-4)
    found = search(tmp_path / "study.log", 12, attempt, recipe)
    assert asked[0] == recipe
    assert found.trials[0].values == {
        "learning_rate": 5e-4, "temperature": 2.0, "soft_weight": 0.9, "hard_weight": 0.1,
    }  # fmt: skip
    assert len(found.trials) == len(asked) == 12
    chosen = found.trials[found.chosen]
    assert chosen.score == max(trial.score for trial in found.trials if not trial.pruned) > found.trials[0].score
    assert all(asked[index].learning_rate == trial.values["learning_rate"] for index, trial in enumerate(found.trials))


def test_what_falls_behind_is_stopped_early_and_never_chosen(tmp_path):
    found = search(tmp_path / "study.log", 12)
    stopped = [trial for trial in found.trials if trial.pruned]
    assert stopped
    assert all(len(trial.scores) < 3 for trial in stopped)
    assert all(len(trial.scores) == 3 for trial in found.trials if not trial.pruned)
    assert not any(trial.pruned for trial in found.trials[: tuning.FIRST_WHOLE])
    assert not found.trials[found.chosen].pruned


def test_a_trial_that_ties_with_the_recipe_does_not_replace_it():
    values = {"learning_rate": 1e-3}
    same = tuple(TunedTrial(values, (0.5, score)) for score in (0.7, 0.7, 0.6))
    assert Tuning((*same, TunedTrial(values, (0.9,), pruned=True)), "accuracy", 10, 2.0).chosen == 0


def test_a_score_that_is_no_number_is_the_worst(tmp_path):
    def attempt(recipe, hear):
        hear(math.nan if recipe.learning_rate != 5e-4 else 0.3)

    found = search(tmp_path / "study.log", 3, attempt, epochs=1.0)
    assert [trial.score for trial in found.trials] == [0.3, -1, -1]
    assert found.chosen == 0


@pytest.mark.parametrize("epochs_before", [0, 1])
def test_a_trial_that_diverges_is_the_worst_and_ends_nothing(tmp_path, epochs_before):
    def attempt(recipe, hear):
        if recipe.learning_rate != 5e-4:
            for _ in range(epochs_before):
                hear(0.9)
            raise DivergedError("The stage distil diverged.")
        hear(0.3)

    found = search(tmp_path / "study.log", 3, attempt, epochs=1.0)
    assert [(trial.scores[-1], trial.pruned) for trial in found.trials] == [(0.3, False), (-1, True), (-1, True)]
    assert found.chosen == 0


def test_a_search_whose_trials_all_diverge_says_so_again_and_again(tmp_path):
    def attempt(recipe, hear):
        raise DivergedError("The stage distil diverged.")

    for _ in range(2):
        with pytest.raises(DivergedError, match="All 2 short trainings of --tune diverged") as caught:
            search(tmp_path / "study.log", 2, attempt, epochs=1.0)
        assert "Lower --learning-rate (0.0005 now)" in caught.value.remedy


@pytest.mark.parametrize("trial", [0, 1, 6])
def test_a_killed_search_goes_on_and_ends_with_what_it_would_have_ended_with(trial, tmp_path):
    whole = search(tmp_path / "whole.log", 8)
    begun = []

    def killed(recipe, hear):
        begun.append(recipe)
        if len(begun) == trial + 1:
            hear(0.99)
            raise KeyboardInterrupt
        judged(recipe, hear)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "killed.log", 8, killed)
    with (tmp_path / "killed.log").open("a") as journal:
        journal.write('{"op_code":6,"worker_id')  # the kill came while a line was written
    (tmp_path / "killed.log.lock").symlink_to(tmp_path / "killed.log")
    begun.clear()

    def counted(recipe, hear):
        begun.append(recipe)
        judged(recipe, hear)

    assert search(tmp_path / "killed.log", 8, counted) == whole
    assert len(begun) == 8 - trial


def test_finished_trials_are_not_repeated_and_more_can_be_asked_for(tmp_path):
    events = []
    first = search(tmp_path / "study.log", 4)

    def never(recipe, hear):
        raise AssertionError

    assert search(tmp_path / "study.log", 4, never, listen=events.append) == first
    assert search(tmp_path / "study.log", 2, never).trials == first.trials[:2]
    assert [event.text for event in events if isinstance(event, Note)] == [tuning.describe(first)]
    assert search(tmp_path / "study.log", 6).trials[:4] == first.trials


def test_a_damaged_journal_is_begun_anew(tmp_path):
    events = []
    first = search(tmp_path / "study.log", 3)
    (tmp_path / "study.log").write_text("no journal\n\n")
    assert search(tmp_path / "study.log", 3, listen=events.append) == first
    assert [event.text for event in events if isinstance(event, Warned)] == [
        f"The journal of the tuning {tmp_path / 'study.log'} is damaged and was begun anew."
    ]


def test_the_listener_hears_every_epoch(tmp_path):
    events = []
    search(tmp_path / "study.log", 2, listen=events.append)
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.step for step in steps] == [0, 1, 2, 3, 3, 4, 5, 6, 6]
    assert all((step.stage, step.total) == ("tune", 6) for step in steps)
    assert set(steps[-1].figures) == {"best"}


def test_the_note_says_what_was_chosen():
    own, other = TunedTrial({"learning_rate": 2e-4, "temperature": 2.0}, (0.5,)), {"learning_rate": 4e-4}
    found = Tuning((own, TunedTrial({**other, "temperature": 3.0}, (0.5, 0.625)), TunedTrial(other, (0.1,), True)),
                   "accuracy", 3200, 3.0)  # fmt: skip
    assert tuning.describe(found) == (
        "3 short trainings, 3 epochs of 3,200 rows each, 1 of them stopped early: learning rate 0.0004, temperature 3 "
        "had the best validation score (accuracy 0.6250, where the recipe's own values had 0.5000)."
    )
    alone = Tuning((own,), "accuracy", 10, 1.0)
    assert "the recipe's own values had the best validation score (accuracy 0.5000)." in tuning.describe(alone)


# --- the trainings ----------------------------------------------------------------------------


def attempts(data, said, kind="single-label"):
    score = training_script.closeness(data, said)
    tutor = training_script.teacher(kind)
    return rehearsal.attempts(
        tutor, data, said, Collator(0), StudentRecipe(layers=(0, 3)), seed=4, device="cpu", score=score
    )


def test_an_attempt_trains_the_same_student_on_the_same_rows_each_time(monkeypatch):
    monkeypatch.setattr(rehearsal, "TRIAL_ROWS", 48)
    data = training_script.tokenized()
    attempt, rows = attempts(data, training_script.answers(data))
    first, second, other = [], [], []
    recipe = DistillRecipe(batch_size=8, learning_rate=1e-2, epochs=2)
    attempt(recipe, first.append)
    attempt(recipe, second.append)
    attempt(recipe.model_copy(update={"learning_rate": 1e-5}), other.append)
    assert rows == 48
    assert len(first) == 2
    assert first == second != other
    assert first[-1] > other[-1]


def test_an_attempt_reads_each_text_once_an_epoch_in_one_of_its_forms(monkeypatch):
    monkeypatch.setattr(rehearsal, "TRIAL_ROWS", 12)
    data = training_script.tokenized(train_rows=48)
    said, taught = training_script.answers(data), []
    monkeypatch.setattr(rehearsal, "distill", lambda *given, **named: taught.append((given, named)))
    forms = np.tile(np.arange(16), 3)
    attempt, rows = rehearsal.attempts(
        training_script.teacher(), data, said, Collator(0), StudentRecipe(layers=(0, 3)), forms=forms, seed=4,
        device="cpu", score=training_script.closeness(data, said),
    )  # fmt: skip
    attempt(DistillRecipe(batch_size=8), [].append)
    ((_, _, part, heard, *_), named) = taught[0]
    assert rows == 12
    assert len(part.splits["train"]) == len(heard["train"]) == 36
    assert sorted(np.bincount(named["forms"], minlength=16)) == [0] * 4 + [3] * 12
    chosen = np.flatnonzero(np.isin(forms, named["forms"]))
    assert part.splits["train"]["input_ids"][:] == data.splits["train"].select(chosen)["input_ids"][:]


def test_an_attempt_at_two_stages_is_judged_by_the_epochs_that_teach_answers():
    data = training_script.tokenized(train_rows=32)
    attempt, _ = attempts(data, training_script.answers(data))
    heard = []
    attempt(DistillRecipe(preset="minilm", batch_size=16, epochs=2), heard.append)
    assert len(heard) == 2


def test_a_stopped_attempt_leaves_the_teacher_as_it_was():
    data = training_script.tokenized(train_rows=32)
    attempt, _ = attempts(data, training_script.answers(data))
    model = training_script.teacher().model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # transformers leaves hooks of its own on a model that was once asked for hidden states, as another test may have.
    hooks = [len(module._forward_hooks) for module in model.modules()]

    def stop(score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(DistillRecipe(preset="distilbert", batch_size=16), stop)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


# --- the recipe, the run and the report -------------------------------------------------------


def test_tuning_without_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    recipe = build({"tune": {"trials": 4}}, {"teacher": "x"})
    with pytest.raises(RecipeError, match="--tune 4 needs optuna, which is not installed") as error:
        lesson.find_teacher(recipe, print)
    assert error.value.exit_code == 2
    assert error.value.remedy == "Install it: pip install '.[tune]' in a checkout of the project."
    assert tuning.check(build({}, {"teacher": "x"})) is None


def test_a_training_of_less_than_an_epoch_cannot_be_tuned():
    with pytest.raises(RecipeError, match=r"--tune 4 compares scores after whole epochs, and --epochs 0.5 has none"):
        tuning.check(build({}, {"teacher": "x", "tune": 4, "epochs": 0.5}))


@pytest.mark.parametrize("trials", [0, -3])
def test_a_number_of_trials_is_positive(trials):
    with pytest.raises(RecipeError, match=rf"--tune {trials}: input should be greater than 0"):
        build({}, {"teacher": "x", "tune": trials})


def tuned(**changes):
    trials = (
        TunedTrial({"learning_rate": 2e-4, "temperature": 2.0}, (0.5, 0.61)),
        TunedTrial({"learning_rate": 7.5e-4, "temperature": 4.0}, (0.6, 0.7)),
        TunedTrial({"learning_rate": 5e-5, "temperature": 9.0}, (0.3,), True),
    )
    return findings(tuning=Tuning(trials, "accuracy", 3200, 2.0), **changes)


def test_the_report_shows_every_trial_and_what_was_chosen():
    written = document(tuned())
    jsonschema.Draft202012Validator(SCHEMA).validate(written)
    assert written["tuning"]["chosen"] == 1
    assert [trial["score"] for trial in written["tuning"]["trials"]] == [0.61, 0.7, 0.3]
    page, text = html(written), markdown(written)
    assert "| 2 | 0.00075 | 4 | 70.0% | chosen |" in text
    assert "| 3 | 5e-05 | 9 | 30.0% | stopped early |" in text
    assert "Short trials before it" in page
    assert "<b>chosen</b>" in page
    assert "stopped early" in page


def test_a_report_without_trials_does_not_mention_them():
    written = document(findings())
    assert written["tuning"] is None
    older = {name: value for name, value in written.items() if name != "tuning"}
    assert markdown(older) == markdown(written)
    assert html(older) == html(written)
    assert "Short trials" not in html(written)


@pytest.mark.slow
def test_a_run_is_tuned_trained_with_the_best_and_repeated_by_the_recipe_that_it_leaves(tmp_path, monkeypatch):
    tiny.teacher_folder(tmp_path / "teacher")
    rows = "".join(f"{text},{label}\n" for text, label in tiny.reviews(120))
    (tmp_path / "reviews.csv").write_text(f"text,label\n{rows}")
    flags = {
        "teacher": str(tmp_path / "teacher"), "data": str(tmp_path / "reviews.csv"), "layer-selection": "auto",
        "layers": 2, "tune": 2, "epochs": 2.0, "benchmark": False, "cache-dir": str(tmp_path / "cache"),
        "output-dir": str(tmp_path / "out"), "device": "cpu", "seed": 3,
    }  # fmt: skip
    recipe = build({}, flags)
    assert ("tuning", "2 short trials of learning rate, temperature and loss weights first") in plan(recipe).lines()
    run = compress(recipe)
    jsonschema.Draft202012Validator(SCHEMA).validate(run.report)
    found = run.report["tuning"]
    assert len(found["trials"]) == 2
    chosen = found["trials"][found["chosen"]]["values"]
    assert {name: run.report["recipe"]["distill"][name] for name in chosen} == chosen
    assert any(note.startswith("2 short trainings, 2 epochs of ") for note in run.report["notes"])
    assert run.report["stages"]["tune"] > 0

    left = build(read(tmp_path / "out/recipe.toml"), {"output-dir": str(tmp_path / "again")})
    assert left.tune.trials is None
    monkeypatch.setattr(kept, "keep", None)  # nothing is trained again
    again = compress(left)
    assert any(note.startswith("This student was distilled by an earlier run") for note in again.report["notes"])
