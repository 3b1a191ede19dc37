"""The process that measures what the machine can do at best; started as the models' are."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from compressor.artifacts import MachineBounds

# Large enough to run at the peak rate, small enough for 7 GFLOP to take 0.1 s on two cores.
MATRIX = 1536
SECONDS = 0.5
CALLS = 3
# Two of these; beyond the caches of most machines, within the memory of small ones.
COPIED_BYTES = 128 << 20


def measure_bounds(threads: int) -> MachineBounds:
    """Measure the matrix-product rate and the memory bandwidth, in this process.

    Args:
        threads: Threads of the copying; the matrix product takes ``OPENBLAS_NUM_THREADS``.
    """
    return MachineBounds(threads, _matmul_gflops(), _copy_bandwidth(threads))


def _matmul_gflops() -> float:
    left = np.random.default_rng(0).random((MATRIX, MATRIX), np.float32)
    right, out = left.T.copy(), np.empty_like(left)
    return 2 * MATRIX**3 / _fastest(lambda: np.matmul(left, right, out=out)) / 1e9


def _copy_bandwidth(threads: int) -> float:
    source = np.ones(COPIED_BYTES, np.uint8)
    sink = source.copy()  # its pages are there before the clock starts
    parts = list(zip(np.array_split(source, threads), np.array_split(sink, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        # numpy releases the interpreter lock while it copies.
        seconds = _fastest(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))
    return 2 * COPIED_BYTES / seconds / 1e9


def _fastest(call: Callable[[], object]) -> float:
    taken: list[float] = []
    end = time.perf_counter() + SECONDS
    # On a busy machine the first call alone may last until the end.
    while len(taken) < CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


if __name__ == "__main__":
    job = json.load(sys.stdin)
    found = measure_bounds(job["threads"])
    json.dump({"threads": found.threads, "gflops": found.gflops, "bandwidth": found.bandwidth}, sys.stdout)
