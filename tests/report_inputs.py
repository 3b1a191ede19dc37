"""Findings of a made-up but plausible run, for the tests of the report and for looking at it.

``python -m tests.report_inputs FOLDER`` writes the report of it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compressor.answers import Answers
from compressor.artifacts import (
    Benchmark,
    CompanyDrift,
    Corpus,
    EncoderShape,
    ExportedModel,
    FusionCount,
    LatencyRow,
    MachineBounds,
    ModelCost,
    ModelFacts,
    ParityRow,
    QuantizedModel,
    Split,
    TrainingCurve,
)
from compressor.evaluation.evaluate import evaluate
from compressor.evaluation.metrics import labelled
from compressor.report import Findings

LABELS = ("billing", "card_arrival", "chargeback", "退款", "lost_card", "out_of_scope", "top_up", "transfer <fee>")
ROWS = 1500
SCRIPT = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\"> my card never arrived"
PHRASES = (
    "why was I charged a fee for this transfer",
    "my new card has not arrived after two weeks",
    "我的卡丢了，请帮我冻结账户，谢谢",
    "退款什么时候到账？已经等了三个星期了",
    "I would like to dispute the second payment, the shop has closed & nobody answers",
    "how do I top up by cheque",
    "what is the weather like in Lisbon tomorrow",
    SCRIPT,
)
MODELS = ("teacher", "teacher_onnx", "student_onnx", "student_int8")
P50 = {"teacher": 31.0, "teacher_onnx": 24.6, "student_onnx": 12.9, "student_int8": 8.1}


def logits(labels: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Logits that are right on about this share of the rows."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(labels)) > right
    centre = np.where(wrong, rng.integers(len(LABELS), size=len(labels)), labels)
    return (rng.normal(size=(len(labels), len(LABELS))) + 4.5 * np.eye(len(LABELS))[centre]).astype(np.float32)


def answered(outputs: np.ndarray) -> Answers:
    return Answers.of([row[None] for row in np.asarray(outputs, dtype=np.float32)])


def latency(slow_at: int | None) -> tuple[LatencyRow, ...]:
    rng = np.random.default_rng(5)
    rows = []
    for batch_size, length in [(1, None), *((batch, length) for batch in (1, 8) for length in (16, 64, 128))]:
        for model in MODELS:
            work = batch_size * (length or 14) / 14
            scale = P50[model] * work**0.9
            if model == "student_int8" and length == slow_at and batch_size == 8:
                scale = P50["teacher_onnx"] * work**0.9 * 1.3
            samples = np.concatenate(
                [scale * rng.normal(1, 0.01) * (1 + rng.gamma(1.2, 0.03, size=40)) for _ in range(5)]
            )
            tokens = float(batch_size * (length or 14))
            rows.append(LatencyRow(model, "cpu", 2, batch_size, length, tuple(samples.tolist()), 5, (40,) * 5, tokens))
    return tuple(rows)


def findings(
    drop: float = 0.0, sparsity: float = 0.4, rows: int = ROWS, slow_at: int | None = 128, **changes: Any
) -> Findings:
    """A finished run.

    Args:
        drop: How much accuracy the student loses, about.
        sparsity: Of the pruning; 0 for none.
        rows: Test rows.
        slow_at: Length at which int8 is slower than the teacher; ``None`` for nowhere.
        changes: Other fields of ``Findings``.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(len(LABELS), size=rows)
    texts = tuple(f"{PHRASES[rng.integers(len(PHRASES))]} ({row})" for row in range(rows))
    teacher = logits(labels, 0.93, 1)
    # One row in ten is answered afresh; the losses are among them.
    fresh = rng.random((rows, 1)) < 0.1
    student = np.where(fresh, logits(labels, 0.95 - 10 * drop, 2), teacher + 0.3 * logits(labels, 0.95, 3))
    int8 = student + rng.normal(scale=0.8, size=student.shape).astype(np.float32)
    outputs = dict(zip(MODELS, (teacher, teacher + 1e-6, student, int8), strict=True))
    sizes = {"teacher": 438e6, "teacher_onnx": 438.2e6, "student_onnx": 268.1e6, "student_int8": 67.6e6}
    counts = {
        "teacher": 109_488_392,
        "teacher_onnx": 109_488_392,
        "student_onnx": 66_961_160,
        "student_int8": 66_961_160,
    }
    models = tuple(
        ModelFacts(
            name, int(sizes[name]), int(sizes[name] * (0.92 if "teacher" in name or not sparsity else 0.71)), counts[name],
            int(42_467_328 * sparsity) if "student" in name else 0, answered(outputs[name]),
        )
        for name in MODELS
    )  # fmt: skip
    parity = tuple(
        ParityRow(graph, batch, length, batch > 1, 4.1e-7 * length, 0)
        for graph in ("exported", "fused") for batch in (1, 3, 8) for length in (7, 32, 128)
    )  # fmt: skip
    corpus = Corpus(
        splits={
            name: Split(texts[:size], labels[:size].astype(np.int64))
            for name, size in (("train", rows), ("validation", rows // 5), ("test", rows))
        },
        labels=LABELS, source="data/bank-tickets", fingerprint="c" * 64,
        notes=("No validation split: 10% of the training rows were held out, stratified, seed 42.",),
    )  # fmt: skip
    found = Findings(
        recipe={
            "task": "text-classification", "seed": 42, "teacher": {"model": "./finetuned-bert"},
            "student": {"layers": 6, "layer_selection": "alternate"}, "prune": {"sparsity": sparsity},
            "distill": {"temperature": 2.0, "soft_weight": 0.9, "hard_weight": 0.1}, "evaluate": {"max_drop": 1.0},
        },
        environment={
            "date": "2026-05-17T09:30:00+00:00", "os": "Linux-6.1-x86_64", "python": "3.11.9",
            "cpu": {"model": "AMD EPYC 7763", "instruction_set": "avx2", "cores": 2, "flags": ["avx2", "fma"]},
            "virtual_machine": True, "gpus": [], "versions": {"onnxruntime": "1.32.0", "torch": "2.13.0"},
        },
        teacher="./finetuned-bert", teacher_fingerprint="a" * 64, teacher_layers=12, fine_tuned=False,
        layer_map=(0, 2, 4, 6, 8, 10), student_layers=6, corpus=corpus, max_length=128,
        truncated={"train": 12, "validation": 1, "test": 3}, models=models,
        evaluation=replace(evaluate(
            models, gold := labelled(
                labels, LABELS, texts, lengths=[len(text.split()) + 4 for text in texts],
                columns={"channel": ["app" if row % 3 else "web" for row in range(rows)]},
            ),
            validation=gold, validation_answers={model.name: model.answers for model in models},
        ), company=(
            CompanyDrift("student_onnx", min(256, rows), 28, 9.5e-7, 0, 32, 1.4e-6, 0),
            CompanyDrift("student_int8", min(256, rows), 28, 0.0, 0, 32, 0.0, 0),
        )),
        exported={
            name: ExportedModel(
                Path(f"{name}.onnx"), ("input_ids", "attention_mask"), 18,
                (FusionCount("Attention", layers, layers), FusionCount("SkipLayerNormalization", 2 * layers, 2 * layers),
                 FusionCount("Gelu", layers, layers)), parity,
            )
            for name, layers in (("teacher_onnx", 12), ("student_onnx", 6))
        },
        distillation=TrainingCurve(
            tuple(range(20, 1420, 20)), tuple((0.2 + 1.9 * np.exp(-np.arange(70) / 14) + rng.normal(0, 0.02, 70)).tolist()),
            tuple({"step": 350 * epoch, "accuracy": 0.93 - 0.3 / 3**epoch, "macro_f1": 0.925 - 0.3 / 3**epoch,
                   "agreement": 0.97 - 0.28 / 3**epoch} for epoch in (1, 2, 3, 4)),
        ),
        quantized=QuantizedModel(Path("q.onnx"), "avx2", "uint8 per channel", 36, 36, 0.989, 0.84),
        benchmark=Benchmark(
            latency(slow_at),
            tuple(ModelCost(name, "cpu", 200.0, 30.0, int(2.1 * sizes[name]), 900.0) for name in MODELS),
            ("Models alternated over 5 rounds; each round a fresh process.",), 0.012, MachineBounds(2, 128.0, 17.5),
        ),
        stages={"teacher": 2.1, "data": 3.4, "soft labels": 96.0, "distil": 1710.0, "export": 41.0, "quantize": 9.0,
                "evaluate": 120.0, "benchmark": 210.0},
        shapes={
            name: EncoderShape(layers, 768, 3072, 768, size * layers * 7_077_888)
            for name, layers, size in (
                ("teacher", 12, 4), ("teacher_onnx", 12, 4), ("student_onnx", 6, 4), ("student_int8", 6, 1),
            )
        },
        notes=("6 of 12 layers: every other one, from the first.",),
    )  # fmt: skip
    return replace(found, **changes)


if __name__ == "__main__":
    from compressor.report import write_report

    write_report(Path(sys.argv[1]), findings())
