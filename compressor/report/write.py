"""Write the report's three files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from compressor.report.document import Findings, document
from compressor.report.html import html
from compressor.report.markdown import markdown

# A JSON string never holds a line break, so this meets only lists of plain numbers.
_NUMBERS = re.compile(r"\[\n[\s\d.,eE+-]+\]")


def write_report(folder: Path, findings: Findings) -> dict[str, Any]:
    """Write report.json, report.md and report.html.

    Args:
        folder: Made where it is missing; ``report/`` of the run folder.
        findings: What the run found out.

    Returns:
        The content of report.json.
    """
    written = document(findings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(to_json(written), encoding="utf-8")
    render(written, folder)
    return written


def render(written: dict[str, Any], folder: Path) -> None:
    """Write report.md and report.html from the content of a report.json."""
    (folder / "report.md").write_text(markdown(written), encoding="utf-8")
    (folder / "report.html").write_text(html(written), encoding="utf-8")


def to_json(written: dict[str, Any]) -> str:
    """Write a document as JSON that people can read: indented, lists of numbers on one line."""
    text = json.dumps(written, ensure_ascii=False, indent=2, allow_nan=False)
    return _NUMBERS.sub(lambda found: " ".join(found.group().split()), text) + "\n"
