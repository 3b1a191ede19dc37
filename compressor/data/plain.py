"""Read plain text: documents with a blank line between them, or one on each line."""

from __future__ import annotations

import re
from pathlib import Path

from compressor.data.columns import Chooser
from compressor.data.rows import Rows, gather, read_text

_BREAK = re.compile(r"\n[ \t\r]*\n\s*")


def read_plain(path: Path, choose: Chooser) -> Rows:
    """Read the documents of a text file.

    Where the file has blank lines, they separate its documents; otherwise each line is a document.

    Raises:
        DataError: It is empty or of another encoding.
    """
    whole = read_text(path).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    text = whole.lstrip("\n")
    by_line = _BREAK.search(text) is None
    documents: list[object] = []
    numbers: list[int] = []
    line = 1 + len(whole) - len(text)
    for part, end in _pieces(text, by_line):
        numbers.append(line)
        documents.append(part)
        line += (part + end).count("\n")
    note = f"{path.name} has no blank line: each of its lines is a document." if by_line and len(documents) > 1 else ""
    chosen = choose(str(path), ("text",))
    return gather(path, "line", numbers, {"text": documents}, chosen, ("text",), note=note)


def _pieces(text: str, by_line: bool) -> list[tuple[str, str]]:
    """Cut a text into documents, each with what separates it from the next."""
    parts = re.split(f"({_BREAK.pattern})" if not by_line else "(\n)", text)
    return list(zip(parts[::2], [*parts[1::2], ""], strict=True))
