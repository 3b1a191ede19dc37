"""Rows of a tokenised split, decoded a batch at a time.

``datasets`` decodes a row to Python lists, which costs more than the collation of the whole batch, and a small model
on a fast device waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

Row = dict[str, Any]


class Rows(torch.utils.data.Dataset[Row]):
    """Rows whose lists are numpy arrays: views, read-only, of what lies in the Arrow table.

    Args:
        rows: Of a tokenised split; the columns that are wanted.
    """

    def __init__(self, rows: Any) -> None:
        self._rows = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Row]:
        """Read the rows of a batch at once; torch's loader asks for them so."""
        table = self._rows[[int(index) for index in indices]]
        columns = {name: _cut(table.column(name).combine_chunks()) for name in table.column_names}
        return [{name: values[place] for name, values in columns.items()} for place in range(len(indices))]


def at_once(rows: Any, indices: Sequence[int]) -> list[Row]:
    """Read several rows in the way that is cheapest for these rows.

    Args:
        rows: Any dataset; one that reads batches has ``__getitems__``.
        indices: Of the rows.
    """
    if hasattr(rows, "__getitems__"):
        found: list[Row] = rows.__getitems__(indices)
        return found
    return [rows[index] for index in indices]


def _cut(column: Any) -> Sequence[Any]:
    """Take an Arrow column apart: a number or a list of numbers for each row."""
    if not hasattr(column, "offsets"):
        numbers: Sequence[Any] = column.to_numpy(zero_copy_only=False)
        return numbers
    starts, values = column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)
    return [values[start:end] for start, end in pairwise(starts)]
