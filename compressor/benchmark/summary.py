"""From raw samples to figures: percentiles, ratios with intervals, and the verdict on a difference.

The unit of repetition is the process, not the call: calls of one process share its memory layout
and its minute of the machine's life, so a thousand of them say no more than their median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from compressor.artifacts import Benchmark, LatencyRow

PERCENTILES = (50, 90, 95, 99)

Verdict = Literal["faster", "slower", "no difference"]


@dataclass(frozen=True)
class Ratio:
    """How many times faster one model is than another.

    Attributes:
        value: Median latency of the slow one over that of the fast one.
        low: Lower end of the interval over processes; ``None`` with a single round.
        high: Upper end.
    """

    value: float
    low: float | None
    high: float | None


def percentiles(row: LatencyRow, wanted: Sequence[float] = PERCENTILES) -> tuple[float, ...]:
    """Compute percentiles over all timed calls of a row, in milliseconds, linearly interpolated."""
    return tuple(float(value) for value in np.percentile(row.samples, wanted))


def throughput(row: LatencyRow) -> float:
    """Compute texts per second of one caller: batch size over the mean latency."""
    return 1e3 * row.batch_size / float(np.mean(row.samples))


def process_medians(row: LatencyRow) -> npt.NDArray[np.float64]:
    """Compute the median latency of each process, in milliseconds, in the order of the rounds."""
    return np.array([np.median(part) for part in _by_process(row)])


def median_interval(row: LatencyRow, level: float = 0.95) -> tuple[float, float] | None:
    """Give the interval of a row's median over processes, in milliseconds; ``None`` for a single process."""
    medians = process_medians(row)
    spread = _log_spread(np.log(medians), level)
    if spread is None:
        return None
    centre, half = spread
    return math.exp(centre - half), math.exp(centre + half)


def bootstrap_interval(
    row: LatencyRow, percentile: float, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Give the interval of a percentile by the two-stage bootstrap: processes, then their calls.

    The percentile method of Davison and Hinkley 1997, section 3.8. With three processes it is too
    narrow, since it cannot leave the range of their values; ``median_interval`` can.

    Returns:
        Milliseconds.
    """
    parts = _by_process(row)
    random = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for index in range(resamples):
        chosen = (parts[process] for process in random.integers(len(parts), size=len(parts)))
        drawn[index] = np.percentile(np.concatenate([random.choice(part, part.size) for part in chosen]), percentile)
    tail = 50 * (1 - level)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return float(low), float(high)


def find(
    benchmark: Benchmark, model: str, batch_size: int, sequence_length: int | None, provider: str = "cpu"
) -> LatencyRow:
    """Find a row of the benchmark.

    Raises:
        LookupError: It was not measured.
    """
    wanted = (model, batch_size, sequence_length, provider)
    for row in benchmark.latency:
        if (row.model, row.batch_size, row.sequence_length, row.provider) == wanted:
            return row
    raise LookupError(f"{model} was not measured at {batch_size} x {sequence_length or 'own lengths'} on {provider}")


def speedup(
    benchmark: Benchmark,
    slow: str,
    fast: str,
    batch_size: int,
    sequence_length: int | None,
    *,
    provider: str = "cpu",
    level: float = 0.95,
) -> Ratio:
    """Compare two models in one cell.

    Raises:
        LookupError: One of them was not measured there.
    """
    slow_row = find(benchmark, slow, batch_size, sequence_length, provider)
    fast_row = find(benchmark, fast, batch_size, sequence_length, provider)
    return ratio(slow_row, fast_row, level)


def ratio(slow: LatencyRow, fast: LatencyRow, level: float = 0.95) -> Ratio:
    """Divide the medians of two rows, with an interval over the rounds.

    Each round gives one ratio of process medians, measured close together in time; Student's t on
    the logarithms of these ratios gives the interval. With three to five rounds it covers at its
    level, where the bootstrap of three values covers 75 per cent of the time (simulated).

    Returns:
        ``value`` is the ratio of the medians over all calls, so that it follows from the table.
    """
    value = float(np.median(slow.samples) / np.median(fast.samples))
    spread = _log_spread(np.log(process_medians(slow)) - np.log(process_medians(fast)), level)
    if spread is None:
        return Ratio(value, None, None)
    centre, half = spread
    return Ratio(value, min(value, math.exp(centre - half)), max(value, math.exp(centre + half)))


def noise_floor(pairs: Sequence[tuple[LatencyRow, LatencyRow]]) -> float:
    """Tell what relative difference this machine shows between a model and its copy.

    Returns:
        Twice the root mean square of the cells' logarithmic ratios, as a relative difference:
        about what one A/A comparison in twenty exceeds.
    """
    logs = [math.log(ratio(original, copy).value) for original, copy in pairs]
    return math.expm1(2 * math.sqrt(sum(value * value for value in logs) / len(logs)))


def verdict(found: Ratio, floor: float | None) -> Verdict:
    """Say whether the second model of a ratio is faster.

    A difference counts when the interval excludes 1 and the ratio exceeds the noise floor. One
    round has no interval, and without one there is no difference to claim.
    """
    if found.low is None or found.high is None or found.low <= 1 <= found.high:
        return "no difference"
    if abs(math.log(found.value)) <= math.log1p(floor or 0.0):
        return "no difference"
    return "faster" if found.value > 1 else "slower"


def _by_process(row: LatencyRow) -> list[npt.NDArray[np.float64]]:
    return np.split(np.array(row.samples, np.float64), np.cumsum(row.calls)[:-1])


def _log_spread(logs: npt.NDArray[np.float64], level: float) -> tuple[float, float] | None:
    """Give the centre of some logarithms and the half width of its Student interval."""
    if logs.size < 2:
        return None
    from scipy import stats

    quantile = float(stats.t.ppf((1 + level) / 2, logs.size - 1))
    return float(logs.mean()), quantile * float(logs.std(ddof=1)) / math.sqrt(logs.size)
