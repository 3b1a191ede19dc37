"""Whether a text's answer depends on its company: the same text alone, padded, and in a batch.

Per-tensor dynamic int8 computes one scale for a whole batch, padding included, so that the neighbours of a text
change its answer (onnxruntime#10111, #8625). Kernels too may add up in another order at another shape. What a file
really does is measured here, through the runtime's own session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.answers import Answers, changed_rows, cut, largest_difference, pad
from compressor.artifacts import CompanyDrift
from compressor.runtime import Session
from compressor.tasks import TASKS, Task

Row = Mapping[str, Any]

BATCH = 32
MOST_ROWS = 256  # a batch changed the label of 2 texts in 100 where one scale served the whole tensor
MOST_TOKENS = 16_384  # of one pass over padded texts: seconds for a base model, not minutes
_BATCH_OF_BLOCKS = 8  # vocabularies of whole batches are large: a gigabyte for eight blocks of XLM-R's


def sample(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Choose rows, evenly over the split, in their order.

    Args:
        lengths: Tokens of each text [n].

    Returns:
        Indices, as many as ``MOST_ROWS`` and ``MOST_TOKENS`` allow, at least one.
    """
    rows = max(1, min(len(lengths), MOST_ROWS, MOST_TOKENS // max(lengths)))
    return np.unique(np.linspace(0, len(lengths) - 1, rows).astype(np.int64))


def measure(
    name: str, session: Session, rows: Sequence[Row], pad_token_id: int, task: Task = TASKS["single-label"]
) -> CompanyDrift:
    """Compare each text's answer alone with that padded to the longest text, and that in a batch.

    Args:
        name: Of the model, for the report.
        session: The file as the runtime runs it.
        rows: Unpadded token ids by input name; batches take them in this order, so that lengths are mixed. Those of a
            masked language model have ``labels`` too, as ``answers.cut`` needs them.
        pad_token_id: Fills ``input_ids``.
        task: What the model does; only what it says about a text's own tokens is compared.
    """
    widest = max(len(row["input_ids"]) for row in rows)
    size = min(_BATCH_OF_BLOCKS if task.unit == "masked token" else BATCH, len(rows))

    def ask(batch: int, width: int = 0) -> Answers:
        groups = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        feeds = (pad(group, session.inputs, pad_token_id, width) for group in groups)
        found = (cut(task, session.run_all(feed), group) for feed, group in zip(feeds, groups, strict=True))
        return Answers.of([row for batch_of_rows in found for row in batch_of_rows])

    alone, padded, batched = ask(1), ask(1, widest), ask(size)
    return CompanyDrift(
        model=name,
        rows=len(rows),
        padded_to=widest,
        padded_difference=largest_difference(task, alone, padded),
        padded_labels=changed_rows(task, alone, padded) if task.decides else None,
        batch_size=size,
        batched_difference=largest_difference(task, alone, batched),
        batched_labels=changed_rows(task, alone, batched) if task.decides else None,
    )
