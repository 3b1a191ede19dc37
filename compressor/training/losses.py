"""Losses of knowledge distillation: pure functions of tensors, every mask explicit.

Shapes are part of the types; the tests check them at run time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def soft_label_kl(
    student: Float[Tensor, "batch labels"], teacher: Float[Tensor, "batch labels"], temperature: float
) -> Float[Tensor, ""]:
    """KL divergence between the softened distributions, times T^2.

    ``T^2 * mean_batch sum_labels p_T log(p_T / p_S)`` with ``p = softmax(logits / T)``. The factor keeps
    the gradient's size independent of T (Hinton et al. 2015, https://arxiv.org/abs/1503.02531, section 2).

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher; no gradient flows into them.
        temperature: T, above 0.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    return functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def hard_label(student: Float[Tensor, "batch labels"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Cross-entropy with the true labels, mean over the batch."""
    return functional.cross_entropy(student, labels)


def hidden_cosine(
    student: Float[Tensor, "batch tokens hidden"],
    teacher: Float[Tensor, "batch tokens hidden"],
    mask: Int[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Cosine distance between hidden states, mean over the tokens that are not padding.

    ``mean_{mask = 1} (1 - cos(student, teacher))`` as in DistilBERT (Sanh et al. 2019,
    https://arxiv.org/abs/1910.01108, section 3).

    Args:
        student: Hidden states after one student layer.
        teacher: Hidden states after the mapped teacher layer, of the same width.
        mask: 1 for tokens, 0 for padding.
    """
    distance = 1 - functional.cosine_similarity(student, teacher.detach(), dim=-1)  # [batch, tokens]
    weight = mask.to(distance.dtype)
    return (distance * weight).sum() / weight.sum()


def agreement(student: Float[Tensor, "batch labels"], teacher: Float[Tensor, "batch labels"]) -> float:
    """Share of rows in which both would answer the same label."""
    return float((student.argmax(-1) == teacher.argmax(-1)).to(torch.float32).mean())
