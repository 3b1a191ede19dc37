"""Prove the benchmark's verdicts: a model against its own copy, and against one with a tenth more work.

    python benchmarks/noise.py --runs 20

Three models are built from configs and exported by the toolkit: A, ten layers of 384; A', a copy of A's file; and B, A
with an eleventh layer, a tenth more work by construction. Each run is one whole benchmark of the toolkit: fresh
processes in turn, rounds until the ratios are known, verdicts by the function that makes those of the report. What is
right is "no difference" for A' and "slower" for B.

A finished run is one line of ``runs.jsonl`` in the output folder; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from compressor.architectures import architecture_of
from compressor.benchmark import Budget, MeasuredModel, TokenRows, measure
from compressor.graph.export import export_onnx
from compressor.recipe import BenchmarkRecipe
from compressor.report import speed

LAYERS, HIDDEN, VOCABULARY = 10, 384, 2000
NAMES = {"A": LAYERS, "B": LAYERS + 1}
COPY = "A'"
EXPECTED = {COPY: "no difference", "B": "slower"}
INPUTS = ("input_ids", "attention_mask")
LENGTH = 48
RECIPE = BenchmarkRecipe(batch_sizes=(1,), sequence_lengths=(LENGTH,), clients=())
BUDGET = Budget(timed_seconds=0.3, max_texts=16)


def build(folder: Path) -> dict[str, Path]:
    """Export A and B, and copy A; files that are there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.onnx" for name in NAMES}
    for name, layers in NAMES.items():
        if paths[name].exists():
            continue
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=layers, num_attention_heads=HIDDEN // 32,
            intermediate_size=4 * HIDDEN,
        )  # fmt: skip
        model = AutoModelForSequenceClassification.from_config(config).eval()
        rows = token_rows()
        feed = {key: np.array([row[key] for row in rows.rows[:1]], np.int64) for key in INPUTS}
        wide = {key: np.repeat(value, 3, axis=0) for key, value in feed.items()}
        unfinished = paths[name].with_suffix(".part.onnx")
        export_onnx(model, architecture_of(config), INPUTS, unfinished, opset=18, batches=[feed, wide])
        unfinished.rename(paths[name])
    paths[COPY] = folder / "A-copy.onnx"
    if not paths[COPY].exists():
        shutil.copy(paths["A"], paths[COPY])
    return {"A": paths["A"], COPY: paths[COPY], "B": paths["B"]}


def token_rows() -> TokenRows:
    """Texts of 32 to 64 random tokens."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, VOCABULARY, length).tolist() for length in rng.integers(32, 65, 200)]
    return TokenRows([{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids], INPUTS, max_length=128)


def run(paths: dict[str, Path], threads: int | None) -> dict[str, Any]:
    """Measure once, and keep what a reader of the verdicts needs."""
    start = time.monotonic()
    models = [MeasuredModel(name, "onnx", path) for name, path in paths.items()]
    found = measure(models, RECIPE.model_copy(update={"threads": threads}), token_rows(), budget=BUDGET)
    rows = [
        {
            "model": row["model"],
            "cell": "own lengths" if row["sequence_length"] is None else f"1 x {row['sequence_length']}",
            "slower_by": 1 / row["speedup"] - 1,
            "ci95": [1 / bound - 1 for bound in reversed(row["ci95"])],
            "verdict": row["verdict"],
        }
        for row in speed.speedups(found, "A")
    ]
    return {
        "seconds": round(time.monotonic() - start, 1),
        "rounds": found.latency[0].processes,
        "threads": found.latency[0].threads,
        "noise_floor": found.noise_floor,
        "rows": rows,
        "notes": list(found.notes),
    }


def counts(done: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the verdicts of all runs, by model and cell."""
    cells = list(dict.fromkeys((row["model"], row["cell"]) for one in done for row in one["rows"]))
    told = {
        (model, cell): Counter(
            row["verdict"] for one in done for row in one["rows"] if (row["model"], row["cell"]) == (model, cell)
        )
        for model, cell in cells
    }
    return {
        "runs": len(done),
        "median_seconds": float(np.median([one["seconds"] for one in done])),
        "median_rounds": float(np.median([one["rounds"] for one in done])),
        "median_noise_floor": float(np.median([one["noise_floor"] for one in done])),
        "verdicts": [
            {
                "model": model, "cell": cell, "expected": EXPECTED[model], "right": found[EXPECTED[model]],
                "all": dict(found),
            }
            for (model, cell), found in told.items()
        ],
    }  # fmt: skip


def main() -> None:
    """Run what is missing, then print the table and one line of JSON."""
    arguments = argparse.ArgumentParser(description="A model against its copy, and against one that is a tenth slower.")
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--threads", type=int, default=None, help="Default: the cores this process may use.")
    arguments.add_argument("--output-dir", type=Path, default=Path("exported/noise"))
    asked = arguments.parse_args()
    paths = build(asked.output_dir)
    log = asked.output_dir / "runs.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    while len(done) < asked.runs:
        done.append(run(paths, asked.threads))
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[-1]) + "\n")
        told = "; ".join(
            f"{row['model']} {row['cell']} {row['slower_by']:+.1%} {row['verdict']}" for row in done[-1]["rows"]
        )
        print(f"run {len(done)}: {done[-1]['rounds']} rounds, {done[-1]['seconds']:.0f} s, {told}", flush=True)
    result = counts(done[: asked.runs])
    print(f"\n| model | cell | right | of {result['runs']} runs |\n| --- | --- | --- | ---: |")
    for row in result["verdicts"]:
        print(f"| {row['model']} | {row['cell']} | {row['expected']} | {row['right']} |")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
