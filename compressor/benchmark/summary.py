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

from compressor.artifacts import Benchmark, LatencyRow, LoadRow
from compressor.benchmark.intervals import Logs, spread

PERCENTILES = (50, 90, 95, 99)

LEAST_DIFFERENCE = 0.02
"""Smaller differences are none on any machine: the order in which a file is linked, or the size of the
environment, moves a program by more (Mytkowicz et al. 2009, Producing Wrong Data Without Doing Anything
Obviously Wrong), and a model's own copy cannot show that."""

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
    return sample_percentiles(row.samples, wanted)


def sample_percentiles(samples: Sequence[float], wanted: Sequence[float] = PERCENTILES) -> tuple[float, ...]:
    """Compute percentiles of some calls, linearly interpolated."""
    return tuple(float(value) for value in np.percentile(samples, wanted))


def throughput(row: LatencyRow) -> float:
    """Compute texts per second of one caller: batch size over the mean latency."""
    return 1e3 * row.batch_size / float(np.mean(row.samples))


def process_medians(row: LatencyRow) -> npt.NDArray[np.float64]:
    """Compute the median latency of each process, in milliseconds, in the order of the rounds."""
    return np.array([np.median(part) for part in _by_process(row)])


def median_interval(row: LatencyRow, level: float = 0.95) -> tuple[float, float] | None:
    """Give the interval of a row's median over processes, in milliseconds; ``None`` for a single process."""
    return _interval(np.log(process_medians(row)), level)


def rate(row: LoadRow) -> float:
    """Compute the texts per second under load: the median over the processes."""
    return float(np.median(row.rates))


def rate_interval(row: LoadRow, level: float = 0.95) -> tuple[float, float] | None:
    """Give the interval of the texts per second under load over processes; ``None`` for a single process."""
    return _interval(np.log(row.rates), level)


def rate_ratio(slow: LoadRow, fast: LoadRow, level: float = 0.95) -> Ratio:
    """Divide the throughputs of two models under load, with an interval over the rounds.

    Returns:
        How many times more texts per second the fast one answers.
    """
    return _ratio(rate(fast) / rate(slow), np.log(fast.rates) - np.log(slow.rates), level)


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
    the logarithms of these ratios gives the interval, from six rounds on with the trimmed mean of
    ``intervals.spread``. With three to five rounds it covers at its level, where the bootstrap of
    three values covers 75 per cent of the time (simulated).

    Returns:
        ``value`` is the ratio of the medians over all calls, so that it follows from the table.
    """
    value = float(np.median(slow.samples) / np.median(fast.samples))
    return _ratio(value, np.log(process_medians(slow)) - np.log(process_medians(fast)), level)


def noise_floor(pairs: Sequence[tuple[LatencyRow, LatencyRow]]) -> float:
    """Tell what relative difference this machine shows between a model and its copy.

    In each cell the centre of the rounds' ratios counts, or its standard error where that is larger: one ratio
    alone can be close to 1 by luck, and the spread of its rounds then says what to expect next time. The centre
    is that of the interval, not the ratio of the medians over all calls: where a neighbour computed during a third
    of the rounds these medians can be 15 per cent apart while the rounds agree, and the floor would hide what is
    there.

    Returns:
        Twice the root mean square over the cells, as a relative difference: about what one A/A
        comparison in twenty exceeds.
    """
    squares = []
    for original, copy in pairs:
        found = spread(np.log(process_medians(original)) - np.log(process_medians(copy)))
        shown = found.centre if found else math.log(ratio(original, copy).value)
        squares.append(max(abs(shown), found.error if found else 0.0) ** 2)
    return math.expm1(2 * math.sqrt(sum(squares) / len(squares)))


def verdict(found: Ratio, floor: float | None) -> Verdict:
    """Say whether the second model of a ratio is faster.

    A difference counts when the interval excludes 1 and the ratio exceeds the noise floor and
    ``LEAST_DIFFERENCE``. One round has no interval, and without one there is no difference to claim.
    """
    if found.low is None or found.high is None or found.low <= 1 <= found.high:
        return "no difference"
    if abs(math.log(found.value)) <= math.log1p(max(floor or 0.0, LEAST_DIFFERENCE)):
        return "no difference"
    return "faster" if found.value > 1 else "slower"


def _by_process(row: LatencyRow) -> list[npt.NDArray[np.float64]]:
    return np.split(np.array(row.samples, np.float64), np.cumsum(row.calls)[:-1])


def _interval(logs: Logs, level: float) -> tuple[float, float] | None:
    found = spread(logs)
    return None if found is None else found.ratio(level)[1:]


def _ratio(value: float, logs: Logs, level: float) -> Ratio:
    interval = _interval(logs, level)
    if interval is None:
        return Ratio(value, None, None)
    return Ratio(value, min(value, interval[0]), max(value, interval[1]))
