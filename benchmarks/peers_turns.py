"""Peers that live side by side and take short turns, so that what slows the machine slows all of them alike.

A model that is measured for minutes, and then the next one, meet two different machines where others share it. Here
each peer has a process of its own that is stopped while it is not asked; a turn is a few calls, and every peer has one
before any has its next.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compressor.benchmark.neighbours import DISTURBING_SHARE, others_share, read_clocks

WORKER = Path(__file__).resolve().parent / "peers_worker.py"
TURNS = 5
TRIES, WAITS = 3, 60

Answer = dict[str, Any]
Ask = Callable[[Mapping[str, Any]], Answer]


@contextlib.contextmanager
def worker(name: str, python: Path, environment: Mapping[str, str]) -> Iterator[Ask]:
    """Start a process of ``peers_worker.py``, and give what asks it one thing; it ends with the context.

    Raises:
        RuntimeError: It ended too early; its last words are told.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        process = subprocess.Popen(
            [python, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True, env=environment
        )

        def ask(question: Mapping[str, Any]) -> Answer:
            # Both are pipes, by the call above.
            assert process.stdin is not None
            assert process.stdout is not None
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                words.seek(0)
                raise RuntimeError(f"{name}: {words.read()[-2000:]}")
            # Thread pools go on spinning after a call, some for a fifth of a second: into the turn of the next.
            process.send_signal(signal.SIGSTOP)
            answer: Answer = json.loads(line)
            return answer

        try:
            yield ask
        finally:
            process.kill()
            process.communicate()


def take_turns(workers: Mapping[str, Ask], cells: Sequence[int]) -> tuple[list[dict[str, list[float]]], float]:
    """Time every cell of all workers in short turns.

    Args:
        workers: By name.
        cells: How many feeds each has.

    Returns:
        For each cell the milliseconds of each worker's calls, and the largest share of the machine that others had
        meanwhile. A cell in which they had too much is measured again, and the quietest of a few tries counts: chosen
        by what others did, never by the latency.
    """
    found, shares = [], []
    for place, feeds in enumerate(cells):
        tries: list[tuple[float, dict[str, list[float]]]] = []
        while len(tries) < TRIES and not any(share <= DISTURBING_SHARE for share, _ in tries):
            wait_for_rest()
            tries.append(_cell(workers, place, feeds))
        share, samples = min(tries, key=lambda one: one[0])
        found.append(samples)
        shares.append(share)
    return found, max(shares)


def round_of_files(
    files: Mapping[str, Path], cells: Path, feeds: Sequence[int], job: Mapping[str, Any], variables: Mapping[str, str]
) -> tuple[list[dict[str, float]], dict[str, str]]:
    """Time ONNX files once, each in a fresh process of this environment, all of them in turns.

    Args:
        files: By name.
        cells: What they are asked, as ``compressor.benchmark.inputs.write_cells`` wrote it.
        feeds: How many each cell has.
        job: ``engine``, ``threads`` and ``inputs``.
        variables: Of the processes.

    Returns:
        For each cell the median milliseconds by name, and the versions of the packages that they ran under.
    """
    with contextlib.ExitStack() as stack:
        asks, versions = {}, {}
        for name, path in files.items():
            asks[name] = stack.enter_context(worker(name, Path(sys.executable), variables))
            versions = asks[name]({**job, "path": str(path), "cells": str(cells)})["versions"]
        found, _ = take_turns(asks, feeds)
    return [{name: float(np.median(some)) for name, some in samples.items()} for samples in found], versions


def _cell(workers: Mapping[str, Ask], place: int, feeds: int) -> tuple[float, dict[str, list[float]]]:
    samples: dict[str, list[float]] = {name: [] for name in workers}
    before, used = read_clocks(), 0.0
    for turn in range(TURNS):
        # Of many feeds each turn has a part, and all turns together have each once.
        chosen = list(range(turn, feeds, TURNS)) or [0]
        for name in list(workers)[:: 1 if turn % 2 == 0 else -1]:
            answer = workers[name]({"cell": place, "feeds": chosen, "first": turn == 0})
            samples[name] += answer["samples"]
            used += answer["busy_seconds"]
    after = read_clocks()
    wall = after.wall - before.wall
    # The workers have not ended, so that they count as others.
    return max(0.0, others_share(before, after) - used / wall / (os.cpu_count() or 1)), samples


def wait_for_rest() -> None:
    """Return when others rest, or after a while in which they did not."""
    for _ in range(WAITS):
        before = read_clocks()
        time.sleep(0.5)
        if others_share(before, read_clocks()) <= DISTURBING_SHARE:
            return
