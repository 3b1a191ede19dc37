"""Throughput under load: several callers of one session, each with one text at a time."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Feed = TypeVar("Feed")

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Load:
    """What several callers got out of one model in one process.

    Attributes:
        rate: Texts per second, all callers together.
        samples: Milliseconds of every call, from the caller's side.
    """

    rate: float
    samples: tuple[float, ...]


def under_load(
    call: Callable[[Feed], object],
    feeds: Sequence[Feed],
    clients: int,
    seconds: float,
    join: Callable[[int], None],
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Load:
    """Let callers send texts, each the next one as soon as it has its answer (a closed loop).

    The callers take the texts from one queue, in whole passes, so that every model gets every text
    equally often. Each caller's rate is that of the time until its own last answer: waiting for the
    slowest at the end is not the model's.

    Args:
        call: What is loaded.
        feeds: Single texts.
        clients: Callers.
        seconds: No new pass begins after this time.
        join: Told the number of callers by each of them, in its own thread, before it begins.
        clock: Nanoseconds.
    """
    lock, gate = threading.Lock(), threading.Barrier(clients)
    sent, started, over = 0, 0, False

    def take() -> Feed | None:
        nonlocal sent, started, over
        with lock:
            if sent == 0:
                started = clock()
            elif sent % len(feeds) == 0 and (clock() - started) / 1e9 >= seconds:
                over = True
            if over:
                return None
            sent += 1
            return feeds[(sent - 1) % len(feeds)]

    def client(index: int) -> tuple[list[float], float]:
        try:
            join(clients)
            call(feeds[index % len(feeds)])  # a thread's first call allocates
        except BaseException:
            gate.abort()
            raise
        gate.wait()
        taken: list[float] = []
        start = end = clock()
        while (feed := take()) is not None:
            before = clock()
            call(feed)
            end = clock()
            taken.append((end - before) / 1e6)
        return taken, (end - start) / 1e9

    with ThreadPoolExecutor(clients) as pool:
        waiting = [pool.submit(client, index) for index in range(clients)]
    # Whose own call failed says why; the others only waited for it.
    failed = [error for one in waiting if (error := one.exception()) is not None]
    if failed:
        raise next((error for error in failed if not isinstance(error, threading.BrokenBarrierError)), failed[0])
    found = [one.result() for one in waiting]
    return Load(
        rate=sum(len(taken) / busy for taken, busy in found if taken),
        samples=tuple(sample for taken, _ in found for sample in taken),
    )


def chosen(feeds: Sequence[Feed], count: int, size_of: Callable[[Feed], int]) -> tuple[Feed, ...]:
    """Choose feeds that stand for the lengths of all: evenly spaced among them by length, in their order."""
    if len(feeds) <= count:
        return tuple(feeds)
    ranked = sorted(range(len(feeds)), key=lambda index: size_of(feeds[index]))
    kept = {ranked[int((index + 0.5) * len(ranked) / count)] for index in range(count)}
    return tuple(feed for index, feed in enumerate(feeds) if index in kept)


def thinned(samples: Sequence[float], most: int) -> tuple[float, ...]:
    """Keep at most some samples, evenly by rank, so that their percentiles stay."""
    if len(samples) <= most:
        return tuple(samples)
    ranked = sorted(samples)
    return tuple(ranked[math.floor((index + 0.5) * len(ranked) / most)] for index in range(most))


def keep_to_cores(count: int, tasks: Path = _TASKS) -> None:
    """Bind all threads of this process to as many cores as the model has threads.

    Callers compute too: four of them with a session of two threads would keep five cores busy, and
    torch starts a team of threads for each caller. The cores are the budget that all have in common.
    Where the system has no such call, the number of cores of the machine has to do.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    # The first core serves the interrupts.
    cores = sorted(os.sched_getaffinity(0))[-count:]
    for task in sorted(tasks.iterdir()) if tasks.is_dir() else ():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:
            continue  # it has ended meanwhile
