"""The moving average: it is what is validated, saved and kept, and the training does not notice it."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from compressor.training.ema import TRAINED, WeightAverage, decay_at
from tests import tiny


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


class Recorder(TrainerCallback):
    """Writes down the weights after each step, before the average is shown, and at each evaluation."""

    def __init__(self, model):
        self._model = model
        self.steps, self.evaluated = [], []

    def on_step_end(self, args, state, control, **_):
        self.steps.append(weights(self._model))

    def on_evaluate(self, args, state, control, **_):
        self.evaluated.append(weights(self._model))


def rows(count=24):
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(5, 40, (count, 6), generator=generator)
    return [
        {"input_ids": row, "attention_mask": torch.ones(6, dtype=torch.long), "labels": int(row[0] % 2)}
        for row in words
    ]


def run(folder, decay=0.9, resume=None, **arguments):
    """Train a tiny model for 6 steps: 2 epochs of 3."""
    model = tiny.model("bert", num_hidden_layers=1)
    recorder = Recorder(model)
    settings = {
        "output_dir": str(folder), "num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "seed": 3,
        "use_cpu": True, "eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "log_level": "error", "logging_strategy": "no", "dataloader_pin_memory": False, **arguments,
    }  # fmt: skip
    trainer = Trainer(
        model, TrainingArguments(**settings), train_dataset=rows(), eval_dataset=rows(8),
        callbacks=[recorder, *([WeightAverage(model, decay)] if decay else [])],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return model, recorder, trainer


def averaged(start, steps, decay=0.9):
    """The averages after each step, computed by the formula."""
    found, average = [], start
    for number, trained in enumerate(steps, 1):
        kept = min(decay, (1 + number) / (10 + number))
        average = {name: kept * average[name] + (1 - kept) * trained[name] for name in average}
        found.append(average)
    return found


def assert_close(first, second):
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_the_decay_rises_to_the_one_asked_for():
    assert decay_at(0, 0.999) == 0.1
    assert decay_at(90, 0.999) == 0.91
    assert decay_at(10**6, 0.999) == 0.999


def test_the_model_ends_with_the_average_of_its_steps(tmp_path):
    start = weights(tiny.model("bert", num_hidden_layers=1))
    model, recorder, _ = run(tmp_path)
    assert len(recorder.steps) == 6
    assert_close(weights(model), averaged(start, recorder.steps)[-1])
    assert not torch.allclose(model.classifier.weight, recorder.steps[-1]["classifier.weight"], atol=1e-4)


def test_evaluations_see_the_average_and_the_training_does_not_notice(tmp_path):
    start = weights(tiny.model("bert", num_hidden_layers=1))
    _, recorder, _ = run(tmp_path / "a", eval_strategy="steps", eval_steps=2)
    expected = averaged(start, recorder.steps)
    assert len(recorder.evaluated) == 3
    for seen, due in zip(recorder.evaluated, expected[1::2], strict=True):
        assert_close(seen, due)
    _, plain, _ = run(tmp_path / "b", decay=0, eval_strategy="steps", eval_steps=2)
    assert_equal(recorder.steps[-1], plain.steps[-1])


def test_a_resumed_training_ends_as_if_it_had_not_stopped(tmp_path):
    whole, steps, _ = run(tmp_path / "a", save_strategy="steps", save_steps=2)
    resumed, later, _ = run(tmp_path / "a", save_strategy="steps", save_steps=2, resume=tmp_path / "a" / "checkpoint-2")
    assert_equal(later.steps[0], steps.steps[2])
    assert_equal(weights(resumed), weights(whole))


def test_a_checkpoint_holds_the_average_as_its_model_and_the_weights_proper_beside_it(tmp_path):
    start = weights(tiny.model("bert", num_hidden_layers=1))
    _, recorder, _ = run(tmp_path, save_strategy="steps", save_steps=4)
    folder = tmp_path / "checkpoint-4"
    assert_equal(load_file(folder / TRAINED), recorder.steps[3])
    assert_close(load_file(folder / "model.safetensors"), averaged(start, recorder.steps)[3])


def test_the_best_average_is_kept_where_the_trainer_keeps_the_best(tmp_path):
    model, recorder, trainer = run(
        tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="loss", greater_is_better=True,
    )  # fmt: skip
    best = trainer.state.best_model_checkpoint
    assert best.endswith("checkpoint-3")  # the higher loss is the earlier one
    assert_equal(weights(model), load_file(f"{best}/model.safetensors"))
    assert_equal(weights(model), recorder.evaluated[0])


def test_a_checkpoint_without_weights_proper_begins_a_new_average(tmp_path):
    run(tmp_path, decay=0, save_strategy="steps", save_steps=2)
    start = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    model, recorder, _ = run(tmp_path, resume=tmp_path / "checkpoint-2")
    expected = start
    for number, trained in zip(range(3, 7), recorder.steps, strict=True):
        kept = (1 + number) / (10 + number)
        expected = {name: kept * expected[name] + (1 - kept) * trained[name] for name in expected}
    assert_close(weights(model), expected)


def test_the_average_of_a_pruned_weight_is_0(tmp_path):
    model = tiny.model("bert", num_hidden_layers=1)
    pruned, whole = model.bert.encoder.layer[0].output.dense.weight, model.classifier.weight
    average = WeightAverage(model, 0.9, sparse=[pruned])
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    state, control = TrainerState(), TrainerControl()
    average.on_train_begin(arguments, state, control)
    with torch.no_grad():
        pruned[:5] = 0
        whole[0] = 0
    state.global_step = 1
    average.on_step_end(arguments, state, control)
    average.on_train_end(arguments, state, control)
    assert pruned[:5].abs().max() == 0
    assert pruned[5:].abs().min() > 0
    assert whole[0].abs().max() > 0
