"""``compress compare``: what changed between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compressor.upkeep.compare import Section


def compare(first: Path, second: Path, *, output: Path | None = None) -> int:
    """Show what changed between two runs.

    Args:
        first: The earlier run's folder, or its report.json.
        second: The later one's.
        output: Write the same as Markdown there, as for a pull-request comment.
    """
    from compressor.cli.output import write_text
    from compressor.upkeep.compare import compare as changes
    from compressor.upkeep.compare import markdown
    from compressor.upkeep.past import read_report

    sections = changes(read_report(first), read_report(second))
    _show(sections)
    if output is not None:
        write_text(output, markdown(sections, str(first), str(second)))
    return 0


def _show(sections: Sequence[Section]) -> None:
    from compressor.cli.tables import show_lines, show_table, show_title

    for section in sections:
        if not section.changes:
            continue
        show_title(section.title)
        rows = [(item.what, item.before, item.after, item.remark) for item in section.changes]
        show_table(("", "before", "after", ""), rows, numbers=False)
        show_lines(section.notes)
    same = [section.title.lower() for section in sections if not section.changes]
    if same:
        show_lines([f"\nUnchanged: {', '.join(same)}."])
