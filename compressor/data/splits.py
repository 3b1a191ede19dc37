"""Stratified, seeded choices of rows: samples, and the splits that a dataset lacks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compressor.errors import DataError

Ids = npt.NDArray[np.int64]


def stratified_sample(labels: Ids, rows: int, seed: int) -> Ids:
    """Choose rows so that each label keeps its share, and at least one row.

    Args:
        labels: Label ids, shape (n,).
        rows: How many to choose; all n where that is fewer.
        seed: Same seed, same choice.

    Returns:
        Indices in rising order, int64 of shape (min(rows, n),).

    Raises:
        DataError: ``rows`` is fewer than the labels.
    """
    if rows >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    values, counts = np.unique(labels, return_counts=True)
    if rows < len(values):
        raise DataError(
            f"A sample of {rows} rows cannot hold all {len(values)} labels.", f"Ask for at least {len(values)} rows."
        )
    generator = np.random.default_rng((seed, 1))
    quotas = apportion(counts, rows, least=1)
    chosen = [
        generator.permutation(np.flatnonzero(labels == value))[:quota]
        for value, quota in zip(values, quotas, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def hold_out(texts: Sequence[str], labels: Ids, rows: int, seed: int) -> npt.NDArray[np.bool_]:
    """Choose about ``rows`` rows to hold out, stratified by label.

    Equal texts go to the same side, so that nothing is tested that was learnt by heart, and every label keeps a row
    on the training side. Where these two forbid it, fewer rows are held out.

    Args:
        texts: One per row.
        labels: Label ids, shape (n,).
        rows: How many rows to hold out, at least 1.
        seed: Same seed, same choice.

    Returns:
        True for the rows to hold out, shape (n,).

    Raises:
        DataError: Not one row can be held out.
    """
    groups: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(text, []).append(index)
    counts = np.bincount(labels)
    left = counts.copy()
    quotas = apportion(counts, min(rows, len(labels)), least=0)
    held = np.zeros(len(labels), dtype=np.bool_)
    members = list(groups.values())
    for position in np.random.default_rng((seed, 2)).permutation(len(members)):
        group = members[int(position)]
        own = int(labels[group[0]])
        loss = np.bincount(labels[group], minlength=len(counts))
        if len(group) <= quotas[own] and np.all((left - loss >= 1) | (loss == 0)):
            held[group] = True
            left -= loss
            quotas[own] -= len(group)
    if not held.any():
        several = np.count_nonzero(counts)
        raise DataError(
            f"{len(labels)} rows{f' of {several} labels' if several > 1 else ''} are too few to hold rows out.",
            "Give validation and test data in files of their own, or more rows.",
        )
    return held


def apportion(counts: npt.NDArray[np.int64], total: int, least: int) -> npt.NDArray[np.int64]:
    """Divide ``total`` seats by ``counts``: largest remainders (Hamilton's method), but ``least`` for each.

    Args:
        counts: Rows of each label, shape (labels,), with sum >= ``total`` >= labels * ``least``.
        total: Seats in all.
        least: Seats that each label has for certain (its count, where that is lower), taken from the largest.

    Returns:
        Seats, shape (labels,), sum = ``total``, none above its count.
    """
    share = counts * total / max(1, counts.sum())
    seats: npt.NDArray[np.int64] = np.floor(share).astype(np.int64)
    order = np.argsort(-(share - seats), kind="stable")
    seats[order[: total - int(seats.sum())]] += 1
    floor = np.minimum(counts, least)
    for poor in np.flatnonzero(seats < floor):
        seats[np.argmax(seats)] -= floor[poor] - seats[poor]
        seats[poor] = floor[poor]
    return seats
