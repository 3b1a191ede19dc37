"""What a model says about a whole text: one row of logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def soft_label_kl(
    student: Float[Tensor, "batch labels"],
    teacher: Float[Tensor, "batch labels"],
    temperature: float,
    standardize: bool = False,
) -> Float[Tensor, ""]:
    """KL divergence between the softened distributions, times T^2.

    ``T^2 * mean_batch sum_labels p_T log(p_T / p_S)`` with ``p = softmax(logits / T)``. The factor keeps
    the gradient's size independent of T (Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2).

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher; no gradient flows into them.
        temperature: T, above 0.
        standardize: Compare the z-scores of both rows instead, see ``standardized``.

    Raises:
        ValueError: Fewer than 3 labels are to be standardised.
    """
    if standardize:
        student, teacher = standardized(student), standardized(teacher)
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    return functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def standardized(logits: Float[Tensor, "batch labels"]) -> Float[Tensor, "batch labels"]:
    """Bring each row to mean 0 and standard deviation 1, so that only the relations of the logits are compared.

    ``(logits - mean) / (deviation + 1e-7)`` over the labels of each row (Sun et al. 2024, "Logit Standardization in
    Knowledge Distillation", https://arxiv.org/abs/2403.01427, algorithm 1). The deviation divides by the number of
    labels K. The authors' code divides by K - 1, which is a temperature higher by ``sqrt(K / (K - 1))``.

    Raises:
        ValueError: Fewer than 3 labels: both z-scores of a row would be +1 and -1 whatever the logits are, and no
            gradient would be left.
    """
    if logits.shape[-1] < 3:
        raise ValueError(f"logits of {logits.shape[-1]} labels cannot be standardised: no gradient would be left")
    centred = logits - logits.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + 1e-7)


def logit_mse(student: Float[Tensor, "batch labels"], teacher: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    """Mean squared difference of the logits (Ba and Caruana 2014, https://arxiv.org/abs/1312.6184, section 2.2)."""
    return functional.mse_loss(student, teacher.detach())


def hard_label(student: Float[Tensor, "batch labels"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Cross-entropy with the true labels, mean over the batch; a row without label, -100, adds 0 to it."""
    return functional.cross_entropy(student, labels, ignore_index=-100, reduction="sum") / len(labels)


def soft_label_bce(
    student: Float[Tensor, "batch labels"], teacher: Float[Tensor, "batch labels"], temperature: float
) -> Float[Tensor, ""]:
    """Binary cross-entropy with the teacher's softened probabilities, for labels that do not exclude each other.

    ``T^2 * mean_{batch, labels} -(p_T log p_S + (1 - p_T) log(1 - p_S))`` with ``p = sigmoid(logits / T)``: the soft
    labels of Hinton et al. (2015) for each label alone. Its least value, at equal logits, is the teacher's entropy.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher.
        temperature: T, above 0.
    """
    target = (teacher.detach() / temperature).sigmoid()
    return functional.binary_cross_entropy_with_logits(student / temperature, target) * temperature**2


def hard_label_bce(student: Float[Tensor, "batch labels"], labels: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    """Binary cross-entropy with the true labels, 0 or 1 each; mean over batch and labels, to which NaN adds 0."""
    known = (~labels.isnan()).to(student.dtype)
    return functional.binary_cross_entropy_with_logits(student, labels.nan_to_num(), weight=known)


def regression_mse(student: Float[Tensor, "*rows"], teacher: Float[Tensor, "*rows"]) -> Float[Tensor, ""]:
    """Mean squared difference of the values that both predict."""
    return functional.mse_loss(student, teacher.detach())


def agreement(student: Float[Tensor, "batch labels"], teacher: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    """Share of rows in which both would answer the same label."""
    return (student.argmax(-1) == teacher.argmax(-1)).to(torch.float32).mean()
