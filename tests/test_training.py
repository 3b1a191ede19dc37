"""The training engine: it learns, it repeats itself, and it survives being killed."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.utils.data import SequentialSampler

from compressor.errors import ProviderError, StageError
from compressor.events import Note, Progress
from compressor.recipe import DistillRecipe, StudentRecipe
from compressor.student import build_student
from compressor.tasks import TASKS
from compressor.training import engine, losses
from compressor.training.batches import Collator
from compressor.training.distill import objective_for
from compressor.training.engine import TrainingData, TrainingSettings, last_checkpoint, resolve_device, train
from compressor.training.hint_plan import plan_hints
from compressor.training.hints import Hints
from compressor.training.objectives import forward_inputs, supervised
from tests import tiny, training_script
from tests.training_script import tokenized


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(student):
    return {name: tensor.clone() for name, tensor in student.model.state_dict().items()}


def composed(recipe, tutor, student):
    return objective_for(tutor.task, recipe, Hints(plan_hints(recipe, tutor, student), tutor, student, 0))


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_distillation_learns_what_the_teacher_says(tmp_path):
    data = tokenized(train_rows=320, other_rows=60)
    events = []
    recipe = DistillRecipe(epochs=3, batch_size=16, learning_rate=2e-3)
    student, curve = training_script.run(tmp_path, events.append, recipe, data=data)
    assert curve.evaluations[-1]["accuracy"] > 0.9
    assert curve.evaluations[-1]["agreement"] == curve.evaluations[-1]["accuracy"]
    assert curve.losses[-1] < 0.8 * curve.losses[0]
    steps = [event for event in events if isinstance(event, Progress)]
    assert (steps[-1].step, steps[-1].total) == (60, 60)
    assert set(steps[-1].figures) == {"loss", "agreement"}
    assert not student.model.training


def test_a_student_trained_in_bf16_computes_in_fp32_afterwards(tmp_path):
    recipe = DistillRecipe(epochs=1, batch_size=16, precision="bf16")
    student, _ = training_script.run(tmp_path, recipe=recipe)
    fresh = build_student(training_script.teacher(), StudentRecipe(layers=2), 0).model
    fresh.load_state_dict(student.model.state_dict())
    inputs = {"input_ids": torch.tensor([[2, 5, 9, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    with torch.inference_mode():
        assert torch.equal(student.model(**inputs).logits, fresh(**inputs).logits)


def test_hidden_states_are_compared_with_the_end_of_each_span():
    tutor, student = training_script.teacher(), build_student(training_script.teacher(), StudentRecipe(layers=2), 0)
    recipe = DistillRecipe(soft_weight=0, hard_weight=0, hidden_weight=1)
    rows = tokenized(train_rows=6).splits["train"]
    batch = Collator(0)([rows[index] for index in range(6)])
    batch["soft_labels"] = torch.zeros(6, 2)
    loss, _ = composed(recipe, tutor, student)(student.model, batch)
    inputs = forward_inputs(batch)
    with torch.inference_mode():
        ours = student.model(**inputs, output_hidden_states=True).hidden_states
        theirs = tutor.model(**inputs, output_hidden_states=True).hidden_states
    expected = [losses.hidden_cosine(ours[1], theirs[3], inputs["attention_mask"]),
                losses.hidden_cosine(ours[2], theirs[4], inputs["attention_mask"])]  # fmt: skip
    assert loss.item() == pytest.approx((expected[0] + expected[1]).item() / 2, rel=1e-5)
    assert loss.item() > 1e-5


def test_weights_of_the_losses_add_up():
    tutor, student = training_script.teacher(), build_student(training_script.teacher(), StudentRecipe(layers=2), 0)
    rows = tokenized(train_rows=6).splits["train"]
    batch = Collator(0)([rows[index] for index in range(6)])
    batch["soft_labels"] = torch.randn(6, 2)
    alone = [
        composed(DistillRecipe(**weights), tutor, student)(student.model, batch)[0].item()
        for weights in (
            {"soft_weight": 1, "hard_weight": 0}, {"soft_weight": 0, "hard_weight": 1},
            {"soft_weight": 0, "hard_weight": 0, "hidden_weight": 1},
        )
    ]  # fmt: skip
    both = DistillRecipe(soft_weight=5, hard_weight=2, hidden_weight=3)
    together = composed(both, tutor, student)(student.model, batch)[0].item()
    assert together == pytest.approx(5 * alone[0] + 2 * alone[1] + 3 * alone[2], rel=1e-5)


def test_short_rows_are_learnt_with_plain_attention_and_the_model_has_its_own_afterwards(tmp_path):
    data, model, seen = tokenized(train_rows=16), tiny.model("bert"), set()
    learn = supervised(TASKS["single-label"])

    def objective(trained, batch):
        seen.add(trained.config._attn_implementation)
        return learn(trained, batch)

    train(
        model,
        TrainingData(
            data.splits["train"], SequentialSampler(range(16)), data.splits["validation"], Collator(0), longest=64
        ),
        TrainingSettings("fine-tune", 1, 1e-3, 8, 0),
        tmp_path,
        lambda event: None,
        objective,
    )
    assert seen == {"eager"}
    assert model.config._attn_implementation == "sdpa"


def test_one_seed_gives_one_student_bit_for_bit(tmp_path):
    first, _ = training_script.run(tmp_path / "a")
    second, _ = training_script.run(tmp_path / "b")
    assert_equal(weights(first), weights(second))


def test_without_dropout_a_model_that_has_it_learns_as_one_that_has_none(tmp_path):
    data = tokenized(train_rows=32)
    found = {}
    for share, dropout in ((0.5, False), (0.0, True), (0.5, True)):
        model = tiny.model("bert", hidden_dropout_prob=share, attention_probs_dropout_prob=share)
        train(
            model,
            TrainingData(data.splits["train"], SequentialSampler(range(32)), data.splits["validation"], Collator(0)),
            TrainingSettings("fine-tune", 2, 1e-3, 8, 0, dropout=dropout),
            tmp_path / f"{share}-{dropout}",
            lambda event: None,
            supervised(TASKS["single-label"]),
        )
        found[share, dropout] = torch.cat([tensor.flatten().float() for tensor in model.state_dict().values()])
    assert torch.allclose(found[0.5, False], found[0.0, True], atol=1e-5)
    assert not torch.allclose(found[0.5, True], found[0.0, True], atol=1e-3)


def test_accumulated_batches_take_the_same_step_as_one_large_batch(tmp_path):
    # Without dropout and with rows of one length the mean of the means is the mean.
    data = tokenized(train_rows=64)
    rows = data.splits["train"].select([0] * 32)
    found = []
    for batch, accumulated in ((16, 1), (4, 4)):
        model = tiny.model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        train(
            model,
            TrainingData(rows, SequentialSampler(rows), data.splits["validation"], Collator(0)),
            TrainingSettings("fine-tune", 1, 1e-3, batch, 0, gradient_accumulation_steps=accumulated),
            tmp_path / str(batch),
            lambda event: None,
            supervised(TASKS["single-label"]),
        )
        found.append(model.state_dict())
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-5) for name in found[0])


def test_the_weights_kept_are_those_of_the_best_validation_accuracy(tmp_path):
    data = tokenized(train_rows=160, other_rows=40)
    recipe = DistillRecipe(epochs=4, batch_size=16, learning_rate=1e-3)
    student, curve = training_script.run(tmp_path, recipe=recipe, data=data)
    rows = data.splits["validation"]
    batch = Collator(0)([rows[index] for index in range(len(rows))])
    labels = batch.pop("labels")
    with torch.inference_mode():
        accuracy = float((student.model(**batch).logits.argmax(-1) == labels).float().mean())
    assert accuracy == pytest.approx(max(entry["accuracy"] for entry in curve.evaluations))


@pytest.mark.parametrize(("patience", "epochs"), [(2, 3), (None, 6)])
def test_a_training_without_gain_stops_where_patience_was_given(tmp_path, patience, epochs):
    data = tokenized(train_rows=64, other_rows=20)
    recipe = DistillRecipe(epochs=6, batch_size=32, learning_rate=1e-7, patience=patience)
    _, curve = training_script.run(tmp_path, recipe=recipe, data=data)
    assert len(curve.evaluations) == epochs


@pytest.mark.parametrize("name", ["Patience", "EarlyStoppingCallback"])  # of now, and of before it was a class of ours
def test_patience_goes_on_where_an_interrupted_training_left_it(tmp_path, name):
    data = tokenized(train_rows=64, other_rows=20)
    recipe = DistillRecipe(epochs=6, batch_size=32, learning_rate=1e-7, patience=2)
    whole, curve = training_script.run(tmp_path / "whole", recipe=recipe, data=data)
    with pytest.raises(KeyboardInterrupt):
        training_script.run(tmp_path / "again", interrupted_at(5), recipe=recipe, data=data)
    for path in (tmp_path / "again").glob("checkpoint-*/trainer_state.json"):
        path.write_text(path.read_text().replace('"Patience"', f'"{name}"'))
    again, continued = training_script.run(tmp_path / "again", recipe=recipe, data=data)
    assert continued.evaluations == curve.evaluations
    assert_equal(weights(whole), weights(again))


def test_a_training_that_had_run_out_of_patience_before_it_was_killed_is_over(tmp_path):
    data, events = tokenized(train_rows=64, other_rows=20), []
    recipe = DistillRecipe(epochs=6, batch_size=32, learning_rate=1e-7, patience=2)
    whole, curve = training_script.run(tmp_path, recipe=recipe, data=data)
    again, found = training_script.run(tmp_path, events.append, recipe=recipe, data=data)
    assert not [event for event in events if isinstance(event, Progress)]
    assert found == curve
    assert_equal(weights(whole), weights(again))


def test_an_epoch_whose_evaluation_was_interrupted_is_evaluated_again(tmp_path, monkeypatch):
    data = tokenized(train_rows=64, other_rows=20)
    recipe = DistillRecipe(epochs=2, batch_size=16, learning_rate=1e-3, checkpoint_minutes=0)
    _, curve = training_script.run(tmp_path / "whole", recipe=recipe, data=data)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "collect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training_script.run(tmp_path / "again", recipe=recipe, data=data)
    assert training_script.run(tmp_path / "again", recipe=recipe, data=data)[1].evaluations == curve.evaluations


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_diverges_is_not_kept(tmp_path):
    recipe = DistillRecipe(epochs=1, batch_size=16, learning_rate=1e30)
    with pytest.raises(StageError, match="The stage distil diverged") as caught:
        training_script.run(tmp_path, recipe=recipe, data=tokenized(train_rows=64))
    assert "Lower --learning-rate (1e+30 now)" in caught.value.remedy


def interrupted_at(step):
    return lambda event: interrupt() if isinstance(event, Progress) and event.step == step else None


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_pruned_student_is_kept_only_at_its_full_sparsity(tmp_path):
    student, _ = training_script.run(tmp_path, sparsity=0.5)
    matrices = [layer.get_submodule(path).weight for layer in student.model.bert.encoder.layer
                for path in training_script.teacher().architecture.linears]  # fmt: skip
    zeros = sum(int((matrix == 0).sum()) for matrix in matrices)
    assert zeros == round(0.5 * sum(matrix.numel() for matrix in matrices))


@pytest.mark.parametrize("sparsity", [0.5])
def test_a_training_killed_in_the_middle_continues_to_the_same_weights(tmp_path, sparsity):
    whole, _ = training_script.run(tmp_path / "whole", sparsity=sparsity)
    command = [sys.executable, "-m", "tests.training_script", str(tmp_path), str(sparsity)]
    process = subprocess.Popen([*command, "0.05"], env=os.environ | {"PYTHONWARNINGS": "ignore"})
    try:
        deadline = time.monotonic() + 120
        while not any((tmp_path / "training").glob("checkpoint-1[4-9]")):
            assert process.poll() is None, "the training ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    events = []
    again, curve = training_script.run(tmp_path / "training", events.append, sparsity=sparsity)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("Continued distil from step 1" in note for note in notes)
    assert min(event.step for event in events if isinstance(event, Progress)) > 12
    assert_equal(weights(whole), weights(again))
    assert curve.evaluations[0]["step"] == 12


def test_a_checkpoint_that_was_cut_short_is_not_continued_from(tmp_path):
    for step, state in ((10, "{}"), (20, '{"epoch": '), (9, "{}")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-30").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-20").exists()
    assert not (tmp_path / "checkpoint-30").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_an_error_only_where_it_was_asked_for():
    assert resolve_device("auto") == "cpu"
    with pytest.raises(ProviderError, match=r"--device cuda was asked for, but torch .* sees no CUDA device"):
        resolve_device("cuda")
