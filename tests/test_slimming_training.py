"""Heads and neurons fall silent while a student learns, and the training can be interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from compressor.architectures import architecture_of
from compressor.slimming.blocks import blocks
from compressor.slimming.plan import by_share, sizes
from compressor.slimming.schedule import RISE_END
from compressor.slimming.slimmer import STATE, Slimmer
from compressor.slimming.surgery import audible
from tests import tiny

STEPS = 24


def rows(count: int, seed: int):
    """Toy reviews as token ids with labels."""
    tokenize = tiny.tokenizer()
    return [
        {**dict(tokenize(text, return_token_type_ids=False)), "labels": int(name == "positive")}
        for text, name in tiny.reviews(count, seed)
    ]


class Interrupted(TrainerCallback):
    """Ends the training as a kill would, once so many steps are in a checkpoint."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_save(self, args, state, control, **_):
        if state.global_step == self._step:
            raise KeyboardInterrupt


def student():
    """Two layers whose weights are large enough for every unit to be felt."""
    model = tiny.model("bert", num_hidden_layers=2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(10)
    return model


def slimmer_for(model, importance="taylor"):
    return Slimmer(model, architecture_of(model.config), by_share(0.5, 0.5, even=False), importance)


def learn(model, slimmer, folder: Path, *more: TrainerCallback) -> None:
    """Two epochs, a checkpoint after every step; an interrupted training found in the folder is continued."""
    arguments = TrainingArguments(
        str(folder), num_train_epochs=2, per_device_train_batch_size=8, learning_rate=3e-3, seed=3, use_cpu=True,
        save_strategy="steps", save_steps=1, report_to="none", disable_tqdm=True, log_level="error",
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows(96, 1), callbacks=[slimmer, *more],
        data_collator=DataCollatorWithPadding(tiny.tokenizer()),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    model.eval()


def logits(model):
    inputs = dict(DataCollatorWithPadding(tiny.tokenizer())(rows(8, 9)))
    inputs.pop("labels")
    with torch.no_grad():
        return model(**inputs).logits


def heard(model):
    return audible(blocks(model, architecture_of(model.config)))


def same(one, other) -> bool:
    pairs = zip((*one.heads, *one.neurons), (*other.heads, *other.neurons), strict=True)
    return all(np.array_equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
def test_half_of_the_units_are_gone_after_training_and_the_answers_stay(importance, tmp_path):
    model = student()
    slimmer = slimmer_for(model, importance)
    learn(model, slimmer, tmp_path)
    heads, neurons = sizes(slimmer.kept)
    assert (sum(heads), sum(neurons)) == (4, 64)
    assert slimmer.finished()
    assert same(heard(model), slimmer.kept)
    before = logits(model)
    assert before.std(0).max() > 0.01  # it tells texts apart
    slimmer.remove()
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)
    assert tuple(block.heads for block in blocks(model, architecture_of(model.config))) == heads


def test_the_hooks_are_gone_after_training(tmp_path):
    model = student()
    learn(model, slimmer_for(model), tmp_path)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_units_fall_silent_little_by_little_and_then_the_student_recovers(tmp_path):
    model = student()
    slimmer = slimmer_for(model)
    counts = []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            counts.append((state.global_step, sum(sizes(heard(model))[0]), slimmer.finished()))

    learn(model, slimmer, tmp_path, Watch())
    left = [count for _, count, _ in counts]
    assert left[0] == 8
    assert left == sorted(left, reverse=True)
    assert len(set(left)) > 2
    assert [step for step, _, done in counts if done] == list(range(int(RISE_END * STEPS), STEPS + 1))


@pytest.mark.parametrize("step", [8, 20])
@pytest.mark.parametrize("state_lost", [False, True])
def test_an_interrupted_training_keeps_its_silent_units(step, state_lost, tmp_path):
    whole, cut_short = student(), student()
    uninterrupted = slimmer_for(whole)
    learn(whole, uninterrupted, tmp_path / "whole")
    first = slimmer_for(cut_short)
    with pytest.raises(KeyboardInterrupt):
        learn(cut_short, first, tmp_path / "short", Interrupted(step))
    if state_lost:
        (tmp_path / "short" / f"checkpoint-{step}" / STATE).unlink()
    again = student()
    second = slimmer_for(again)
    learn(again, second, tmp_path / "short")
    old, new = ((*units.heads, *units.neurons) for units in (first.kept, second.kept))
    assert all((later <= earlier).all() for earlier, later in zip(old, new, strict=True))
    assert sizes(second.kept) == sizes(uninterrupted.kept) or state_lost
    if not state_lost:
        for name, weight in whole.state_dict().items():
            assert torch.equal(weight, again.state_dict()[name]), name
