"""The students that ``throughput.py`` measures: layers of a teacher under a head that was not trained.

Time does not depend on the weights. The folder is what ``compress --quantize`` would write, less its report.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from compressor import delivery, folder, lesson, student, teacher
from compressor.events import ignore
from compressor.graph.export import export_onnx
from compressor.graph.parity import parity_batches, text_batches
from compressor.graph.quantize import quantize_onnx
from compressor.quiet import quiet
from compressor.recipe import build

_INT8_ROWS = 64


def make(source: str, data: Path, layers: int, path: Path, cache: Path) -> None:
    """Write a run folder, unless it is there.

    Args:
        source: The teacher.
        data: Texts with labels, as ``compress --data`` takes them.
        layers: Of the student.
        path: The folder.
        cache: For token ids.
    """
    if (path / "manifest.json").is_file():
        return
    recipe = build({}, {"teacher": source, "data": str(data), "layers": layers, "cache-dir": str(cache)})
    with quiet():
        candidate = lesson.find_teacher(recipe, ignore)
        candidate, material = lesson.read_material(recipe, candidate, ignore)
        tutor = teacher.with_new_head(candidate.checkpoint, candidate.facts, material.corpus.labels, recipe.seed)
        pupil = student.build_student(tutor, recipe.student, recipe.seed)
        tokenized, pad = material.tokenized, material.collate.pad_token_id
        texts = tokenized.splits["validation"]
        exported = export_onnx(
            pupil.model,
            tutor.architecture,
            tokenized.input_names,
            path / folder.MODEL,
            opset=recipe.export.opset,
            batches=parity_batches(texts, tokenized.input_names, pad, tokenized.max_length, tutor.task),
        )
        quantized = quantize_onnx(
            exported.path,
            path / folder.QUANTIZED,
            target="auto",
            expected=len(tutor.architecture.products(pupil.model)),
            batches=text_batches(texts, tokenized.input_names, pad, rows=_INT8_ROWS),
            calibration=partial(delivery.calibration, material, tutor.task),
        )
        folder.write_student(path, pupil.model, tutor.tokenizer, tokenized.max_length)
        folder.write_manifest(
            path, teacher=tutor, exported=exported, max_length=tokenized.max_length, quantized=quantized
        )
