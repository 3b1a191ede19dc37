"""Sentence embeddings of two models, and how the texts of a batch lie to each other in them."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional


def embedding_mse(student: Float[Tensor, "batch width"], teacher: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """Mean squared difference of embeddings (Reimers and Gurevych 2020, https://arxiv.org/abs/2004.09813, section 2).

    Args:
        student: Embeddings of the student, already projected to the teacher's width.
        teacher: Embeddings of the teacher.
    """
    return functional.mse_loss(student, teacher.detach())


def embedding_cosine(student: Float[Tensor, "batch width"], teacher: Float[Tensor, "batch width"]) -> Float[Tensor, ""]:
    """Cosine distance of embeddings, ``mean_batch (1 - cos(student, teacher))``."""
    return (1 - functional.cosine_similarity(student, teacher.detach(), dim=-1)).mean()


def similarity_mse(
    student: Float[Tensor, "batch student_width"], teacher: Float[Tensor, "batch teacher_width"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the cosines between the texts of a batch; widths may differ.

    ``mean_{i != j} (cos(s_i, s_j) - cos(t_i, t_j))^2``: the similarity-preserving loss of Tung and Mori (2019,
    https://arxiv.org/abs/1907.09682), with cosines where they normalise the rows of the Gram matrix, and without the
    diagonal, which is equal in both. A batch of one text gives 0.
    """
    difference = _cosines(student) - _cosines(teacher.detach())
    return difference[_pairs(difference)].square().sum() / max(1, len(student) * (len(student) - 1))


def _cosines(embeddings: Float[Tensor, "batch width"]) -> Float[Tensor, "batch batch"]:
    unit = functional.normalize(embeddings, dim=-1)
    return unit @ unit.T


def _pairs(matrix: Float[Tensor, "batch batch"]) -> Bool[Tensor, "batch batch"]:
    return ~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
