"""Timing one cell inside a measuring process: warm-up until steady, then whole passes."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from compressor.benchmark.plan import Budget
from compressor.collector import uncollected

Feed = TypeVar("Feed")
Clock = Callable[[], int]

# Two neighbouring windows of calls whose medians differ by less are the steady state.
STEADY_WINDOW = 5
STEADY_TOLERANCE = 0.05


@dataclass(frozen=True)
class Timing:
    """The calls of one cell in one process.

    Attributes:
        samples: Milliseconds of each timed call.
        warmup_calls: Calls made before.
        steady: False where the calls had not settled when the timing began; True as well where
            settling cannot be watched: too few calls, or feeds of different sizes.
    """

    samples: tuple[float, ...]
    warmup_calls: int
    steady: bool


def time_cell(
    call: Callable[[Feed], object],
    feeds: Sequence[Feed],
    budget: Budget,
    size_of: Callable[[Feed], int],
    clock: Clock = time.perf_counter_ns,
) -> Timing:
    """Time a call over the feeds of a cell.

    Whole passes over the feeds are timed, so that every model sees every feed equally often. The
    garbage collector is off meanwhile.

    Args:
        call: What is timed.
        feeds: Its arguments, in turn.
        budget: How long to warm up and to time.
        size_of: Orders the warm-up: the largest feed first, because it makes memory grow most.
        clock: Nanoseconds.
    """
    warm, steady = _warm_up(call, sorted(feeds, key=size_of, reverse=True), budget, clock)
    samples: list[float] = []
    gc.collect()
    with uncollected():
        start = clock()
        while True:
            for feed in feeds:
                before = clock()
                call(feed)
                samples.append((clock() - before) / 1e6)
            enough = len(samples) >= budget.min_calls and (clock() - start) / 1e9 >= budget.timed_seconds
            if enough or len(samples) >= max(budget.max_calls, budget.min_calls):
                return Timing(tuple(samples), warm, steady)


def _warm_up(call: Callable[[Feed], object], feeds: Sequence[Feed], budget: Budget, clock: Clock) -> tuple[int, bool]:
    taken: list[float] = []
    start = clock()
    while True:
        before = clock()
        call(feeds[len(taken) % len(feeds)])
        taken.append((clock() - before) / 1e6)
        if len(taken) < budget.warmup_calls:
            continue
        # Feeds of different sizes never settle; a pass over them is all that can be asked.
        mixed = len(feeds) > 1
        settled = len(taken) >= len(feeds) if mixed else is_steady(taken)
        if settled or (clock() - start) / 1e9 >= budget.warmup_seconds:
            return len(taken), settled or mixed or len(taken) < 2 * STEADY_WINDOW


def is_steady(taken: Sequence[float]) -> bool:
    """Tell whether the medians of the last two windows of calls agree."""
    if len(taken) < 2 * STEADY_WINDOW:
        return False
    last = statistics.median(taken[-STEADY_WINDOW:])
    before = statistics.median(taken[-2 * STEADY_WINDOW : -STEADY_WINDOW])
    return abs(last - before) <= STEADY_TOLERANCE * before
