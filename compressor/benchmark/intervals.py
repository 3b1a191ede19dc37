"""What a few rounds say about a figure: its centre, its interval, and whether that is narrow enough to stop.

The values are logarithms: of latencies, of rates, or of the ratio of two models in each round.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Logs = npt.NDArray[np.float64]

TRIMMED_SHARE = 0.2
TRIMMED_FROM = 6

# A ratio is known well enough within 3.5 per cent, or within a tenth of its logarithm: nobody needs 8x to the
# third digit. At 3.5 per cent a model slower by a tenth stands outside.
WIDTH = 0.035
SHARE_OF_RATIO = 0.1
# Two rounds say nothing about their spread.
ADAPTIVE_FROM = 3


@dataclass(frozen=True)
class Spread:
    """The centre of some logarithms and how well it is known.

    Attributes:
        centre: Their mean, from six values on without the largest and the smallest fifth.
        error: Standard error of the centre.
        freedom: Degrees of freedom of the error.
    """

    centre: float
    error: float
    freedom: int

    def half_width(self, level: float = 0.95) -> float:
        """Compute half the width of Student's interval at a level."""
        return _quantile(level, self.freedom) * self.error

    def ratio(self, level: float = 0.95) -> tuple[float, float, float]:
        """The centre and both ends of Student's interval, taken out of the logarithm."""
        half = self.half_width(level)
        return math.exp(self.centre), math.exp(self.centre - half), math.exp(self.centre + half)


@functools.cache
def _quantile(level: float, freedom: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, freedom))


def spread(logs: Logs) -> Spread | None:
    """Estimate the centre of some logarithms, and its error, so that single disturbed rounds do no harm.

    The trimmed mean with its winsorised standard error (Tukey and McLaughlin 1963): a neighbour who
    computes during one process of ten would otherwise move the mean and double the interval. Below six
    values nothing is trimmed, and this is Student's mean.

    Args:
        logs: One value per round.

    Returns:
        ``None`` for a single value.
    """
    count = logs.size
    if count < 2:
        return None
    cut = int(TRIMMED_SHARE * count) if count >= TRIMMED_FROM else 0
    ranked = np.sort(logs)
    winsorised = np.clip(logs, ranked[cut], ranked[count - cut - 1])
    kept = count - 2 * cut
    error = math.sqrt(float(winsorised.var(ddof=1)) * (count - 1) / (kept * (kept - 1)))
    return Spread(float(ranked[cut : count - cut].mean()), error, kept - 1)


def narrow_enough(logs: Logs) -> bool:
    """Tell whether a ratio is known well enough to stop measuring.

    Only the width counts, and for large ratios their size; on which side of 1 the ratio lies, and whether
    the interval holds 1, does not: to go on until a difference shows would find one everywhere.

    Args:
        logs: Logarithm of the ratio in each round.
    """
    found = spread(logs)
    return found is not None and found.half_width() <= max(WIDTH, SHARE_OF_RATIO * abs(found.centre))


def half_width_of(ratios: Sequence[Logs]) -> float:
    """Compute the largest half width of some ratios' intervals, as a relative difference.

    Args:
        ratios: Logarithm of each ratio in each round.
    """
    found = [spread(ratio) for ratio in ratios]
    return math.expm1(max((one.half_width() for one in found if one is not None), default=0.0))
