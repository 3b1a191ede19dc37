"""Which heads and neurons go next: the least important, or the least important per millisecond saved."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from compressor.recipe import PruneRecipe
from compressor.slimming.latency import LatencyTable, target_ms
from compressor.slimming.units import Units, shares

NEURON_STEP = 16
"""Neurons go in groups of so many: matrix kernels work on blocks of columns, and odd ends cost what a block costs."""

Kind = Literal["heads", "neurons"]

Choice = Callable[[Units, Units, float], Units]
"""(importance, kept so far, share of the whole cut that is due) -> kept from now on, a subset."""


@dataclass(frozen=True, order=True)
class _Chunk:
    """Units of one layer and kind that go together.

    Attributes:
        price: What removing them costs: smaller goes first.
        loss: Sum of their shares of the block's importance.
    """

    price: float
    layer: int
    kind: Kind
    loss: float = field(compare=False)
    units: tuple[int, ...] = field(compare=False)


def choice_for(prune: PruneRecipe, table: LatencyTable | None = None) -> Choice | None:
    """Turn the recipe into a way of choosing; ``None`` where it asks for no structured pruning.

    Without pruned heads the feed-forward nets stay equally wide, because then plain transformers reloads the student.

    Args:
        prune: What is asked for.
        table: Measured latencies; only ``--target-speedup`` needs them.

    Raises:
        RecipeError: The speed asked for is out of reach.
    """
    if prune.target_speedup is not None:
        if table is None:
            raise ValueError("a target speed-up needs measured latencies")
        return by_latency(table, target_ms(table, prune.target_speedup))
    if prune.heads == prune.ffn == 0:
        return None
    return by_share(prune.heads, prune.ffn, even=prune.heads == 0)


def by_share(heads: float, neurons: float, even: bool, step: int = NEURON_STEP) -> Choice:
    """Cut given shares of all heads and of all neurons.

    Heads are ranked over all layers together. Neurons too, unless every layer is to keep the same number of them.

    Args:
        heads: Share of the heads to remove, in 0..1.
        neurons: Share of the neurons to remove, in 0..1.
        even: Remove as many neurons from one layer as from another.
        step: Neurons that go together.
    """
    return partial(_by_share, heads, neurons, even, step)


def by_latency(table: LatencyTable, target_ms: float, step: int = NEURON_STEP) -> Choice:
    """Cut until a model of these layers is as fast as asked for, spending the cut where it buys most.

    Greedy: what goes next is what loses the least importance per millisecond saved, by the table, at the present
    sizes (knapsack by ratio, as in Shen et al. 2022, https://arxiv.org/abs/2110.10811).

    Args:
        table: What layers of every size cost.
        target_ms: What the whole model may cost in the end; at least ``table.least()``.
        step: Neurons that go together.
    """
    return partial(_by_latency, table, target_ms, step)


def sizes(kept: Units) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Count the heads and the neurons that each layer keeps."""
    return tuple(int(mask.sum()) for mask in kept.heads), tuple(int(mask.sum()) for mask in kept.neurons)


def least_neurons(count: int, step: int = NEURON_STEP) -> int:
    """Say how many neurons of a layer always stay: the last group, and what is left over beside whole groups."""
    return (count - 1) % step + 1


def _by_share(heads: float, neurons: float, even: bool, step: int, importance: Units, kept: Units, due: float) -> Units:
    scores = shares(importance)
    after = _remove_share(scores, kept, "heads", range(len(kept.heads)), heads * due, 1)
    layers = range(len(kept.neurons))
    for group in [[layer] for layer in layers] if even else [layers]:
        after = _remove_share(scores, after, "neurons", group, neurons * due, step)
    return after


def _remove_share(scores: Units, kept: Units, kind: Kind, layers: Iterable[int], share: float, step: int) -> Units:
    """Remove the cheapest chunks of some layers until a share of their units is gone."""
    layers = list(layers)
    masks = getattr(kept, kind)
    total = sum(len(masks[layer]) for layer in layers)
    gone = total - sum(int(masks[layer].sum()) for layer in layers)
    queues = [_chunks(scores, kept, kind, layer, step) for layer in layers]
    # Within a queue prices rise, so that the cheapest chunk of all is at the head of one.
    ordered = heapq.merge(*queues)
    chosen = []
    while round(share * total / step) * step > gone and (chunk := next(ordered, None)) is not None:
        chosen.append(chunk)
        gone += len(chunk.units)
    return _without(kept, chosen)


def _by_latency(table: LatencyTable, target_ms: float, step: int, importance: Units, kept: Units, due: float) -> Units:
    scores = shares(importance)
    heads, neurons = (list(counts) for counts in sizes(kept))
    start = table.total([len(mask) for mask in kept.heads], [len(mask) for mask in kept.neurons])
    budget = start - max(0.0, start - target_ms) * due
    queues: dict[tuple[Kind, int], Iterator[_Chunk]] = {}
    for layer in range(len(heads)):
        queues["heads", layer] = _chunks(scores, kept, "heads", layer, 1)
        queues["neurons", layer] = _chunks(scores, kept, "neurons", layer, step)

    def priced(kind: Kind, layer: int) -> _Chunk | None:
        chunk = next(queues[kind, layer], None)
        if chunk is None:
            return None
        count, cost = (heads[layer], table.heads_ms) if kind == "heads" else (neurons[layer], table.neurons_ms)
        saved = cost(count) - cost(count - len(chunk.units))
        return _Chunk(chunk.loss / max(saved, 1e-9), layer, kind, chunk.loss, chunk.units)

    # A layer's price changes only with its own sizes, so each queue needs one entry at a time.
    waiting = [chunk for place in queues if (chunk := priced(*place)) is not None]
    heapq.heapify(waiting)
    chosen = []
    while waiting and table.total(heads, neurons) > budget:
        chunk = heapq.heappop(waiting)
        chosen.append(chunk)
        counts = heads if chunk.kind == "heads" else neurons
        counts[chunk.layer] -= len(chunk.units)
        if (following := priced(chunk.kind, chunk.layer)) is not None:
            heapq.heappush(waiting, following)
    return _without(kept, chosen)


def _chunks(scores: Units, kept: Units, kind: Kind, layer: int, step: int) -> Iterator[_Chunk]:
    """What could go from one layer, the cheapest first; the last ``step`` units never do."""
    mask, found = getattr(kept, kind)[layer], getattr(scores, kind)[layer]
    ranked = np.flatnonzero(mask)[np.argsort(found[mask], kind="stable")]
    stay = least_neurons(len(ranked), step)
    for start in range(0, len(ranked) - stay, step):
        units = ranked[start : start + step]
        loss = float(found[units].sum())
        yield _Chunk(loss / len(units), layer, kind, loss, tuple(int(unit) for unit in units))


def _without(kept: Units, chosen: Iterable[_Chunk]) -> Units:
    after = kept.map(np.copy)
    for chunk in chosen:
        getattr(after, chunk.kind)[chunk.layer][list(chunk.units)] = False
    return after
