"""Changes between two runs: what they are, in words, and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One line: what it is, before, after, and what to make of it."""

    what: str
    before: str
    after: str
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """Changes of one kind.

    Attributes:
        changes: Empty where nothing of the kind changed.
        notes: How far the lines can be compared.
    """

    title: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()


def markdown(sections: Sequence[Section], first: str, second: str) -> str:
    """Draw the changes as Markdown, short enough for a pull-request comment.

    Args:
        sections: As ``compare`` gives them.
        first: What the earlier run is called.
        second: What the later one is called.
    """
    lines = [f"# {escape(first)} → {escape(second)}"]
    for section in sections:
        if section.changes:
            lines += ["", f"### {section.title}", "", "| | before | after | |", "| --- | --- | --- | --- |"]
            for item in section.changes:
                lines.append(f"| {' | '.join(map(escape, (item.what, item.before, item.after, item.remark)))} |")
            lines += [line for note in section.notes for line in ("", escape(note))]
    same = [section.title.lower() for section in sections if not section.changes]
    return "\n".join([*lines, *(["", f"Unchanged: {', '.join(same)}."] if same else [])]) + "\n"


def escape(text: str) -> str:
    """Keep a text from being read as Markdown or HTML, as the report does; the report's needs the training install."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def different(*rows: tuple[str, Any, Any]) -> Iterator[Change]:
    """Keep what is another value afterwards; rows of what it is, before, after."""
    yield from (Change(what, _shown(before), _shown(after)) for what, before, after in rows if before != after)


def metric(value: float, *, share: bool) -> str:
    """A metric as in ``93.1%``, or ``0.874`` where it is no share."""
    return f"{value:.1%}" if share else f"{value:.3f}"


def metric_change(difference: float, *, share: bool) -> str:
    """A difference of metrics with its sign, in points where they are shares."""
    return (f"{100 * difference:+.1f} points" if share else f"{difference:+.3f}").replace("-", "−")


def megabytes(size: float) -> str:
    """Bytes as in ``67.6 MB``, a megabyte being 10^6."""
    return f"{size / 1e6:,.1f} MB"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)
