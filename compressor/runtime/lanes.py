"""Many batches at once, each on one core: what serves a long list of texts fastest on a CPU.

Two threads that share a batch wait for each other at the end of every operator; two batches side by side never do.
Measured on two cores with int8 students of 3x384 and 6x768, that is 1.2 to 1.4 times as many texts a second. A single
batch still wants all cores, so the session for it stays, and the one for many is opened when it is first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from compressor.runtime.session import Session, open_session

MOST_BYTES = 256 << 20
"""Largest file that is held twice in memory unless the caller asks for it."""

# Opening the second session takes 20 to 80 ms of an int8 file: fewer batches than these for each core would not
# bring that back.
_BATCHES_A_LANE = 8

_T = TypeVar("_T")
_R = TypeVar("_R")


class Lanes:
    """As many lanes as the session has threads; safe for concurrent callers, who share them.

    Args:
        session: The one that runs a batch on all its threads.
        wanted: Use lanes; ``None`` for where they cost at most ``MOST_BYTES`` of memory.
    """

    def __init__(self, session: Session, wanted: bool | None = None) -> None:
        affordable = _file_bytes(session) <= MOST_BYTES
        self._whole = session
        self._useful = session.provider == "cpu" and session.threads > 1 and (affordable if wanted is None else wanted)
        self._narrow: Session | None = None
        self._opening = threading.Lock()
        self._free = threading.Semaphore(session.threads)

    def worth(self, batches: int) -> bool:
        """Tell whether so many batches are better run side by side."""
        return self._useful and batches >= _BATCHES_A_LANE * self._whole.threads

    def map(self, run: Callable[[Session, _T], _R], batches: Sequence[_T]) -> list[_R]:
        """Run batches side by side.

        Args:
            run: Computes one batch on the session that it is given; called from several threads.
            batches: The longest first, so that the lanes end together.

        Returns:
            What ``run`` gave, in the order of the batches.
        """
        session = self._one_thread()

        def one(batch: _T) -> _R:
            with self._free:
                return run(session, batch)

        # A pool for each call: threads that are kept would be missing in a process that forks after loading.
        pool = ThreadPoolExecutor(self._whole.threads, "compressor-lane")
        try:
            return list(pool.map(one, batches))
        finally:
            pool.shutdown(cancel_futures=True)

    def _one_thread(self) -> Session:
        with self._opening:
            if self._narrow is None:
                self._narrow = open_session(self._whole.path, threads=1, kept=self._whole.kept)
            return self._narrow


def _file_bytes(session: Session) -> int:
    beside = session.path.with_name(f"{session.path.name}.data")
    return sum(path.stat().st_size for path in (session.path, beside) if path.is_file())
