"""How the tokens of a text relate to each other inside a layer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def attention_scores(
    queries: Float[Tensor, "batch tokens width"], keys: Float[Tensor, "batch tokens width"], heads: int
) -> Float[Tensor, "batch heads tokens tokens"]:
    """Scores before the softmax, ``Q K^T / sqrt(width / heads)`` of each head, without masks and position biases.

    Args:
        queries: What a layer's query product gives, its heads side by side.
        keys: What its key product gives.
        heads: Number of heads; divides the width.
    """
    own, other = _split(queries, heads), _split(keys, heads)  # [batch, heads, tokens, width / heads]
    return own @ other.transpose(-1, -2) / math.sqrt(own.shape[-1])


def attention_mse(
    student: Float[Tensor, "batch heads tokens tokens"],
    teacher: Float[Tensor, "batch heads tokens tokens"],
    mask: Int[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Mean squared difference of attention scores before the softmax, over pairs of tokens that are not padding.

    ``mean_{heads, mask_i = mask_j = 1} (student_ij - teacher_ij)^2`` as in TinyBERT (Jiao et al. 2020,
    https://arxiv.org/abs/1909.10351, equation 7), whose code sets the scores of padded keys to 0 and counts them.

    Args:
        student: Scores of one student layer.
        teacher: Scores of the mapped teacher layer, of as many heads.
        mask: 1 for tokens, 0 for padding.
    """
    distance = (student - teacher.detach()).square().mean(dim=1)  # [batch, tokens, tokens]
    weight = (mask[:, :, None] * mask[:, None, :]).to(distance.dtype)
    return (distance * weight).sum() / weight.sum()


def relation_kl(
    student: Float[Tensor, "batch tokens student_width"],
    teacher: Float[Tensor, "batch tokens teacher_width"],
    mask: Int[Tensor, "batch tokens"],
    relation_heads: int,
) -> Float[Tensor, ""]:
    """KL divergence between self-attention relations: MiniLMv2's loss for one of Q-Q, K-K and V-V.

    The vectors of all attention heads are put side by side and cut into ``relation_heads`` anew, so that student and
    teacher need neither the same number of heads nor the same width. With ``R = softmax(A A^T / sqrt(d))`` for each
    relation head: ``mean_{relation heads, mask_i = 1} sum_j R_T log(R_T / R_S)`` (Wang et al. 2021,
    https://arxiv.org/abs/2012.15828, equations 5 and 6).

    Args:
        student: What the query, key or value product of a student layer gives.
        teacher: The same of a teacher layer.
        mask: 1 for tokens, 0 for padding.
        relation_heads: Divides both widths.
    """
    outside = ~mask.bool()[:, None, None, :]
    log_student = _log_relations(student, relation_heads, outside)  # [batch, relation_heads, tokens, tokens]
    log_teacher = _log_relations(teacher.detach(), relation_heads, outside)
    # Padded keys have probability 0 in both; 0 * (-inf - -inf) would be no number.
    ratio = (log_teacher - log_student).masked_fill(outside, 0)
    divergence = (log_teacher.exp() * ratio).sum(dim=-1).mean(dim=1)  # [batch, tokens]
    weight = mask.to(divergence.dtype)
    return (divergence * weight).sum() / weight.sum()


def _log_relations(
    vectors: Float[Tensor, "batch tokens width"], heads: int, outside: Tensor
) -> Float[Tensor, "batch heads tokens tokens"]:
    scores = attention_scores(vectors, vectors, heads)
    return functional.log_softmax(scores.masked_fill(outside, torch.finfo(scores.dtype).min), dim=-1)


def _split(vectors: Float[Tensor, "batch tokens width"], heads: int) -> Float[Tensor, "batch heads tokens part"]:
    return vectors.reshape(*vectors.shape[:2], heads, -1).transpose(1, 2)
