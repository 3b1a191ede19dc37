"""Sections of the recipe from the flags of a command."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from compressor.errors import RecipeError
from compressor.recipe import Section

Kind = TypeVar("Kind", bound=Section)


def section(kind: type[Kind], **values: object) -> Kind:
    """Validate a section of the recipe.

    Args:
        kind: The section.
        values: Its fields, named like the flags with underscores; ``None`` leaves the default.

    Raises:
        RecipeError: A value is out of range; the message names its flag.
    """
    given = {name: value for name, value in values.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        found = error.errors()[0]
        name = str(found["loc"][0])
        reason = found["msg"].removeprefix("Value error, ")
        raise RecipeError(f"--{name.replace('_', '-')} {given.get(name)}: {reason}.") from None
