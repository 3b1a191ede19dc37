"""Whether somebody else computed while a model was measured."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

from compressor.environment import busy_seconds

# Others that take more than this share of the machine disturb a measurement.
DISTURBING_SHARE = 0.1


@dataclass(frozen=True)
class Clocks:
    """Readings at one moment, in seconds.

    Attributes:
        wall: Monotonic time.
        own: Processor time of this process and of its children that have ended.
        everybody: Processor time of the whole machine; ``None`` where it is not told.
    """

    wall: float
    own: float
    everybody: float | None


def read_clocks() -> Clocks:
    """Read all three clocks."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Clocks(time.monotonic(), own, busy_seconds())


def others_share(before: Clocks, after: Clocks) -> float:
    """Compute the share of the machine's cores that other processes kept busy in between.

    Returns:
        0 to 1, and 0 where the system does not tell.
    """
    if before.everybody is None or after.everybody is None or after.wall <= before.wall:
        return 0.0
    others = (after.everybody - before.everybody) - (after.own - before.own)
    return min(1.0, max(0.0, others / (after.wall - before.wall) / (os.cpu_count() or 1)))
