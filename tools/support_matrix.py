"""Write the table of what is supported into README.md, from the table that the toolkit itself reads."""

from __future__ import annotations

import sys
from pathlib import Path

from compressor.architectures import support_matrix

README = Path(__file__).parent.parent / "README.md"
START, END = "<!-- support: written by tools/support_matrix.py -->", "<!-- /support -->"


def updated(text: str) -> str:
    """A README's text with the table as it is now.

    Raises:
        ValueError: The text does not have the marks between which it belongs.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"README.md has no {START} ... {END}")
    return f"{before}{START}\n\n{support_matrix()}\n{END}{after}"


def main() -> int:
    """Write the table."""
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
