"""Layer choice by trying: the candidates, their scores, and a teacher that is whole again."""

import pytest
import torch
from torch import nn

from compressor import rehearsal
from compressor.architectures import architecture_of
from compressor.artifacts import Teacher
from compressor.errors import RecipeError
from compressor.events import Note, Progress
from compressor.recipe import DistillRecipe, StudentRecipe
from compressor.rehearsal import STEPS, rehearse, sample
from compressor.scouting import Choice, Scouting, assess, describe, drop_greedily, only_layers, remembered, scout
from compressor.student import build_student
from compressor.tasks import TASKS
from compressor.training import losses
from compressor.training.batches import Collator
from tests import tiny, training_script


def teacher(model_type="bert", **changes):
    model = tiny.model(model_type, **changes)
    return Teacher("tiny", None, model, tiny.tokenizer(model_type), architecture_of(model.config),
                   ("negative", "positive"), 64, "f", False)  # fmt: skip


def material(tutor, model_type="bert"):
    """Two batches of unequal size, with the teacher's answers."""
    texts = [text for text, _ in tiny.reviews(10)]
    tokenizer = tiny.tokenizer(model_type)
    batches = [dict(tokenizer(part, padding=True, return_tensors="pt")) for part in (texts[:6], texts[6:])]
    with torch.inference_mode():
        return [{**batch, "soft_labels": tutor.model(**batch).logits} for batch in batches]


def inputs(batch):
    return {name: tensor for name, tensor in batch.items() if name != "soft_labels"}


def silence(tutor, *layers):
    """Make layers of a bert teacher pass on what they receive, all but unchanged."""
    for layer in layers:
        block = tutor.model.bert.encoder.layer[layer]
        for part in (block.attention.output.dense, block.output.dense):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)


def loud(**changes):
    return teacher(initializer_range=0.3, **changes)


def test_the_greedy_search_drops_what_hurts_least_first():
    asked = []

    def score(layers):
        asked.append(layers)
        return {"loss": sum(10.0**layer for layer in range(4) if layer not in layers)}

    assert drop_greedily(score, 2, 4) == (2, 3)
    assert asked[:4] == [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]
    assert len(asked) == 4 + 3


def test_the_greedy_search_spares_a_layer_that_has_to_stay():
    assert drop_greedily(lambda layers: {"loss": -float(sum(layers))}, 2, 4, first=0) == (0, 3)


def test_layers_that_do_nothing_are_left_out():
    tutor = loud()
    silence(tutor, 1, 2)
    found = scout(tutor, 2, material(tutor))
    assert found.chosen.layers == (0, 3)
    assert "greedy" in found.chosen.names
    assert found.chosen.loss < 1e-6
    assert found.chosen.cut["agreement"] == 1


def test_every_rule_is_tried_once_and_ranked_by_its_loss():
    tutor = loud()
    found = scout(tutor, 2, material(tutor))
    names = [name for choice in found.choices for name in choice.names]
    assert sorted(names) == ["alternate", "first", "greedy", "last", "spaced"]
    assert len({choice.layers for choice in found.choices}) == len(found.choices)
    found_losses = [choice.loss for choice in found.choices]
    assert found_losses == sorted(found_losses)
    assert found.texts == 10


def test_scores_are_those_of_a_student_built_from_these_layers():
    tutor = loud()
    batches = material(tutor)
    answers = torch.cat([batch["soft_labels"] for batch in batches])
    for choice in scout(tutor, 2, batches).choices:
        built = build_student(tutor, StudentRecipe(layers=",".join(map(str, choice.layers))), 0).model
        with torch.inference_mode():
            found = torch.cat([built(**inputs(batch)).logits for batch in batches])
        expected = losses.soft_label_kl(found, answers, 1.0).item()
        assert choice.cut["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("model_type", sorted(set(tiny.CONFIGS) - {"albert"}))
def test_the_teacher_of_every_family_is_cut_and_whole_again(model_type):
    tutor = teacher(model_type, initializer_range=0.3)
    batch = material(tutor, model_type)[0]
    given, answers = inputs(batch), batch["soft_labels"]
    before = dict(tutor.model.named_parameters())
    with torch.inference_mode():
        with only_layers(tutor, (0, 3)):
            cut = tutor.model(**given).logits
        assert not torch.allclose(cut, answers, atol=1e-5)
        assert torch.equal(tutor.model(**given).logits, answers)
    after = dict(tutor.model.named_parameters())
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)


def test_a_teacher_is_whole_again_after_a_failure():
    tutor = teacher()
    with pytest.raises(KeyboardInterrupt), only_layers(tutor, (0,)):
        raise KeyboardInterrupt
    assert len(tutor.model.bert.encoder.layer) == 4


def test_a_short_distillation_decides_where_there_is_one():
    tutor = loud()
    batches = material(tutor)
    by_cut = scout(tutor, 2, batches)
    worst = by_cut.choices[-1].layers
    tried = []

    def train_briefly(layers):
        tried.append(layers)
        return tutor.model if layers == worst else build_student(tutor, StudentRecipe(layers=(0,)), 0).model

    found = scout(tutor, 2, batches, train_briefly)
    assert found.chosen.layers == worst
    assert found.chosen.trained["loss"] == pytest.approx(0, abs=1e-6)
    assert found.chosen.cut == by_cut.choices[-1].cut
    assert sorted(tried) == sorted(choice.layers for choice in by_cut.choices)


def test_a_single_candidate_is_not_trained():
    tutor = teacher()

    def train_briefly(layers):
        raise AssertionError

    found = scout(tutor, 4, material(tutor), train_briefly)
    assert [choice.layers for choice in found.choices] == [(0, 1, 2, 3)]


def test_a_family_whose_first_layer_is_special_keeps_it():
    tutor = teacher("modernbert")
    found = scout(tutor, 2, material(tutor, "modernbert"))
    assert all(choice.layers[0] == 0 for choice in found.choices)
    assert {name for choice in found.choices for name in choice.names} == {
        "alternate",
        "spaced",
        "first",
        "last",
        "greedy",
    }


def test_what_cannot_be_scouted_is_refused():
    tutor = teacher("albert")
    with pytest.raises(RecipeError, match="--layer-selection auto: all layers of tiny are one and the same"):
        scout(tutor, 2, material(tutor, "albert"))
    with pytest.raises(RecipeError, match="--layers 5: the teacher has 4 layers"):
        scout(teacher(), 5, [])


def test_the_listener_hears_every_step_and_the_ranking():
    tutor, events = loud(), []
    found = scout(tutor, 2, material(tutor), listen=events.append)
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.step for step in steps] == list(range(1, steps[-1].total + 1))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [describe(found)]
    chosen = ",".join(map(str, found.chosen.layers))
    assert notes[0].startswith(
        f"Layers {chosen} were chosen by the loss against the teacher's answers on 10 validation texts right after"
    )


def test_a_model_is_left_in_the_mode_that_it_was_in():
    tutor = teacher()
    tutor.model.train()
    first, second = (assess(tutor.model, tutor.task, material(teacher(seed=1))) for _ in range(2))
    assert first == second
    assert tutor.model.training


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_students_for_every_kind_of_task_are_judged_by_the_loss_of_its_answers(kind):
    tutor, data = training_script.teacher(kind), training_script.tokenized(kind=kind)
    batches = sample(data, training_script.answers(data), Collator(0), seed=0)
    assert sum(len(batch["input_ids"]) for batch in batches) == 24
    other = tiny.model("bert", kind=kind, seed=5)
    own, strange = (assess(model, TASKS[kind], batches)["loss"] for model in (tutor.model, other))
    assert strange != own
    if kind in ("token-classification", "question-answering", "regression", "feature-extraction"):
        assert own == pytest.approx(0, abs=1e-6)
        assert strange > 10 * abs(own)


def test_a_sample_is_the_same_for_the_same_seed_and_holds_the_answers_of_its_rows():
    data = training_script.tokenized()
    said = training_script.answers(data)
    first, second, other = (sample(data, said, Collator(0), seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for one, two in zip(first, second, strict=True) for name in one)
    assert not torch.equal(first[0]["labels"], other[0]["labels"])
    for batch in first:
        assert torch.equal(batch["soft_labels"].argmax(-1), batch["labels"])


def test_a_rehearsal_trains_a_student_of_these_layers_and_the_same_one_again():
    data = training_script.tokenized(train_rows=240)
    recipe = DistillRecipe(batch_size=8, learning_rate=1e-2)
    tutor, said = training_script.teacher(), training_script.answers(data)
    train_briefly = rehearse(tutor, data, said, Collator(0), recipe, seed=4, device="cpu")
    first, second = train_briefly((0, 3)), train_briefly((0, 3))
    batches = sample(data, said, Collator(0), 0)
    fresh = build_student(tutor, StudentRecipe(layers=(0, 3)), 4).model
    assert first.config.num_hidden_layers == 2
    assert assess(first, data.task, batches)["loss"] < assess(fresh, data.task, batches)["loss"]
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))


def test_a_rehearsal_is_short_and_in_one_stage(monkeypatch):
    data, asked = training_script.tokenized(train_rows=3 * STEPS), []
    monkeypatch.setattr(rehearsal, "distill", lambda *given, **named: asked.append(given))
    recipe = DistillRecipe(preset="minilm", batch_size=2, epochs=50, ema=0.9)
    said = training_script.answers(data)
    rehearse(training_script.teacher(), data, said, Collator(0), recipe, seed=4, device="cpu")((0,))
    _, _, part, heard, _, brief, _ = asked[0]
    rows = part.splits["train"]
    assert len(rows) == len(heard["train"]) == 2 * STEPS
    assert list(heard["train"].values.argmax(-1)) == rows["labels"]
    assert (brief.epochs, brief.intermediate_epochs, brief.ema) == (1, 0, 0)
    assert (brief.relation_weight, brief.soft_weight, brief.batch_size) == (1, 0.9, 2)


def test_what_was_found_is_not_searched_again(tmp_path):
    found = Scouting(
        (Choice(("first", "greedy"), (0, 1), {"loss": 0.5}, {"loss": 0.25}), Choice(("last",), (2, 3), {"loss": 1.0})),
        7,
    )
    calls, notes = [], []

    def search():
        calls.append(1)
        return found

    path = tmp_path / "layers" / "key.json"
    assert remembered(path, search) == found
    assert remembered(path, search, notes.append) == found
    assert len(calls) == 1
    assert notes == [Note(describe(found))]
    path.write_text('{"choices": [')
    assert remembered(path, search) == found
    assert len(calls) == 2
