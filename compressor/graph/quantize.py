"""From a fused fp32 ONNX file to a smaller one that loads, agrees, and says where it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor import answers
from compressor.answers import Answers
from compressor.artifacts import QuantizedModel
from compressor.errors import QuantizationError
from compressor.events import Listener, Note, Warned, ignore
from compressor.graph import agreement, modes, parity, targets
from compressor.graph import files as onnx_files
from compressor.graph.agreement import Agreement
from compressor.graph.calibration import Calibration
from compressor.graph.modes import MODES, Plan
from compressor.runtime.machine import detect_target
from compressor.runtime.warm import FAILURES
from compressor.tasks import TASKS, Task

WARN_BELOW_AGREEMENT = 0.98


@dataclass(frozen=True)
class Source:
    """What every file is made of and compared with.

    Attributes:
        path: The fused fp32 file, as ``export_onnx`` wrote it.
        expected: Matrix products of the encoder, as ``Architecture.products`` names them.
        batches: Validation text, padded; what a smaller file changes is measured on it.
        answers: What the fp32 file says about it.
        calibration: Training text, for the static and the smooth mode.
        task: What the model does.
        products: Modules of the products, and how many each stands for.
    """

    path: Path
    expected: int
    batches: Sequence[parity.Batch]
    answers: Answers
    calibration: Calibration
    task: Task
    products: dict[str, int]


@dataclass(frozen=True)
class Made:
    """A file that was written and measured.

    Attributes:
        answers: What it says about the validation text.
        agreement: With fp32.
        difference: Largest difference of an output from fp32.
        batch_difference: Largest difference of an output between a text alone and in a padded batch.
    """

    path: Path
    plan: Plan
    quantized: int
    answers: Answers
    agreement: Agreement
    difference: float
    batch_difference: float


def quantize_onnx(
    source: Path,
    path: Path,
    *,
    target: str,
    expected: int,
    batches: Sequence[parity.Batch],
    calibration: Callable[[], Iterable[parity.Batch]],
    mode: str = "smooth",
    task: Task = TASKS["single-label"],
    listen: Listener = ignore,
) -> QuantizedModel:
    """Write the smaller form of a file that ``export_onnx`` wrote, as it was asked for.

    Every matrix product of the encoder is quantized, with one weight scale per output column in the int8 modes, and
    the word embeddings with one per row; ``modes`` says how. Attention itself, layer norms and the head stay in fp32,
    but for fp16.

    Args:
        source: The fused fp32 file.
        path: Where the new file goes.
        target: A key of ``targets.WEIGHTS``, or ``auto`` for this machine.
        expected: Matrix products of the encoder, as ``Architecture.products`` names them.
        batches: Validation text, padded; what the smaller file changes is measured on it.
        calibration: Training text in small padded batches, read anew at every call; the static and the smooth mode
            observe activations on it. Text that the file is judged on would flatter it.
        mode: A key of ``modes.MODES``.
        task: What the model does.
        listen: Hears the agreement, and what to know before deploying.

    Raises:
        QuantizationError: The file was not written by ``export_onnx``, the graph does not load, misses products,
            or agrees with fp32 little better than chance; no file is left behind.
        ValueError: The mode observes activations, and there is no text.
    """
    read = read_source(source, expected=expected, batches=batches, calibration=calibration, task=task)
    made = make(read, path, targets.first_plan(mode, target))
    return announce(made, read, target, listen)


def read_source(
    path: Path,
    *,
    expected: int,
    batches: Sequence[parity.Batch],
    calibration: Callable[[], Iterable[parity.Batch]],
    task: Task = TASKS["single-label"],
) -> Source:
    """Ask the fp32 file once, for all that is compared with it; arguments as for ``quantize_onnx``.

    Raises:
        QuantizationError: The file was not written by ``export_onnx``.
    """
    model = onnx_files.load(path)
    if onnx_files.LAYERS_KEY not in model.metadata_props:
        raise QuantizationError(
            f"{path} was not exported by this toolkit: its encoder layers are not marked.",
            "Export the torch model again; only then are its products known by name.",
        )
    products = modes.products(model)
    del model
    found = _ask(onnx_files.open_session(path), batches, task)
    onnx_files.give_back()
    return Source(path, expected, batches, found, Calibration(calibration), task, products)


def make(source: Source, path: Path, plan: Plan) -> Made:
    """Write a file by a plan, and measure it.

    Raises:
        QuantizationError: The graph does not load, misses products, or is broken; no file is left behind.
    """
    modes.write(source.path, path, plan, source.calibration)
    try:
        quantized = modes.count(path)
        left = sum(source.products[module] for module in plan.keep)
        if quantized + left != source.expected:
            raise QuantizationError(
                f"{quantized} of {source.expected - left} matrix products of the encoder were quantized.",
                "Please report the model type; without --quantize the run finishes in fp32.",
            )
        return _measure(source, path, plan, quantized)
    except QuantizationError:
        path.unlink(missing_ok=True)
        raise


def announce(made: Made, source: Source, target: str, listen: Listener = ignore) -> QuantizedModel:
    """Describe a file, and tell what to know before deploying it."""
    plan, mode = made.plan, MODES[made.plan.mode]
    chosen, precision = targets.resolve(target), modes.precision(plan)
    warnings = _judge(made, precision)
    for text in warnings:
        listen(Warned(text))
    listen(Note(f"{precision} ({plan.mode}) for {chosen}: {made.agreement.words}."))
    return QuantizedModel(
        path=made.path,
        target=chosen,
        weight_type=mode.weights(plan),
        quantized=made.quantized,
        expected=source.expected,
        agreement=made.agreement.share,
        max_abs_difference=made.difference,
        warnings=warnings,
        mode=plan.mode,
        batch_difference=made.batch_difference,
        precision=precision,
        providers=mode.providers,
        kept=tuple(module for module in source.products if module in plan.keep),
        targets=targets.claims(plan, detect_target()),
    )


def ask(path: Path, batches: Sequence[parity.Batch], task: Task) -> Answers:
    """What a file says about the rows of all batches.

    Raises:
        QuantizationError: onnxruntime refuses it.
    """
    try:
        return _ask(onnx_files.open_session(path), batches, task)
    except FAILURES as error:
        raise _refused("quantized", error) from error


def _measure(source: Source, path: Path, plan: Plan, quantized: int) -> Made:
    task, batches = source.task, source.batches
    together = max(batches, key=lambda batch: len(batch["input_ids"]))
    try:
        session = onnx_files.open_session(path)
        after, batched = (_ask(session, asked, task) for asked in (batches, [together]))
        alone = _ask(session, _one_by_one(together), task)
    except FAILURES as error:
        raise _refused(modes.precision(plan), error) from error
    return Made(
        path=path,
        plan=plan,
        quantized=quantized,
        answers=after,
        agreement=agreement.judge(task, source.answers, after),
        difference=answers.largest_difference(task, source.answers, after),
        batch_difference=answers.largest_difference(task, alone, batched),
    )


def _refused(precision: str, error: Exception) -> QuantizationError:
    return QuantizationError(
        f"onnxruntime refuses the {precision} graph: {str(error).splitlines()[0]}",
        "Please report the model type and the version of onnxruntime; without --quantize the run finishes in fp32.",
    )


def _ask(session: Any, batches: Sequence[parity.Batch], task: Task) -> Answers:
    found: list[answers.Floats] = []
    for batch in batches:
        found += answers.cut(task, parity.session_outputs(session, batch, task), _rows(batch))
    return Answers.of(found) if found else Answers(np.empty((0, 0), np.float32), np.zeros(1, np.int64))


def _rows(batch: parity.Batch) -> list[dict[str, answers.Ints]]:
    """The rows of a batch without their padding, which is on the right."""
    lengths = batch["attention_mask"].sum(axis=1)
    return [{name: array[row, :length] for name, array in batch.items()} for row, length in enumerate(lengths)]


def _one_by_one(batch: parity.Batch) -> tuple[parity.Batch, ...]:
    """The texts of a batch, each alone and without its padding."""
    return tuple({name: array[None] for name, array in row.items()} for row in _rows(batch))


def _judge(made: Made, precision: str) -> tuple[str, ...]:
    found = []
    if made.agreement.share < WARN_BELOW_AGREEMENT:
        found.append(f"{precision}: only {made.agreement.words}; compare the metrics in the report.")
    if MODES[made.plan.mode].exact and made.batch_difference > 0:
        found.append(
            f"{precision} outputs for one text differ by up to {made.batch_difference:.2g} between alone and in a "
            "padded batch."
        )
    return tuple(found)
