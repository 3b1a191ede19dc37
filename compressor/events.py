"""What a run tells while it goes on: values handed to a callback, never printed here."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StageStarted:
    """A stage of the pipeline begins."""

    stage: str
    detail: str = ""


@dataclass(frozen=True)
class StageEnded:
    """A stage of the pipeline is done."""

    stage: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Progress:
    """A step of a long stage.

    Attributes:
        stage: Name of the stage.
        step: Steps done.
        total: Steps in all.
        figures: Running values by name, for example ``{"loss": 0.31, "agreement": 0.97}``.
    """

    stage: str
    step: int
    total: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Note:
    """A decision or an observation that belongs into the report."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something the user should act on or know before deploying; belongs into the report."""

    text: str


Event = StageStarted | StageEnded | Progress | Note | Warned
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
