"""From a fused fp32 ONNX file to an int8 one that loads, agrees, and gives a text one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor import answers
from compressor.answers import Answers
from compressor.artifacts import QuantizedModel
from compressor.errors import QuantizationError
from compressor.events import Listener, Note, Warned, ignore
from compressor.graph import agreement, parity
from compressor.graph import files as onnx_files
from compressor.graph.agreement import Agreement
from compressor.graph.passes import int8
from compressor.runtime.machine import detect_target
from compressor.runtime.session import FAILURES
from compressor.tasks import TASKS, Task

# Full int8 range: the products are summed in 32 bits (vpdpbusd on x86 with VNNI, udot/sdot on ARM).
_FULL = 127
# Without VNNI, onnxruntime's x86 kernels for unsigned times signed bytes use vpmaddubsw, which adds two products in
# 16 bits and saturates: 2 * 255 * 127 > 32767, but 2 * 255 * 63 = 32130 never does. The 7-bit range is what
# onnxruntime calls reduce_range; it costs half a bit of a weight and keeps the fast kernel.
# https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html ("When to use U8U8")
_NO_SATURATION = 63

WEIGHT_LIMITS: Mapping[str, int] = {
    "any": _NO_SATURATION,
    "avx2": _NO_SATURATION,
    "avx512": _NO_SATURATION,
    "avx512_vnni": _FULL,
    "arm64": _FULL,
}
WARN_BELOW_AGREEMENT = 0.98


@dataclass(frozen=True)
class _Drift:
    """How far int8 is from fp32, and from itself."""

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
    mode: str = "per-token",
    task: Task = TASKS["single-label"],
    listen: Listener = ignore,
) -> QuantizedModel:
    """Write the int8 form of a file that ``export_onnx`` wrote.

    Every matrix product of the encoder is quantized with one weight scale per output column, and the word embeddings
    with one per row; ``int8`` says how. Attention itself, layer norms and the head stay in fp32.

    Args:
        source: The fused fp32 file.
        path: Where the int8 file goes.
        target: A key of ``WEIGHT_LIMITS``, or ``auto`` for this machine.
        expected: Matrix products of the encoder, as ``Architecture.products`` names them.
        batches: Validation text, padded; what int8 changes is measured on it.
        mode: A key of ``int8.MODES``.
        task: What the model does.
        listen: Hears the agreement, and what to know before deploying.

    Raises:
        QuantizationError: The file was not written by ``export_onnx``, the int8 graph does not load, misses products,
            or agrees with fp32 little better than chance; no file is left behind.
    """
    chosen = detect_target() if target == "auto" else target
    limit = WEIGHT_LIMITS[chosen]
    model = onnx_files.load(source)
    if onnx_files.LAYERS_KEY not in model.metadata_props:
        raise QuantizationError(
            f"{source} was not exported by this toolkit: its encoder layers are not marked.",
            "Export the torch model again; only then are its products known by name.",
        )
    int8.rewrite(model, mode, limit)
    quantized = int8.count_products(model)
    onnx_files.save(model, path)
    del model
    onnx_files.give_back()
    try:
        if quantized != expected:
            raise QuantizationError(
                f"{quantized} of {expected} matrix products of the encoder were quantized.",
                "Please report the model type; without --quantize the run finishes in fp32.",
            )
        drift = _measure(source, path, batches, task)
    except QuantizationError:
        path.unlink(missing_ok=True)
        raise
    warnings = _judge(drift, mode)
    for text in warnings:
        listen(Warned(text))
    listen(Note(f"int8 ({mode}) for {chosen}: {drift.agreement.words}."))
    bits = "int8" if limit == _FULL else "7-bit int8"
    return QuantizedModel(
        path=path,
        target=chosen,
        weight_type=f"{bits} per channel",
        quantized=quantized,
        expected=expected,
        agreement=drift.agreement.share,
        max_abs_difference=drift.difference,
        warnings=warnings,
        mode=mode,
        batch_difference=drift.batch_difference,
    )


def _measure(source: Path, path: Path, batches: Sequence[parity.Batch], task: Task) -> _Drift:
    before = _ask(onnx_files.open_session(source), batches, task)
    onnx_files.give_back()
    together = max(batches, key=lambda batch: len(batch["input_ids"]))
    try:
        session = onnx_files.open_session(path)
        after, batched = (_ask(session, asked, task) for asked in (batches, [together]))
        alone = _ask(session, _one_by_one(together), task)
    except FAILURES as error:
        raise QuantizationError(
            f"onnxruntime refuses the int8 graph: {str(error).splitlines()[0]}",
            "Please report the model type and the version of onnxruntime; without --quantize the run finishes in fp32.",
        ) from error
    return _Drift(
        agreement=agreement.judge(task, before, after),
        difference=answers.largest_difference(task, before, after),
        batch_difference=answers.largest_difference(task, alone, batched),
    )


def _ask(session: Any, batches: Sequence[parity.Batch], task: Task) -> Answers:
    """What a session says about the rows of all batches."""
    found: list[answers.Floats] = []
    for batch in batches:
        found += answers.cut(task, parity.session_outputs(session, batch, task), _rows(batch))
    return Answers.of(found)


def _rows(batch: parity.Batch) -> list[dict[str, answers.Ints]]:
    """The rows of a batch without their padding, which is on the right."""
    lengths = batch["attention_mask"].sum(axis=1)
    return [{name: array[row, :length] for name, array in batch.items()} for row, length in enumerate(lengths)]


def _one_by_one(batch: parity.Batch) -> tuple[parity.Batch, ...]:
    """The texts of a batch, each alone and without its padding."""
    return tuple({name: array[None] for name, array in row.items()} for row in _rows(batch))


def _judge(drift: _Drift, mode: str) -> tuple[str, ...]:
    found = []
    if drift.agreement.share < WARN_BELOW_AGREEMENT:
        found.append(f"int8: only {drift.agreement.words}; compare the metrics in the report.")
    if mode == "per-token" and drift.batch_difference > 0:
        found.append(
            f"int8 outputs for one text differ by up to {drift.batch_difference:.2g} between alone and in a padded "
            "batch."
        )
    return tuple(found)
