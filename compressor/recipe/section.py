"""What every section of the recipe is made of."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Flag:
    """Name of a field on the command line, without the leading dashes."""

    name: str


class Section(BaseModel):
    """A frozen part of the recipe; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
