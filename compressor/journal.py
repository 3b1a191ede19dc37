"""The memory of a run: passes events on, and keeps what belongs into the report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from compressor.events import Event, Listener, Note, StageEnded, StageStarted, Warned


@dataclass(frozen=True)
class Journal:
    """A listener that remembers.

    Attributes:
        listen: Hears everything.
        notes: Decisions taken on the way.
        warnings: What the user should act on or know before deploying.
        seconds: Stage to its duration.
    """

    listen: Listener
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Remember an event and pass it on."""
        if isinstance(event, Note):
            self.notes.append(event.text)
        elif isinstance(event, Warned):
            self.warnings.append(event.text)
        self.listen(event)

    @contextmanager
    def stage(self, name: str, detail: str = "") -> Iterator[None]:
        """Announce a stage and time it."""
        self.listen(StageStarted(name, detail))
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.listen(StageEnded(name, self.seconds[name]))
