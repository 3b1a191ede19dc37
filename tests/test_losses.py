"""Losses against hand-computed values and reference formulas."""

import math

import pytest
import torch
from torch.nn import functional

from compressor.training import losses


def test_soft_label_kl_matches_the_value_computed_by_hand():
    student = torch.tensor([[0.0, 0.0]])
    teacher = torch.tensor([[math.log(3.0) * 2, 0.0]])  # softened by T=2: 3/4 and 1/4
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert losses.soft_label_kl(student, teacher, 2.0).item() == pytest.approx(expected, abs=1e-6)


def test_soft_label_kl_is_zero_only_where_the_distributions_are_equal():
    logits = torch.randn(5, 3)
    assert losses.soft_label_kl(logits + 7.0, logits, 3.0).item() == pytest.approx(0, abs=1e-6)
    assert losses.soft_label_kl(-logits, logits, 3.0).item() > 0.01


def test_soft_label_gradient_keeps_its_size_when_the_temperature_rises():
    teacher = torch.randn(64, 4) * 0.1
    sizes = []
    for temperature in (10.0, 100.0):
        student = torch.zeros(64, 4, requires_grad=True)
        losses.soft_label_kl(student, teacher, temperature).backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_no_gradient_reaches_the_teacher():
    student, teacher = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    losses.soft_label_kl(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_hard_label_is_the_mean_negative_log_probability_of_the_truth():
    logits = torch.randn(6, 3)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    reference = -functional.log_softmax(logits, -1)[torch.arange(6), labels].mean()
    assert torch.allclose(losses.hard_label(logits, labels), reference)


def test_hidden_cosine_ignores_padding():
    student, teacher = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]])
    value = losses.hidden_cosine(student, teacher, mask)
    student[0, 2:], student[1, 3:] = 99.0, -99.0
    assert torch.allclose(losses.hidden_cosine(student, teacher, mask), value)
    reference = 1 - torch.stack([functional.cosine_similarity(student[b, t], teacher[b, t], dim=0)
                                 for b, t in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))])  # fmt: skip
    assert torch.allclose(value, reference.mean())


def test_hidden_cosine_does_not_depend_on_the_length_of_the_vectors():
    teacher = torch.randn(1, 3, 8)
    mask = torch.ones(1, 3, dtype=torch.long)
    assert losses.hidden_cosine(teacher * 5, teacher, mask).item() == pytest.approx(0, abs=1e-6)
    assert losses.hidden_cosine(-teacher, teacher, mask).item() == pytest.approx(2, abs=1e-6)


def test_wrong_shapes_are_refused_under_test():
    with pytest.raises(Exception, match=r"shape|annotation|type"):
        losses.soft_label_kl(torch.randn(2, 3), torch.randn(2, 4), 1.0)
