"""Magnitude pruning: schedule, masks, and that they hold."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from compressor.architectures import ARCHITECTURES, architecture_of
from compressor.events import ignore
from compressor.recipe import DistillRecipe, PruneRecipe
from compressor.slimming.plan import choice_for
from compressor.slimming.schedule import RISE_END, rise
from compressor.training.batches import Collator
from compressor.training.distill import distill
from compressor.training.prune import MagnitudePruner, encoder_weights, magnitude_masks
from tests import tiny, training_script


def test_masks_remove_the_smallest_weights_of_all_matrices_together():
    small = nn.Parameter(torch.tensor([[0.1, -0.2], [0.3, 5.0]]))
    large = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.05]]))
    masks = magnitude_masks([small, large], 0.5)
    assert masks[0].tolist() == [[False, False], [False, True]]
    assert masks[1].tolist() == [[True, True], [True, False]]


def test_what_will_be_cut_off_neither_counts_nor_is_chosen():
    weight = nn.Parameter(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.1, -0.2, 0.3, 5.0]]))
    left = torch.tensor([[False] * 4, [True] * 4])
    (mask,) = magnitude_masks([weight], 0.5, {id(weight): left})
    assert mask.tolist() == [[True] * 4, [False, False, True, True]]


@pytest.mark.parametrize("slim", [{"ffn": 0.5}, {"ffn": 0.75, "heads": 0.5}])
def test_the_share_of_zeros_is_that_of_the_student_that_ships(slim, tmp_path):
    data, tutor = training_script.tokenized(64, 8), training_script.teacher()
    prune, pupil = PruneRecipe(sparsity=0.4, **slim), training_script.student_of(tutor)
    distill(
        tutor, pupil, data, training_script.answers(data), Collator(0),
        DistillRecipe(epochs=4, batch_size=8, learning_rate=1e-3), prune, slim=choice_for(prune), seed=3, device="cpu",
        folder=tmp_path, listen=ignore,
    )  # fmt: skip
    weights = encoder_weights(pupil.model, tutor.architecture)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros == round(0.4 * sum(weight.numel() for weight in weights))


def test_no_sparsity_removes_nothing():
    assert magnitude_masks([nn.Parameter(torch.randn(3, 3))], 0.0)[0].all()


def test_schedule_is_cubic_between_its_ends():
    assert 0.8 * rise(0.0) == 0
    assert 0.8 * rise(0.4) == pytest.approx(0.8 * (1 - 0.5**3))  # half of the rise
    assert 0.8 * rise(RISE_END) == pytest.approx(0.8)
    assert 0.8 * rise(1.0) == pytest.approx(0.8)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_product_of_every_layer_is_pruned(model_type):
    model = tiny.model(model_type)
    weights = encoder_weights(model, architecture_of(model.config))
    linear = [module.weight for module in model.get_submodule(architecture_of(model.config).layers).modules()
              if isinstance(module, nn.Linear)]  # fmt: skip
    assert {id(weight) for weight in weights} == {id(weight) for weight in linear}
    assert len(weights) == len(linear)


def _train(pruner, weights, steps, start=0, max_steps=100):
    for step in range(start + 1, start + steps + 1):
        with torch.no_grad():
            for weight in weights:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(step)) * 0.01)
        pruner.on_step_end(None, SimpleNamespace(global_step=step, max_steps=max_steps), None)


def _weights():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(20, 20)) for _ in range(3)]


def test_the_full_sparsity_is_reached_and_holds_to_the_end():
    weights = _weights()
    pruner = MagnitudePruner(weights, 0.4)
    _train(pruner, weights, 69)
    assert not pruner.finished()
    _train(pruner, weights, 1, start=69)
    assert pruner.finished()
    zeros = [weight == 0 for weight in weights]
    assert sum(int(zero.sum()) for zero in zeros) == round(0.4 * 1200)
    _train(pruner, weights, 30, start=70)
    assert all(torch.equal(zero, weight == 0) for zero, weight in zip(zeros, weights, strict=True))


@pytest.mark.parametrize("killed_after", [13, 47, 70, 85])
def test_a_pruning_that_is_continued_ends_with_the_same_weights(killed_after):
    whole, cut = _weights(), _weights()
    _train(MagnitudePruner(whole, 0.6), whole, 100)
    _train(MagnitudePruner(cut, 0.6), cut, killed_after)
    again = MagnitudePruner(cut, 0.6)
    again.on_train_begin(None, SimpleNamespace(global_step=killed_after, max_steps=100), None)
    _train(again, cut, 100 - killed_after, start=killed_after)
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=True))
