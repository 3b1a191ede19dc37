"""Does an ONNX graph compute what torch computes? Asked at several shapes, on real text, with padding.

One shape proves nothing: a traced graph can be right at the shape it was traced at and wrong everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compressor.answers import IGNORED, Floats, Ints, pad
from compressor.artifacts import ParityRow
from compressor.errors import ParityError
from compressor.graph import files as onnx_files
from compressor.tasks import TASKS, Kind, Task

if TYPE_CHECKING:
    import datasets

    from compressor.heads import Model

Batch = Mapping[str, Ints]
"""int64 of shape (rows, tokens) for each input, and for fill-mask ``labels``: the right piece of each masked token."""

TOLERANCE = 1e-4
LABELS = "labels"
_SINGLE_LABEL = TASKS["single-label"]


def parity_batches(
    dataset: datasets.Dataset,
    input_names: Sequence[str],
    pad_token_id: int,
    max_length: int,
    task: Task = _SINGLE_LABEL,
) -> tuple[Batch, ...]:
    """Choose batches that differ in every way that an export can go wrong in.

    The shortest and the longest text alone, the two together (much padding), five and eight texts of evenly spread
    lengths, and a batch that reaches ``max_length`` (real tokens repeated where no text is that long).

    Args:
        dataset: Unpadded token ids with the columns of ``input_names`` and ``length``, and for fill-mask ``labels``.
        input_names: Columns that the model takes.
        pad_token_id: What ``input_ids`` are padded with.
        max_length: Longest sequence that the model is used with, in tokens.
        task: What the model does.

    Returns:
        Six batches, padded on the right.
    """
    order = np.argsort(np.asarray(dataset["length"][:]), kind="stable")
    columns = _columns(dataset, input_names, task)

    def spread(rows: int) -> list[dict[str, list[int]]]:
        picked = order[np.linspace(0, len(order) - 1, rows).round().astype(int)]
        return [{name: list(dataset[int(index)][name]) for name in columns} for index in picked]

    short, long = spread(2)
    full = {name: _stretch(column, max_length) for name, column in long.items()}
    groups = [[short], [long], [long, short], spread(5), spread(8), [full, long]]
    return tuple(_pad(group, pad_token_id) for group in groups)


def text_batches(
    dataset: datasets.Dataset,
    input_names: Sequence[str],
    pad_token_id: int,
    *,
    rows: int = 512,
    batch_size: int = 16,
    task: Task = _SINGLE_LABEL,
) -> tuple[Batch, ...]:
    """The first rows of a dataset in their order, so that texts of all lengths share a batch, padded on the right."""
    columns = _columns(dataset, input_names, task)
    texts = [{name: list(row[name]) for name in columns} for row in dataset.select(range(min(rows, len(dataset))))]
    return tuple(_pad(texts[start : start + batch_size], pad_token_id) for start in range(0, len(texts), batch_size))


def torch_logits(model: Model, batches: Sequence[Batch], task: Task = _SINGLE_LABEL) -> tuple[Floats, ...]:
    """What a torch model answers, as ``units`` has it, for each batch."""
    import torch

    from compressor import heads

    def run(batch: Batch) -> Floats:
        feed = {name: torch.from_numpy(array).to(model.device) for name, array in batch.items() if name != LABELS}
        found = heads.outputs(task, model(**feed))
        return units(task, [output.float().cpu().numpy() for output in found], batch)

    with torch.inference_mode():
        return tuple(run(batch) for batch in batches)


def onnx_logits(path: Path, batches: Sequence[Batch], task: Task = _SINGLE_LABEL) -> tuple[Floats, ...]:
    """What an ONNX file answers in onnxruntime on the CPU, as ``units`` has it, for each batch."""
    return session_logits(onnx_files.open_session(path), batches, task)


def session_logits(session: Any, batches: Sequence[Batch], task: Task = _SINGLE_LABEL) -> tuple[Floats, ...]:
    """What an open onnxruntime session answers, as ``units`` has it, for each batch."""
    return tuple(units(task, session_outputs(session, batch, task), batch) for batch in batches)


def session_outputs(session: Any, batch: Batch, task: Task) -> list[Floats]:
    """The outputs of an open onnxruntime session for a batch, in the task's order."""
    names = [item.name for item in session.get_inputs()]
    found: list[Floats] = session.run(list(task.outputs), {name: batch[name] for name in names})
    return found


def units(task: Task, outputs: Sequence[Floats], batch: Batch) -> Floats:
    """Take what was said about padding out of a batch's outputs.

    Args:
        task: Says what the units are.
        outputs: In the order of ``task.outputs``; each of shape (rows, ...) or (rows, tokens, ...).
        batch: What was asked.

    Returns:
        Of shape (units, width): rows, tokens, or masked tokens; start and end of an answer side by side.
    """
    rows = len(batch["input_ids"])
    if task.unit == "row":
        return outputs[0].reshape(rows, -1)
    joined = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)  # [b, s, k]
    found: Floats = joined[_asked(task, batch)]
    return found


def compare(
    graph: Literal["exported", "fused"],
    batches: Sequence[Batch],
    expected: Sequence[Floats],
    actual: Sequence[Floats],
    task: Task = _SINGLE_LABEL,
) -> tuple[ParityRow, ...]:
    """Compare answers batch by batch.

    A row counts as changed where a decision differs (its label, the tag of a token, the start or end of an answer, the
    piece of a masked token) and torch itself keeps the two choices further apart than the tolerance allows the values
    to move. Two choices closer than that are a tie, which no other order of the same additions needs to decide the
    same way; their values are still held to the tolerance.

    Args:
        graph: Which graph ``actual`` is of.
        batches: What was asked.
        expected: What torch answered, as ``units`` has it.
        actual: What the graph answered.
        task: What the model does.
    """
    return tuple(_compare(graph, task, *item) for item in zip(batches, expected, actual, strict=True))


def require(rows: Sequence[ParityRow]) -> None:
    """Check rows against the tolerance of 1e-4 and 0 changed decisions.

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
        f"({'with' if worst.padded else 'without'} padding): outputs by up to {worst.max_abs_difference:.2g} "
        f"(tolerance {TOLERANCE:g}), {worst.changed_labels} of {worst.batch_size} decisions changed. "
        f"{len(broken)} of {len(rows)} shapes fail.",
        "The training is kept: the same command starts again at the export. Try another --opset, "
        "or other versions of torch and onnxscript, and report the model type.",
    )


def _compare(
    graph: Literal["exported", "fused"], task: Task, batch: Batch, expected: Floats, actual: Floats
) -> ParityRow:
    rows, length = batch["input_ids"].shape
    padded = "attention_mask" in batch and bool((batch["attention_mask"] == 0).any())
    if expected.shape != actual.shape:
        return ParityRow(graph, rows, length, padded, float("inf"), rows)
    return ParityRow(
        graph=graph,
        batch_size=rows,
        sequence_length=length,
        padded=padded,
        max_abs_difference=float(np.abs(expected - actual).max(initial=0.0)),
        changed_labels=_changed(task, batch, expected, actual),
    )


def _changed(task: Task, batch: Batch, expected: Floats, actual: Floats) -> int:
    """Count the rows with a decision that is another one, ties left out."""
    choose = _CHOICES.get(task.kind)
    if choose is None or not len(expected):
        return 0
    rows, columns = np.nonzero(_asked(task, batch)) if task.unit != "row" else (np.arange(len(expected)), None)
    owners, before = choose(expected, rows, columns)
    _, after = choose(actual, rows, columns)
    won, chosen = before.argmax(-1), after.argmax(-1)
    picked = np.arange(len(before))
    gap = before[picked, won] - before[picked, chosen]
    return len(np.unique(owners[(won != chosen) & (gap > 2 * TOLERANCE)]))


_Choices = tuple[Ints, Floats]
"""The row that each decision belongs to, and its options: of shapes (decisions,) and (decisions, options)."""


def _one_of_the_width(values: Floats, rows: Ints, _: Ints | None) -> _Choices:
    return rows, values


def _yes_or_no(values: Floats, rows: Ints, _: Ints | None) -> _Choices:
    """Each label is there if its logit is above 0."""
    return np.repeat(rows, values.shape[1]), np.stack([np.zeros_like(values), values], axis=-1).reshape(-1, 2)


def _one_of_the_tokens(values: Floats, rows: Ints, columns: Ints | None) -> _Choices:
    """Start and end of an answer are each chosen among the tokens of a row."""
    # A question is asked about tokens, so they have columns.
    assert columns is not None  # noqa: S101
    options = np.full((rows.max() + 1, values.shape[1], columns.max() + 1), -np.inf, values.dtype)  # [b, 2, s]
    options[rows, :, columns] = values
    return np.repeat(np.arange(len(options)), values.shape[1]), options.reshape(-1, options.shape[-1])


_CHOICES: Mapping[Kind, Callable[[Floats, Ints, Ints | None], _Choices]] = {
    "single-label": _one_of_the_width,
    "multi-label": _yes_or_no,
    "token-classification": _one_of_the_width,
    "question-answering": _one_of_the_tokens,
    "fill-mask": _one_of_the_width,
}


def _asked(task: Task, batch: Batch) -> Any:
    """Tokens that a model answers about: bool of shape (rows, tokens)."""
    if task.unit == "masked token" and LABELS in batch:
        return batch[LABELS] != IGNORED
    return batch["attention_mask"] == 1


def _columns(dataset: datasets.Dataset, input_names: Sequence[str], task: Task) -> tuple[str, ...]:
    marked = task.unit == "masked token" and LABELS in dataset.column_names
    return (*input_names, *([LABELS] if marked else []))


def _stretch(column: list[int], length: int) -> list[int]:
    """Repeat what lies between the first and the last token until a sequence has ``length`` tokens."""
    if len(column) >= length or len(column) < 3:
        return column[:length]
    inner = column[1:-1]
    repeated = inner * (length // len(inner) + 1)
    return [column[0], *repeated[: length - 2], column[-1]]


def _pad(rows: Sequence[Mapping[str, list[int]]], pad_token_id: int) -> Batch:
    found = pad(rows, tuple(rows[0]), pad_token_id)
    if LABELS in found:
        for place, row in zip(found[LABELS], rows, strict=True):
            place[len(row[LABELS]) :] = IGNORED
    return found
