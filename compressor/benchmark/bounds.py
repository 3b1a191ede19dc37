"""What a model asks of the machine, and the latency that follows from the machine's bounds."""

from __future__ import annotations

from compressor.artifacts import MachineBounds


def encoder_flops(
    layers: int,
    hidden: int,
    intermediate: int,
    batch_size: int,
    sequence_length: int,
    attention: int | None = None,
    *,
    one_token: bool = False,
) -> int:
    """Count the floating-point operations of one forward pass of a BERT-like encoder.

    Two per multiply-accumulate of each layer's linear maps (Q, K, V, output, both of the feed
    forward net) and of the two attention products; embeddings, norms, softmax, pooler and head
    are left out, as in Kaplan et al. 2020 (arXiv:2001.08361, table 1), whose attention term
    counts one of the two products where this counts both (Hoffmann et al. 2022,
    arXiv:2203.15556, appendix F).

    Args:
        layers: Number of encoder layers.
        hidden: Width of the hidden states.
        intermediate: Width of the feed-forward net.
        batch_size: Texts.
        sequence_length: Padded tokens of each.
        attention: Width of all heads together; ``hidden`` unless heads were pruned.
        one_token: The last layer computes keys and values for all tokens, and all else for one token of each text.
    """
    heads = hidden if attention is None else attention
    keys_values = 2 * hidden * heads  # multiply-accumulates per token
    # Query, output and feed-forward net; then Q K^T and the weighting of V.
    others = 2 * hidden * heads + 2 * hidden * intermediate + 2 * sequence_length * heads
    last = 1 if one_token else sequence_length
    per_text = layers * sequence_length * keys_values + ((layers - 1) * sequence_length + last) * others
    return 2 * batch_size * per_text


def floor_ms(flops: float, weight_bytes: float, bounds: MachineBounds) -> float:
    """Bound the latency from below by the roofline model (Williams et al. 2009).

    A call takes at least the arithmetic at the machine's fp32 rate, and at least one pass over
    the weights at its bandwidth. Weights that stay in the cache, and int8 arithmetic, can beat it.

    Returns:
        Milliseconds.
    """
    return max(flops / (bounds.gflops * 1e6), weight_bytes / (bounds.bandwidth * 1e6))
