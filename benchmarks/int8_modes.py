"""Time the int8 modes side by side: one scale per token against one per tensor, on a 12x768 BERT.

    python benchmarks/int8_modes.py [ROUNDS]

Weights are random (seeded): time does not depend on them. Every model runs in a fresh process per round, in alternating
order, with equal threads; ratios come with their interval, and with the noise floor of a model against its own copy.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from compressor.architectures import architecture_of
from compressor.benchmark import MeasuredModel, TokenRows, measure, speedup, verdict
from compressor.graph.export import export_onnx
from compressor.graph.passes.int8 import MODES
from compressor.graph.quantize import quantize_onnx
from compressor.recipe import BenchmarkRecipe

INPUTS = ("input_ids", "attention_mask")
SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (8, 128))


def random_rows(vocabulary: int, rows: int = 64) -> list[dict[str, list[int]]]:
    """Rows of random ids, 8 to 128 tokens long."""
    rng = np.random.default_rng(0)
    found = []
    for length in rng.integers(8, 129, rows):
        found.append(
            {"input_ids": rng.integers(1000, vocabulary, length).tolist(), "attention_mask": [1] * int(length)}
        )
    return found


def batch(rows: list[dict[str, list[int]]]) -> dict[str, np.ndarray]:
    """Pad rows to one batch."""
    width = max(len(row["input_ids"]) for row in rows)
    padded = {name: np.zeros((len(rows), width), np.int64) for name in INPUTS}
    for index, row in enumerate(rows):
        for name in INPUTS:
            padded[name][index, : len(row[name])] = row[name]
    return padded


def main() -> None:
    """Export once, quantize in every mode, measure all."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(BertConfig(num_labels=2)).eval()
    architecture = architecture_of(model.config)
    rows = random_rows(model.config.vocab_size)
    batches = [batch(rows[:1]), batch(rows[1:9])]
    recipe = BenchmarkRecipe(
        batch_sizes=tuple(sorted({size for size, _ in SHAPES})),
        sequence_lengths=tuple(sorted({length for _, length in SHAPES})),
        rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 5,
    )
    with tempfile.TemporaryDirectory() as folder:
        fp32 = export_onnx(model, architecture, INPUTS, Path(folder) / "fp32.onnx", opset=18, batches=batches)
        models = [MeasuredModel("fp32", "onnx", fp32.path)]
        for mode in MODES:
            path = Path(folder) / f"{mode}.onnx"
            quantize_onnx(
                fp32.path, path, target="auto", expected=12 * len(architecture.linears), batches=batches, mode=mode
            )
            models.append(MeasuredModel(mode, "onnx", path))
        found = measure(models, recipe, TokenRows(rows, INPUTS, 512))
    print(f"noise floor: a model against its own copy differs by {found.noise_floor:.1%}")
    ratios = {}
    for size, length in SHAPES:
        slower = speedup(found, "per-token", "dynamic", size, length)
        gain = speedup(found, "fp32", "per-token", size, length)
        ratios[f"{size}x{length}"] = slower.value
        print(
            f"{size}x{length}: per-token takes {slower.value:.2f}x the time of per-tensor "
            f"({slower.low:.2f} to {slower.high:.2f}, {verdict(slower, found.noise_floor)}), "
            f"and is {gain.value:.2f}x faster than fp32"
        )
    mean = float(np.exp(np.mean(np.log(list(ratios.values())))))
    print(f"geometric mean: {mean:.2f}x")
    for note in found.notes:
        print(note)
    print(json.dumps({"ratios": ratios, "geometric_mean": mean, "noise_floor": found.noise_floor}))


if __name__ == "__main__":
    main()
