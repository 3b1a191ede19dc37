"""DeBERTa's attention, written so that it exports well: the same numbers, in a form that onnxruntime can fuse.

As transformers writes it, batch and heads share one axis, the table of projected positions is copied for every text of
the batch, and the logarithmic buckets of distances are computed for every pair of tokens, where the rounding of a
logarithm can put a pair into the next bucket. Here heads have an axis of their own, the table is broadcast, and buckets
are looked up by distance. The export compares the result with transformers' own form, as for any model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.models.deberta_v2 import modeling_deberta_v2 as original


@contextmanager
def exportable(model: Any) -> Iterator[None]:
    """Let DeBERTa compute its attention in the form above while the block runs.

    Args:
        model: For the sizes of its buckets.
    """
    encoder = model.get_submodule("deberta.encoder")
    sizes = getattr(encoder, "position_buckets", -1), getattr(encoder, "max_relative_positions", -1)
    farthest = model.config.max_position_embeddings
    distances = torch.arange(-farthest, farthest + 1)
    table = original.make_log_bucket_position(distances, *sizes).long() if min(sizes) > 0 else distances

    def bucket(relative_pos: Tensor, bucket_size: int, max_position: int) -> Tensor:
        return table.index_select(0, (relative_pos + farthest).flatten()).view_as(relative_pos)

    replaced: tuple[tuple[Any, str, Any], ...] = (
        (original.DisentangledSelfAttention, "forward", _attend),
        (original.DebertaV2Encoder, "get_attention_mask", _key_mask),
        (original, "make_log_bucket_position", bucket),
    )
    before = [getattr(owner, name) for owner, name, _ in replaced]
    for owner, name, function in replaced:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for (owner, name, _), function in zip(replaced, before, strict=True):
            setattr(owner, name, function)


def _key_mask(encoder: Any, attention_mask: Tensor) -> Tensor:
    """Hide padded keys; what a padded query sees does not matter. [b, s] -> [b, 1, 1, s]."""
    return attention_mask[:, None, None, :]


def _attend(
    attention: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> tuple[Tensor, None]:
    """Stand in for ``DisentangledSelfAttention.forward``, without dropout."""

    def split(states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], attention.num_attention_heads, -1).transpose(1, 2)  # [b, n, s, d]

    queries = hidden_states if query_states is None else query_states
    query, key = split(attention.query_proj(queries)), split(attention.key_proj(hidden_states))
    value = split(attention.value_proj(hidden_states))
    kinds = attention.pos_att_type if attention.relative_attention else ()
    scale = (query.shape[-1] * (1 + ("c2p" in attention.pos_att_type) + ("p2c" in attention.pos_att_type))) ** -0.5
    scores = query @ key.transpose(-1, -2) * scale
    if kinds and relative_pos is not None and rel_embeddings is not None:
        span = attention.pos_ebd_size
        positions = rel_embeddings[: 2 * span].unsqueeze(0)
        own = attention.share_att_key
        bias: Any = 0
        if "c2p" in kinds:
            table = split((attention.key_proj if own else attention.pos_key_proj)(positions))  # [1, n, 2k, d]
            bias = bias + _looked_up(query @ table.transpose(-1, -2), relative_pos + span)
        if "p2c" in kinds:
            table = split((attention.query_proj if own else attention.pos_query_proj)(positions))
            bias = bias + _looked_up(key @ table.transpose(-1, -2), span - relative_pos).transpose(-1, -2)
        scores = scores + bias * scale
    hidden = torch.finfo(scores.dtype).min
    scores = scores + torch.where(attention_mask.bool(), 0.0, hidden)
    context = scores.softmax(dim=-1) @ value
    return context.transpose(1, 2).flatten(2), None


def _looked_up(scores: Tensor, buckets: Tensor) -> Tensor:
    """Take for each pair of tokens the score of its bucket: [b, n, s, 2k] and [1, s, s] -> [b, n, s, s]."""
    index = buckets.clamp(0, scores.shape[-1] - 1).unsqueeze(1)
    return scores.gather(-1, index.expand(scores.shape[0], scores.shape[1], -1, -1))
