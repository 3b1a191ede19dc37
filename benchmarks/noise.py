"""Prove the benchmark's verdicts: a model against its own copy, and against one with a tenth more work.

    python benchmarks/noise.py --runs 20 [--minutes 60]
    python benchmarks/noise.py --render

Three models are built from configs and exported by the toolkit: A, ten layers of 384; A', a copy of A's file; and B, A
with an eleventh layer, a tenth more work by construction. Each run is one whole benchmark of the toolkit: fresh
processes in turn, rounds until the ratios are known, verdicts by the function that makes those of the report. What is
right is "no difference" for A' and "slower" for B.

Finished runs stand in ``benchmarks/results/noise.json``: the same command goes on where it was stopped. ``--render``
writes their table into ``docs/benchmark.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import finished
import numpy as np
import page
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from compressor.architectures import architecture_of
from compressor.benchmark import Budget, MeasuredModel, TokenRows, measure
from compressor.environment import fingerprint
from compressor.graph.export import export_onnx
from compressor.recipe import BenchmarkRecipe
from compressor.report import speed

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "noise.json"
PAGE = HERE.parent / "docs" / "benchmark.md"

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
        "cpu": fingerprint()["cpu"]["model"],
    }


def counts(done: Sequence[dict[str, Any]]) -> dict[str, Any]:
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


def render(done: Sequence[dict[str, Any]]) -> str:
    """Lay the counts out as Markdown; each model's median difference stands beside its verdicts."""
    result = counts(done)
    lines = [
        f"| model | cell | right | of {result['runs']} runs | median difference |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for row in result["verdicts"]:
        seen = [
            one["slower_by"]
            for found in done
            for one in found["rows"]
            if (one["model"], one["cell"]) == (row["model"], row["cell"])
        ]
        told = f"{float(np.median(seen)):+.1%}".replace("-", "−")
        lines.append(f"| {row['model']} | {row['cell']} | {row['expected']} | {row['right']} | {told} |")
    machines = "; ".join(dict.fromkeys(str(one["cpu"]) for one in done))
    threads = ", ".join(dict.fromkeys(str(one["threads"]) for one in done))
    return "\n".join(
        [
            *lines,
            "",
            f"On {machines} with {threads} threads; a run took {result['median_rounds']:.0f} rounds and "
            f"{result['median_seconds']:.0f} s, and its noise floor was {result['median_noise_floor']:.1%} (medians).",
        ]
    )


def main() -> None:
    """Run what is missing, then print the table and one line of JSON; or render what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the table into docs/benchmark.md and run nothing")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=1e6, help="start no run after this many minutes")
    parser.add_argument("--threads", type=int, default=None, help="default: the cores this process may use")
    parser.add_argument("--models", type=Path, default=Path("exported/noise"), help="folder for the models")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where finished runs are kept")
    asked = parser.parse_args()
    names = [f"run {index:02}" for index in range(1, asked.runs + 1)]
    if not asked.render:
        start = time.monotonic()
        for name in names:
            if name in finished.read(asked.results) or time.monotonic() - start > 60 * asked.minutes:
                continue
            found = run(build(asked.models), asked.threads)
            finished.add(asked.results, name, found)
            told = "; ".join(
                f"{row['model']} {row['cell']} {row['slower_by']:+.1%} {row['verdict']}" for row in found["rows"]
            )
            print(f"{name}: {found['rounds']} rounds, {found['seconds']:.0f} s, {told}", flush=True)
    known = finished.read(asked.results)
    done = [known[name] for name in names if name in known]
    if not done:
        parser.error(f"{asked.results} holds no finished run")
    if asked.render:
        page.fill(PAGE, "noise", Path(__file__).name, render(done))
        print(PAGE)
        return
    print(f"\n{render(done)}")
    print(json.dumps(counts(done)))


if __name__ == "__main__":
    main()
