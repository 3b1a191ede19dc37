"""Every architecture with every task, from a teacher to a prediction: what the README says is supported, is."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from compressor import heads
from compressor.architectures import ARCHITECTURES, supported
from compressor.artifacts import SPLITS, Student, Teacher
from compressor.data import read_corpus, tokenize
from compressor.events import ignore
from compressor.graph import parity
from compressor.graph.export import export_onnx
from compressor.graph.quantize import quantize_onnx
from compressor.recipe import DataRecipe, DistillRecipe, PruneRecipe, StudentRecipe
from compressor.runtime import Predictor
from compressor.runtime.manifest import Manifest, TeacherEntry, describe_file, write_manifest
from compressor.student import build_student
from compressor.tasks import TASKS, Kind
from compressor.training.batches import Collator
from compressor.training.distill import distill
from compressor.training.soft_labels import soft_labels
from tests import tiny, tiny_data
from tests.exported import MAX_LENGTH, strengthen, texts

CELLS = [
    (row.model_type, kind) for row in ARCHITECTURES.values() for kind, task in TASKS.items() if not supported(row, task)
]
# Every architecture and every task at least once: the rest takes minutes.
FAST = set(zip(ARCHITECTURES, cycle(TASKS), strict=False))


def cell(model_type: str, kind: Kind) -> Any:
    marks = [] if (model_type, kind) in FAST else [pytest.mark.slow]
    return pytest.param(model_type, kind, marks=marks, id=f"{model_type}-{kind}")


@pytest.mark.parametrize(("model_type", "kind"), [cell(*names) for names in CELLS])
def test_a_model_becomes_a_student_that_learns_reloads_exports_agrees_shrinks_and_predicts(
    model_type: str, kind: Kind, tmp_path: Path
) -> None:
    task, row = TASKS[kind], ARCHITECTURES[model_type]
    source = teacher(model_type, kind)
    pupil = build_student(source, StudentRecipe(layers=2), seed=0)
    rows = texts(model_type, 32, kind)
    names = tuple(name for name in heads.inputs_of(pupil.model) if name in rows.column_names)
    batches = parity.text_batches(rows, names, 0, batch_size=16, task=task)

    learn(source, pupil, tmp_path / "learning")
    pupil.model.save_pretrained(tmp_path)
    again, info = heads.load(task, tmp_path)
    assert not info["missing_keys"]
    for ours, theirs in zip(
        *(parity.torch_logits(model, batches, task) for model in (pupil.model, again)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)

    shapes = parity.parity_batches(rows, names, 0, MAX_LENGTH, task)
    exported = export_onnx(again, row, names, tmp_path / "onnx/model.onnx", opset=18, batches=shapes, task=task)
    assert exported.warnings == ()
    assert max(item.max_abs_difference for item in exported.parity) <= 1e-4
    assert len({(item.batch_size, item.sequence_length) for item in exported.parity if item.graph == "fused"}) >= 5
    assert any(item.padded for item in exported.parity)

    small = quantize_onnx(
        exported.path, tmp_path / "onnx/model_quantized.onnx", target="any", expected=len(row.products(again)),
        batches=batches, calibration=lambda: batches, task=task,
    )  # fmt: skip
    assert small.quantized == small.expected > 0
    assert small.batch_difference == 0.0
    assert predictions_agree(deploy(tmp_path, source, exported.input_names), again, rows, names)


def teacher(model_type: str, kind: Kind) -> Teacher:
    model = tiny.model(model_type, kind=kind)
    # MobileBERT has no norms: large random weights drown what a text adds in what all texts share.
    strengthen(model, 0.05 if model_type == "mobilebert" else 0.15)
    return Teacher(
        "tiny", Path(), model, tiny.tokenizer(model_type), ARCHITECTURES[model_type], tiny.LABELS.get(kind, ()), 64,
        "0" * 64, False, TASKS[kind],
    )  # fmt: skip


def learn(source: Teacher, pupil: Student, folder: Path) -> None:
    """Two steps of distillation, from files on."""
    task = source.task
    place = tiny_data.write(task.kind, folder / "data", train=32, validation=12, test=12)
    corpus = read_corpus(DataRecipe(), str(place), source.labels or None, 0, task=task)
    inputs = heads.inputs_of(pupil.model)
    tokenized = tokenize(corpus, source.tokenizer, inputs, MAX_LENGTH, folder / "cache", doc_stride=8)
    answers = {split: soft_labels(source, tokenized, split, folder / "cache", "cpu", ignore) for split in SPLITS}
    before = [parameter.detach().clone() for parameter in pupil.model.parameters()]
    rows = len(tokenized.splits["train"])
    curve = distill(
        source, pupil, tokenized, answers, Collator(0),
        DistillRecipe(epochs=1, batch_size=-(-rows // 2), learning_rate=1e-3), PruneRecipe(),
        seed=0, device="cpu", folder=folder / "training", listen=ignore, score=lambda found: {task.metric: 0.0},
    )  # fmt: skip
    assert curve.evaluations[-1]["step"] == 2
    assert any(not torch.equal(old, new) for old, new in zip(before, pupil.model.parameters(), strict=True))


def deploy(folder: Path, source: Teacher, inputs: tuple[str, ...]) -> Path:
    """Add tokenizer and manifest, as the toolkit writes them."""
    source.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    precisions = {"onnx/model.onnx": "fp32", "onnx/model_quantized.onnx": "int8", "tokenizer.json": None}
    settings = {"mask_token_id": source.tokenizer.mask_token_id} if source.task.kind == "fill-mask" else {}
    manifest = Manifest(
        task=source.task.name, labels=source.labels, inputs=inputs, max_length=MAX_LENGTH, pad_token_id=0,
        default_model="onnx/model_quantized.onnx",
        files={name: describe_file(folder / name, precision) for name, precision in precisions.items()},
        teacher=TeacherEntry(source.name, source.fingerprint), created="2026-01-01T00:00:00+00:00",
        kind=source.task.kind, outputs=source.task.outputs, settings=settings,
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def predictions_agree(folder: Path, model: Any, rows: datasets.Dataset, names: tuple[str, ...]) -> bool:
    """The fp32 file, asked from text on, answers as torch does; the int8 file answers."""
    kind = Predictor(folder).kind
    inputs: list[Any] = [text for text, _ in tiny.reviews(8)]
    if kind == "question-answering":
        inputs = [("good film", text) for text in inputs]
    elif kind == "fill-mask":
        inputs = [f"{text} [MASK]" for text in inputs]
    assert len(Predictor(folder)(inputs)) == len(inputs)
    tokenizer = tiny.tokenizer(model.config.model_type)
    for item, found in zip(inputs, Predictor(folder, model="fp32").raw(inputs), strict=True):
        encoded = tokenizer(*(item if isinstance(item, tuple) else (item,)))
        batch = {name: np.array([encoded[name]], np.int64) for name in names}
        expected = parity.torch_logits(model, [batch], TASKS[kind])[0]
        np.testing.assert_allclose(
            found, expected[-len(found) :] if kind != "fill-mask" else expected[-2:-1], atol=1e-4
        )
    return True
