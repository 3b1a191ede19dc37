"""Numbers for each row: what a regression is taught."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from compressor.artifacts import SplitName
from compressor.data.labels import Labelled
from compressor.data.rows import Rows
from compressor.errors import DataError

NAME = "score"


def read_scores(splits: Mapping[SplitName, Sequence[Rows]], teacher_labels: tuple[str, ...] | None) -> Labelled:
    """Read one number per row.

    Args:
        splits: Rows without missing labels.
        teacher_labels: The name of the teacher's one output; ``None`` where its head is still to be trained.

    Returns:
        Float32 of shape (rows,), and one name.

    Raises:
        DataError: A label is no finite number, or the teacher has several outputs.
    """
    if teacher_labels is not None and len(teacher_labels) != 1:
        raise DataError(
            f"A regression has one output; the teacher has {len(teacher_labels)}.",
            "Name another --problem-type, or a teacher of one output.",
        )
    ids = {
        split: np.array([_number(part, index) for part in parts for index in range(len(part.labels))], np.float32)
        for split, parts in splits.items()
    }
    return Labelled(ids, teacher_labels or (NAME,))


def _number(part: Rows, index: int) -> float:
    label = part.labels[index]
    try:
        number = math.nan if isinstance(label, list | tuple | dict) else float(label)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > np.finfo(np.float32).max:
        comma = isinstance(label, str) and label.count(",") == 1
        raise DataError(
            f"{part.place(index)}: label {str(label)[:40]!r} is no finite number, and a regression needs one.",
            f"Write it with a point: {str(label).replace(',', '.')}." if comma else "Check --label-column.",
        )
    return number
