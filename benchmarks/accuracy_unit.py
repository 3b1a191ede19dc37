"""One unit of ``accuracy.py``: train a student, quantize it, and ask it about the whole test split.

    echo '{"flags": {"teacher": "T", "data": "D"}, "teacher_seed": 1, "target": "any"}' | python accuracy_unit.py

The stages are those of ``compress``, in its order, less what does not bear on accuracy: no teacher file, no benchmark,
no report. The last line of the output is the result as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compressor import answers, delivery, enriching, environment, lesson, practice
from compressor.evaluation.verdict import non_inferiority
from compressor.familiarity import familiarity
from compressor.graph.export import export_onnx
from compressor.graph.parity import parity_batches, text_batches
from compressor.graph.quantize import quantize_onnx
from compressor.journal import Journal
from compressor.quiet import quiet
from compressor.recipe import build
from compressor.runtime.session import open_session
from compressor.training.engine import resolve_device

MARGIN = 0.01
_INT8_ROWS = 256


def run(flags: dict[str, Any], teacher_seed: int, target: str, keep: Path | None = None) -> dict[str, Any]:
    """Carry out a unit.

    Args:
        flags: Of the command line, with their values.
        teacher_seed: Of the teacher's fine-tuning; that of the flags is the student's.
        target: Instruction set that the int8 weights are chosen for.
        keep: Takes the two ONNX files; they are thrown away without it.
    """
    start = time.monotonic()
    recipe = build({}, flags)
    recipe = recipe.model_copy(update={"device": resolve_device(recipe.device, recipe.distill.precision)})
    journal = Journal(lambda event: None)
    before = recipe.model_copy(update={"seed": teacher_seed})
    candidate = lesson.find_teacher(before, journal)
    candidate, material = lesson.read_material(before, candidate, journal)
    tutor, _ = lesson.teach_teacher(before, candidate, material, journal)
    before = enriching.settle(before, tutor, material, journal)
    recipe = before.model_copy(update={"seed": recipe.seed})
    # Only ours is decided by it; a pass for each of the others would be for nothing.
    is_ours = recipe.distill.preset == "default" and "augment" not in flags
    known = familiarity(tutor, material.tokenized, recipe.device).ratio if is_ours else None
    material = enriching.extend(before, candidate, tutor, material, journal)
    heard = lesson.ask_teacher(before, tutor, material, journal)
    taught = time.monotonic()
    pupil, curve = practice.teach_student(recipe, tutor, material, heard, journal)
    trained = time.monotonic()

    tokenized, pad = material.tokenized, material.collate.pad_token_id
    validation = tokenized.splits["validation"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        exported = export_onnx(
            pupil.model,
            tutor.architecture,
            tokenized.input_names,
            place / "model.onnx",
            opset=recipe.export.opset,
            batches=parity_batches(validation, tokenized.input_names, pad, tokenized.max_length, tutor.task),
            task=tutor.task,
        )
        quantized = quantize_onnx(
            exported.path,
            place / "model_quantized.onnx",
            target=target,
            expected=len(tutor.architecture.products(pupil.model)),
            batches=text_batches(
                validation, tokenized.input_names, pad, rows=_INT8_ROWS, batch_size=32, task=tutor.task
            ),
            calibration=partial(delivery.calibration, material, tutor.task),
            task=tutor.task,
        )
        rows = tokenized.splits["test"]
        labels = np.asarray(material.corpus.splits["test"].labels)
        right = {"teacher": _right(heard["test"], labels)}
        for name, path in (("student", exported.path), ("int8", quantized.path)):
            session = open_session(path)
            found = answers.collect(
                lambda feed, session=session: session.run_all(feed, material.corpus.task.outputs),
                rows,
                material.corpus.task,
                names=session.inputs,
                pad_token_id=pad,
            )
            right[name] = _right(found, labels)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for path in (exported.path, quantized.path):
                shutil.copyfile(path, keep / path.name)
    broken = int((right["teacher"] & ~right["int8"]).sum())
    repaired = int((right["int8"] & ~right["teacher"]).sum())
    verdict = non_inferiority(broken, repaired, len(labels), MARGIN)
    return {
        **{name: float(found.mean()) for name, found in right.items()},
        "rows": len(labels),
        "difference": [verdict.difference.estimate, verdict.difference.low, verdict.difference.high],
        "decision": verdict.decision,
        "familiarity": known,
        "validation": [row.get("accuracy") for row in curve.evaluations],
        "steps": curve.steps[-1] if curve.steps else 0,
        "parameters": sum(weight.numel() for weight in pupil.model.parameters()),
        "target": quantized.target,
        "seconds": {"teacher": taught - start, "student": trained - taught, "all": time.monotonic() - start},
        "precision": recipe.distill.precision,
        "environment": {key: environment.fingerprint().get(key) for key in ("cpu", "gpus", "versions")},
    }


def _right(found: answers.Answers | None, labels: np.ndarray) -> np.ndarray:
    """Which rows of the test split a model has right."""
    if found is None:
        raise ValueError("a teacher of single labels answers about every split")
    return found.values.argmax(axis=-1) == labels


def main() -> None:
    """Read a unit from standard input and print its result."""
    asked = json.load(sys.stdin)
    with quiet():
        found = run(
            asked["flags"], asked["teacher_seed"], asked["target"], Path(asked["keep"]) if asked.get("keep") else None
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
