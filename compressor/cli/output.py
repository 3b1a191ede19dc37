"""Files that a command writes where the user says."""

from __future__ import annotations

from pathlib import Path

from compressor.errors import OutputError


def write_text(path: Path, text: str) -> None:
    """Write a text file; its folder is made where it is missing.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", "Choose another place for the output."
        ) from None
