"""What a model says about the tokens of a text."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def token_kl(
    student: Float[Tensor, "batch tokens labels"],
    teacher: Float[Tensor, "batch tokens labels"],
    mask: Int[Tensor, "batch tokens"],
    temperature: float,
) -> Float[Tensor, ""]:
    """KL divergence between the softened distributions of each token, times T^2.

    ``T^2 * mean_{mask = 1} sum_labels p_T log(p_T / p_S)``: Hinton et al. (2015) with a token for a row.

    Args:
        student: Logits of the student.
        teacher: Logits of the teacher.
        mask: 1 for the tokens that count, 0 for the others; where none counts, the loss is 0.
        temperature: T, above 0.
    """
    chosen = mask.bool()
    return _mean_kl(student[chosen], teacher[chosen], temperature)


def masked_lm_kl(
    student: Float[Tensor, "batch tokens vocabulary"],
    teacher: Float[Tensor, "selected vocabulary"],
    selected: Int[Tensor, "batch tokens"],
    temperature: float,
) -> Float[Tensor, ""]:
    """KL divergence between the softened distributions over the vocabulary at the masked tokens, times T^2.

    The soft labels of DistilBERT's pre-training (Sanh et al. 2019, https://arxiv.org/abs/1910.01108, section 2).

    Args:
        student: Logits of the student, for all tokens.
        teacher: Logits of the teacher for the selected tokens alone, in reading order: whole vocabularies of all
            tokens would not fit.
        selected: 1 for the masked tokens, 0 for the others; where none is, the loss is 0.
        temperature: T, above 0.
    """
    return _mean_kl(student[selected.bool()], teacher, temperature)


def span_kl(
    student: tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]],
    teacher: tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]],
    mask: Int[Tensor, "batch tokens"],
    temperature: float,
) -> Float[Tensor, ""]:
    """KL divergence between the softened distributions of an answer's start and of its end, times T^2; their mean.

    ``T^2 * mean_batch (KL(start_T || start_S) + KL(end_T || end_S)) / 2``, each distribution over the tokens of a
    text: Hinton et al. (2015) with a token for a label. The mean of both as in transformers' own loss.

    Args:
        student: Start and end logits of the student.
        teacher: Start and end logits of the teacher.
        mask: 1 for the tokens where an answer may start or end, 0 for the others; at least one in each row.
        temperature: T, above 0.
    """
    outside = ~mask.bool()
    least = torch.finfo(student[0].dtype).min
    parts = [
        _mean_kl(own.masked_fill(outside, least), other.to(own.dtype).masked_fill(outside, least), temperature)
        for own, other in zip(student, teacher, strict=True)
    ]
    return (parts[0] + parts[1]) / 2


def hard_token_label(
    student: Float[Tensor, "batch tokens labels"], labels: Int[Tensor, "batch tokens"], ignored: int = -100
) -> Float[Tensor, ""]:
    """Cross-entropy with the true labels, mean over the tokens that have one.

    Args:
        student: Logits of the student.
        labels: Label of each token.
        ignored: Label of the tokens that have none; where all tokens have it, the loss is 0.
    """
    total = functional.cross_entropy(student.flatten(0, 1), labels.flatten(), ignore_index=ignored, reduction="sum")
    return total / (labels != ignored).sum().clamp(min=1)


def _mean_kl(
    student: Float[Tensor, "rows labels"], teacher: Float[Tensor, "rows labels"], temperature: float
) -> Float[Tensor, ""]:
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    total = functional.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
    return total / max(1, len(student)) * temperature**2
