"""Does an ONNX graph compute what torch computes? Asked at several shapes, on real text, with padding.

One shape proves nothing: a traced graph can be right at the shape it was traced at and wrong everywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from compressor.artifacts import ParityRow
from compressor.errors import ParityError
from compressor.graph import files as onnx_files

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel

Batch = Mapping[str, npt.NDArray[np.int64]]
Logits = npt.NDArray[np.float32]

TOLERANCE = 1e-4


def parity_batches(
    dataset: datasets.Dataset, input_names: Sequence[str], pad_token_id: int, max_length: int
) -> tuple[Batch, ...]:
    """Choose batches that differ in every way that an export can go wrong in.

    The shortest and the longest text alone, the two together (much padding), five and eight texts of evenly spread
    lengths, and a batch that reaches ``max_length`` (real tokens repeated where no text is that long).

    Args:
        dataset: Unpadded token ids with the columns of ``input_names`` and ``length``.
        input_names: Columns that the model takes.
        pad_token_id: What ``input_ids`` are padded with.
        max_length: Longest sequence that the model is used with, in tokens.

    Returns:
        Six batches of int64 arrays of shape (texts, tokens), padded on the right.
    """
    order = np.argsort(np.asarray(dataset["length"]), kind="stable")

    def spread(rows: int) -> list[dict[str, list[int]]]:
        picked = order[np.linspace(0, len(order) - 1, rows).round().astype(int)]
        return [{name: list(dataset[int(index)][name]) for name in input_names} for index in picked]

    short, long = spread(2)
    full = {name: _stretch(column, max_length) for name, column in long.items()}
    groups = [[short], [long], [long, short], spread(5), spread(8), [full, long]]
    return tuple(_pad(group, pad_token_id) for group in groups)


def text_batches(
    dataset: datasets.Dataset, input_names: Sequence[str], pad_token_id: int, *, rows: int = 512, batch_size: int = 16
) -> tuple[Batch, ...]:
    """The first rows of a dataset in their order, so that texts of all lengths share a batch, padded on the right."""
    texts = [{name: list(row[name]) for name in input_names} for row in dataset.select(range(min(rows, len(dataset))))]
    return tuple(_pad(texts[start : start + batch_size], pad_token_id) for start in range(0, len(texts), batch_size))


def torch_logits(model: PreTrainedModel, batches: Sequence[Batch]) -> tuple[Logits, ...]:
    """Logits of a torch model, float32 of shape (texts, labels) for each batch."""
    import torch

    def run(batch: Batch) -> Logits:
        logits = model(**{name: torch.from_numpy(array).to(model.device) for name, array in batch.items()}).logits
        found: Logits = logits.float().cpu().numpy()
        return found

    with torch.inference_mode():
        return tuple(run(batch) for batch in batches)


def onnx_logits(path: Path, batches: Sequence[Batch]) -> tuple[Logits, ...]:
    """Logits of an ONNX file in onnxruntime on the CPU, float32 of shape (texts, labels) for each batch."""
    return session_logits(onnx_files.open_session(path), batches)


def session_logits(session: Any, batches: Sequence[Batch]) -> tuple[Logits, ...]:
    """Logits of an open onnxruntime session, float32 of shape (texts, labels) for each batch."""
    names = [item.name for item in session.get_inputs()]
    return tuple(session.run(["logits"], {name: batch[name] for name in names})[0] for batch in batches)


def compare(
    graph: Literal["exported", "fused"], batches: Sequence[Batch], expected: Sequence[Logits], actual: Sequence[Logits]
) -> tuple[ParityRow, ...]:
    """Compare logits batch by batch.

    A row counts as a changed label where the winner differs and torch itself keeps the two labels further apart than
    the tolerance allows the logits to move. Two labels closer than that are a tie, which no other order of the same
    additions needs to decide the same way; their logits are still held to the tolerance.
    """
    return tuple(_compare(graph, *item) for item in zip(batches, expected, actual, strict=True))


def require(rows: Sequence[ParityRow]) -> None:
    """Check rows against the tolerance of 1e-4 and 0 changed labels.

    Raises:
        ParityError: A row is over; the message names the worst.
    """
    # NaN is over every tolerance, whatever it is compared with.
    broken = [row for row in rows if not row.max_abs_difference <= TOLERANCE or row.changed_labels]
    if not broken:
        return
    worst = max(broken, key=lambda row: (np.nan_to_num(row.max_abs_difference, nan=np.inf), row.changed_labels))
    raise ParityError(
        f"The {worst.graph} ONNX graph differs from torch at {worst.batch_size}x{worst.sequence_length} tokens "
        f"({'with' if worst.padded else 'without'} padding): logits by up to {worst.max_abs_difference:.2g} "
        f"(tolerance {TOLERANCE:g}), {worst.changed_labels} of {worst.batch_size} labels changed. "
        f"{len(broken)} of {len(rows)} shapes fail.",
        "The training is kept: the same command starts again at the export. Try another --opset, "
        "or other versions of torch and onnxscript, and report the model type.",
    )


def _compare(graph: Literal["exported", "fused"], batch: Batch, expected: Logits, actual: Logits) -> ParityRow:
    rows, length = batch["input_ids"].shape
    if expected.shape != actual.shape:
        return ParityRow(graph, rows, length, _is_padded(batch), float("inf"), rows)
    won, chosen = expected.argmax(-1), actual.argmax(-1)
    picked = np.arange(rows)
    gap = expected[picked, won] - expected[picked, chosen]
    return ParityRow(
        graph=graph,
        batch_size=rows,
        sequence_length=length,
        padded=_is_padded(batch),
        max_abs_difference=float(np.abs(expected - actual).max()),
        changed_labels=int(((won != chosen) & (gap > 2 * TOLERANCE)).sum()),
    )


def _is_padded(batch: Batch) -> bool:
    return "attention_mask" in batch and bool((batch["attention_mask"] == 0).any())


def _stretch(column: list[int], length: int) -> list[int]:
    """Repeat what lies between the first and the last token until a sequence has ``length`` tokens."""
    if len(column) >= length or len(column) < 3:
        return column[:length]
    inner = column[1:-1]
    repeated = inner * (length // len(inner) + 1)
    return [column[0], *repeated[: length - 2], column[-1]]


def _pad(rows: Sequence[Mapping[str, list[int]]], pad_token_id: int) -> Batch:
    length = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": pad_token_id}
    return {
        name: np.array([row[name] + [fill.get(name, 0)] * (length - len(row[name])) for row in rows], dtype=np.int64)
        for name in rows[0]
    }
