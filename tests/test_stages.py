"""One training or two, and a finished first stage that is not repeated."""

import pytest
import torch
from torch import nn

from compressor.artifacts import TrainingCurve
from compressor.recipe import DistillRecipe
from compressor.training.stages import Stage, in_stages, stages_of


class Work:
    """Stands for a training: sets the weight of the model to the number of the call."""

    def __init__(self, model, broken_at=None):
        self._model, self._broken_at, self.calls = model, broken_at, []

    def __call__(self, stage, folder):
        self.calls.append((stage.name, folder))
        if stage.name == self._broken_at:
            raise KeyboardInterrupt
        with torch.no_grad():
            self._model.weight.fill_(stage.epochs)
        return TrainingCurve((1, 2), (0.5, 0.4), ({"step": 2.0, "accuracy": 0.9},))


def test_without_intermediate_epochs_everything_is_taught_at_once():
    assert stages_of(DistillRecipe(epochs=2, hidden_weight=1)) == (Stage("distil", 2, hints=True, answers=True),)


def test_intermediate_epochs_come_first_and_without_answers():
    assert stages_of(DistillRecipe(preset="tinybert", epochs=3)) == (
        Stage("intermediate", 10, hints=True, answers=False),
        Stage("distil", 3, hints=False, answers=True),
    )


def test_a_single_stage_has_the_folder_for_itself(tmp_path):
    model = nn.Linear(1, 1)
    work = Work(model)
    curve = in_stages(model, stages_of(DistillRecipe()), tmp_path, work)
    assert work.calls == [("distil", tmp_path)]
    assert curve.steps == (1, 2)


def test_curves_are_laid_end_to_end(tmp_path):
    model = nn.Linear(1, 1)
    curve = in_stages(model, stages_of(DistillRecipe(preset="minilm")), tmp_path, Work(model))
    assert curve.steps == (1, 2, 3, 4)
    assert [entry["step"] for entry in curve.evaluations] == [2, 4]


def test_a_finished_first_stage_is_not_repeated(tmp_path):
    model, recipe = nn.Linear(1, 1), DistillRecipe(preset="minilm", epochs=1)
    with pytest.raises(KeyboardInterrupt):
        in_stages(model, stages_of(recipe), tmp_path, Work(model, broken_at="distil"))
    again = nn.Linear(1, 1)
    seen = []
    work = Work(again)

    def look(stage, folder):
        seen.append(again.weight.item())
        return work(stage, folder)

    curve = in_stages(again, stages_of(recipe), tmp_path, look)
    assert [name for name, _ in work.calls] == ["distil"]
    assert seen == [3.0]  # what the first stage had left, whose weight is its number of epochs
    assert curve.steps == (1, 2, 3, 4)


def test_stages_have_their_checkpoints_apart(tmp_path):
    model = nn.Linear(1, 1)
    work = Work(model)
    in_stages(model, stages_of(DistillRecipe(preset="minilm")), tmp_path, work)
    folders = [folder for _, folder in work.calls]
    assert len(set(folders)) == 2
    assert all(folder.is_relative_to(tmp_path) and folder != tmp_path for folder in folders)
