"""Whether a text's answer depends on its company: the same text alone, padded, and in a batch.

Per-tensor dynamic int8 computes one scale for a whole batch, padding included, so that the neighbours of a text
change its logits (onnxruntime#10111, #8625). Kernels too may add up in another order at another shape. What a file
really does is measured here, through the runtime's own session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from compressor.artifacts import CompanyDrift
from compressor.runtime import Session

Row = Mapping[str, Sequence[int]]
Logits = npt.NDArray[np.float32]

BATCH = 32
MOST_ROWS = 256  # a batch changed the label of 2 texts in 100 where one scale served the whole tensor
MOST_TOKENS = 16_384  # of one pass over padded texts: seconds for a base model, not minutes


def sample(lengths: Sequence[int]) -> npt.NDArray[np.int64]:
    """Choose rows, evenly over the split, in their order.

    Args:
        lengths: Tokens of each text [n].

    Returns:
        Indices, as many as ``MOST_ROWS`` and ``MOST_TOKENS`` allow, at least one.
    """
    rows = max(1, min(len(lengths), MOST_ROWS, MOST_TOKENS // max(lengths)))
    return np.unique(np.linspace(0, len(lengths) - 1, rows).astype(np.int64))


def measure(name: str, session: Session, rows: Sequence[Row], pad_token_id: int) -> CompanyDrift:
    """Compare each text's logits alone with those padded to the longest text, and those in a batch.

    Args:
        name: Of the model, for the report.
        session: The file as the runtime runs it.
        rows: Unpadded token ids by input name; batches take them in this order, so that lengths are mixed.
        pad_token_id: Fills ``input_ids``.
    """
    widest = max(len(row["input_ids"]) for row in rows)

    def run(group: Sequence[Row], width: int = 0) -> Logits:
        width = width or max(len(row["input_ids"]) for row in group)
        return session.run(
            {name: _pad([row[name] for row in group], width, name, pad_token_id) for name in session.inputs}
        )

    alone = np.concatenate([run([row]) for row in rows])  # [n, k]
    padded = np.concatenate([run([row], widest) for row in rows])
    batched = np.concatenate([run(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH)])
    return CompanyDrift(
        model=name,
        rows=len(rows),
        padded_to=widest,
        padded_difference=_largest(alone, padded),
        padded_labels=_changed(alone, padded),
        batch_size=min(BATCH, len(rows)),
        batched_difference=_largest(alone, batched),
        batched_labels=_changed(alone, batched),
    )


def _pad(values: Sequence[Sequence[int]], width: int, name: str, pad_token_id: int) -> npt.NDArray[np.int64]:
    array = np.full((len(values), width), pad_token_id if name == "input_ids" else 0, dtype=np.int64)  # [b, s]
    for row, ids in enumerate(values):
        array[row, : len(ids)] = ids
    return array


def _largest(first: Logits, second: Logits) -> float:
    return float(np.abs(first.astype(np.float64) - second).max())


def _changed(first: Logits, second: Logits) -> int:
    return int(np.sum(first.argmax(axis=1) != second.argmax(axis=1)))
