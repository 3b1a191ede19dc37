"""What a base-size encoder becomes: sizes, fused blocks, parity, int8 counts and opening times of a 12x768 BERT.

    python benchmarks/base_size.py

Weights are random (seeded): sizes and counts do not depend on them. Prints a table, and one line of JSON at the end.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from compressor.architectures import architecture_of
from compressor.graph.export import export_onnx
from compressor.graph.files import file_bytes
from compressor.graph.quantize import quantize_onnx
from compressor.runtime import open_session

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
OPENINGS = 7
SHAPES = ((1, 8), (1, 128), (2, 512), (5, 40), (8, 64), (3, 17))


def batches(vocabulary: int) -> list[dict[str, np.ndarray]]:
    """Random ids; every batch of several texts is padded."""
    rng = np.random.default_rng(0)
    found = []
    for rows, length in SHAPES:
        ids = rng.integers(1000, vocabulary, (rows, length))
        mask = (np.arange(length) < np.linspace(length, max(2, length // 3), rows)[:, None]).astype(np.int64)
        found.append({"input_ids": ids * mask, "token_type_ids": np.zeros_like(ids), "attention_mask": mask})
    return found


def opening(path: Path) -> dict[str, float]:
    """Median milliseconds until a session of one thread is there, by kind of start, in turn."""
    kept = path.with_suffix(".kept.onnx")
    open_session(path, threads=1, kept=kept)
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(OPENINGS):
        for name, where in (("cold", None), ("warm", kept)):
            start = time.perf_counter()
            open_session(path, threads=1, kept=where)
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) * 1e3 for name, found in seconds.items()}


def main() -> None:
    """Export, quantize and count."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(BertConfig(num_labels=2)).eval()
    texts = batches(model.config.vocab_size)
    architecture = architecture_of(model.config)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        exported = export_onnx(model, architecture, INPUTS, Path(folder) / "model.onnx", opset=18, batches=texts)
        export_seconds = time.perf_counter() - start
        quantized = quantize_onnx(
            exported.path,
            Path(folder) / "model_quantized.onnx",
            target="auto",
            expected=12 * len(architecture.linears),
            batches=texts[3:5],
            calibration=lambda: texts[:3],
        )
        sizes = {"fp32": file_bytes(exported.path), "int8": file_bytes(quantized.path)}
        opened = {"fp32": opening(exported.path), "int8": opening(quantized.path)}
    print(f"export with parity and fusion: {export_seconds:.0f} s")
    for name, size in sizes.items():
        print(f"{name} file: {size / 1e6:.2f} MB")
    for name, found in opened.items():
        print(f"{name} session opened: {found['cold']:.0f} ms, warm start {found['warm']:.0f} ms")
    for count in exported.fusions:
        print(f"fused {count.kind}: {count.found} of {count.expected}")
    for row in exported.parity:
        print(
            f"parity {row.graph} {row.batch_size}x{row.sequence_length}{' padded' if row.padded else ''}: "
            f"{row.max_abs_difference:.1e}, {row.changed_labels} labels changed"
        )
    print(f"int8 products: {quantized.quantized} of {quantized.expected}, for {quantized.target}")
    print(
        json.dumps(
            {
                "sizes": sizes,
                "opening_ms": opened,
                "fusions": {count.kind: [count.found, count.expected] for count in exported.fusions},
                "parity": max(row.max_abs_difference for row in exported.parity),
                "int8": [quantized.quantized, quantized.expected],
            }
        )
    )


if __name__ == "__main__":
    main()
