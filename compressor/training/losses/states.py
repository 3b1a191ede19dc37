"""Hidden states of two models, token by token. Widths are equal here: a projection is the caller's."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


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


def hidden_mse(
    student: Float[Tensor, "batch tokens hidden"],
    teacher: Float[Tensor, "batch tokens hidden"],
    mask: Int[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Mean squared difference of hidden states or of the embeddings' output, over the tokens that are not padding.

    ``mean_{mask = 1, hidden} (student - teacher)^2`` as in TinyBERT (Jiao et al. 2020,
    https://arxiv.org/abs/1909.10351, equations 8 and 9), whose code counts padding too.

    Args:
        student: Hidden states after one student layer, already projected to the teacher's width.
        teacher: Hidden states after the mapped teacher layer.
        mask: 1 for tokens, 0 for padding.
    """
    distance = (student - teacher.detach()).square().mean(dim=-1)  # [batch, tokens]
    weight = mask.to(distance.dtype)
    return (distance * weight).sum() / weight.sum()


def first_token_mse(
    student: Float[Tensor, "batch tokens hidden"], teacher: Float[Tensor, "batch tokens hidden"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the first tokens ([CLS]), each scaled to length 1.

    ``mean_{batch, hidden} (s / |s| - t / |t|)^2``: the patient loss of PKD (Sun et al. 2019,
    https://arxiv.org/abs/1908.09355, equation 7) as their code has it, with a mean over the hidden size where the
    paper writes a sum; their weight beta (500) is meant for this form.

    Args:
        student: Hidden states after one student layer, already projected to the teacher's width.
        teacher: Hidden states after the mapped teacher layer.
    """
    own = functional.normalize(student[:, 0], dim=-1)  # [batch, hidden]
    return functional.mse_loss(own, functional.normalize(teacher[:, 0].detach(), dim=-1))
