"""Tables and remarks on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> None:
    """Print a table.

    Args:
        header: Titles of the columns.
        rows: Their cells.
        numbers: Every column but the first holds numbers, which stand on the right.
    """
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, title in enumerate(header):
        table.add_column(title, justify="right" if numbers and index else "left", overflow="fold")
    for row in rows:
        # Text, not markup: names of labels and folders may hold square brackets.
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


_WIDE = 200
"""Columns where there is no terminal, as in the log of a CI job: it scrolls."""

_STYLES = {"PASS": "green", "FAIL": "bold red", "SKIP": "yellow"}


def show_title(text: str) -> None:
    """Print a heading."""
    Console(highlight=False).print(Text(f"\n{text}", "bold"), soft_wrap=True)


def show_lines(texts: Iterable[str]) -> None:
    """Print remarks, one a line."""
    console = Console(highlight=False)
    for text in texts:
        console.print(Text(text), soft_wrap=True)
