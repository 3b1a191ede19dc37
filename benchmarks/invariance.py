"""Does int8 give a text one answer? Alone, padded and in a batch; with one scale per token and with one per tensor.

    python benchmarks/invariance.py --data DATA --minilm DIR --work WORK [--minutes 30]
    python benchmarks/invariance.py --render

DATA holds ``clinc150/data_full.json`` and ``mr/{train,validation,test}.jsonl``. Two students of all-MiniLM-L6-v2 are
made by ``compress`` (three layers, a few minutes each), one for each dataset. Both are quantized in both forms, and
asked about 1,000 texts of their test split: alone, padded to 128 tokens, and in batches of 32 with others. Then the
forms are timed side by side, in fresh processes of their own, in alternating rounds with equal threads. Finished units
stand in ``benchmarks/results/invariance.json``: the same command goes on where it was stopped. ``--render`` writes the
tables into ``docs/quantization.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accuracy
import finished
import numpy as np
import page
from tokenizers import Tokenizer

from compressor.answers import Answers, changed_rows, cut, largest_difference, pad
from compressor.benchmark import Budget, MeasuredModel, TokenRows, measure, speedup
from compressor.environment import fingerprint
from compressor.folder import MODEL
from compressor.graph import modes, targets
from compressor.recipe import BenchmarkRecipe
from compressor.runtime import Session, open_session
from compressor.tasks import TASKS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "invariance.json"
PAGE = HERE.parent / "docs" / "quantization.md"

FORMS = {"per-token": "one scale per token (default)", "dynamic": "one scale per tensor"}
TEXTS, WIDTH, BATCH = 1000, 128, 32
SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (8, 128))
TASK = TASKS["single-label"]
# Processes are cheap and calls are short here: more of them in place of longer ones.
BUDGET = Budget(timed_seconds=0.3, max_texts=16)


@dataclass(frozen=True)
class Dataset:
    """What a student learns from, and for how long: enough that its answers mean something."""

    name: str
    rows: int
    teacher_epochs: int
    epochs: int


DATASETS = (Dataset("mr", 2500, 2, 2), Dataset("clinc150", 5000, 4, 6))


def make_student(dataset: Dataset, teacher: str, work: Path) -> Path:
    """Run ``compress``, unless its folder is there."""
    path = work / f"{dataset.name}-student"
    if not (path / "manifest.json").is_file():
        command = [
            sys.executable, "-m", "compressor", "--teacher", teacher, "--data", str(work / "data" / dataset.name),
            "--layers", "3", "--max-train-rows", str(dataset.rows), "--teacher-epochs", str(dataset.teacher_epochs),
            "--teacher-learning-rate", "2e-4", "--epochs", str(dataset.epochs), "--learning-rate", "4e-4",
            "--no-benchmark", "--overwrite", "--cache-dir", str(work / "cache"), "--output-dir", str(path),
        ]  # fmt: skip
        subprocess.run(command, check=True, env=dict(os.environ))
    return path


def quantize(student: Path, work: Path) -> dict[str, Path]:
    """Write both forms of a student for this machine, and name its fp32 file beside them."""
    fp32 = student / MODEL
    found = {"fp32": fp32}
    for form in FORMS:
        found[form] = work / f"{student.name}-{form}.onnx"
        modes.write(fp32, found[form], targets.first_plan(form, "auto"), lambda: ())
    return found


def read_rows(student: Path, dataset: str, work: Path) -> list[dict[str, list[int]]]:
    """Token ids of texts that are spread evenly over a test split."""
    lines = (work / "data" / dataset / "test.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line]
    chosen = [texts[index] for index in np.linspace(0, len(texts) - 1, min(TEXTS, len(texts))).astype(int)]
    tokenizer = Tokenizer.from_file(str(student / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(WIDTH)
    encoded = tokenizer.encode_batch(chosen)
    return [
        {"input_ids": one.ids, "attention_mask": one.attention_mask, "token_type_ids": one.type_ids} for one in encoded
    ]


def ask(session: Session, rows: Sequence[Mapping[str, list[int]]], size: int = 1, width: int = 0) -> Answers:
    """What a file says about all rows, in batches, padded to the longest row or to a width."""
    found = []
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        found += cut(TASK, session.run_all(pad(group, session.inputs, 0, width)), group)
    return Answers.of(found)


def compare(files: Mapping[str, Path], rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Any]:
    """Ask all files, each form in all three ways."""
    truth = ask(open_session(files["fp32"]), rows)
    told = {}
    for form in FORMS:
        session = open_session(files[form])
        alone, padded, batched = ask(session, rows), ask(session, rows, 1, WIDTH), ask(session, rows, BATCH)
        told[form] = {
            name: {"difference": largest_difference(TASK, *pair), "labels": changed_rows(TASK, *pair)}
            for name, pair in {"padded": (alone, padded), "batched": (alone, batched), "fp32": (truth, alone)}.items()
        }
    return {"texts": len(rows), "width": WIDTH, "batch": BATCH, "forms": told}


def clock(
    files: Mapping[str, Path], rows: list[dict[str, list[int]]], rounds: int, threads: int | None
) -> dict[str, Any]:
    """Time both forms; what is told is how much longer one scale per token takes."""
    recipe = BenchmarkRecipe(
        batch_sizes=tuple(sorted({size for size, _ in SHAPES})),
        sequence_lengths=tuple(sorted({length for _, length in SHAPES})),
        rounds=rounds, max_rounds=rounds, clients=(), threads=threads,
    )  # fmt: skip
    models = [MeasuredModel(form, "onnx", files[form], precision="int8") for form in ("dynamic", "per-token")]
    found = measure(
        models, recipe, TokenRows(rows, ("input_ids", "attention_mask", "token_type_ids"), 512), budget=BUDGET
    )
    ratios = {}
    for size, length in SHAPES:
        slower = speedup(found, "per-token", "dynamic", size, length)
        ratios[f"{size}x{length}"] = {"ratio": slower.value, "low": slower.low, "high": slower.high}
    return {
        "ratios": ratios,
        "geometric_mean": float(np.exp(np.mean([np.log(one["ratio"]) for one in ratios.values()]))),
        "noise_floor": found.noise_floor,
        "threads": found.latency[0].threads,
        "rounds": rounds,
        "notes": list(found.notes),
    }


def run(asked: argparse.Namespace) -> None:
    """Carry out what is missing, until the time is up."""
    deadline = time.monotonic() + 60 * asked.minutes
    work = asked.work.resolve()
    accuracy.prepare(asked.data, work)
    for dataset in DATASETS:
        wanted = [f"{kind} {dataset.name}" for kind in ("answers", "time")][: 2 if dataset is DATASETS[0] else 1]
        for unit in wanted:
            left_out = asked.only is not None and not unit.startswith(asked.only)
            if left_out or unit in finished.read(RESULTS) or time.monotonic() > deadline:
                continue
            student = make_student(dataset, asked.minilm, work)
            files, rows = quantize(student, work), read_rows(student, dataset.name, work)
            if unit.startswith("answers"):
                found = compare(files, rows)
            else:
                found = clock(files, rows, asked.rounds, asked.threads)
            machine = fingerprint()
            finished.add(
                RESULTS, unit, {**found, "environment": {key: machine[key] for key in ("date", "cpu", "versions")}}
            )
            print(f"{unit}: {json.dumps(found)}", flush=True)


def render(results: Mapping[str, Any]) -> str:
    """Lay the results out as Markdown."""
    there = [dataset for dataset in DATASETS if f"answers {dataset.name}" in results]
    asked = [results[f"answers {dataset.name}"] for dataset in there]
    if not asked:
        raise ValueError(f"{RESULTS} holds no answers yet")
    texts = sum(one["texts"] for one in asked)
    lines = [
        f"| activations | alone and padded to {WIDTH} | alone and in a batch of {BATCH} | int8 alone and fp32 |",
        "| --- | --- | --- | --- |",
    ]
    for form, title in FORMS.items():
        cells = []
        for other in ("padded", "batched", "fp32"):
            labels = sum(one["forms"][form][other]["labels"] for one in asked)
            most = max(one["forms"][form][other]["difference"] for one in asked)
            cells.append(f"{labels} labels ({labels / texts:.2%}), logits up to {most:.2g} apart")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    cpu, names = asked[0]["environment"]["cpu"], " and ".join(dataset.name for dataset in there)
    lines += [
        "",
        f"{texts:,} test texts of {names}, a three-layer MiniLM for each, on "
        f"{cpu['model']} ({cpu['instruction_set']}).",
    ]
    timed = results.get(f"time {DATASETS[0].name}")
    if timed:
        shapes, mean = list(timed["ratios"]), timed["geometric_mean"]
        shown = [
            f"{one['ratio']:.2f} ({one['low']:.2f} to {one['high']:.2f})" for one in timed["ratios"].values()
        ]  # fmt: skip
        lines += [
            "",
            f"| time of one scale per token over one per tensor | {' | '.join(shapes)} | geometric mean |",
            f"| --- |{' --- |' * (len(shapes) + 1)}",
            f"| MiniLM, 3 layers of 384, {timed['threads']} threads | {' | '.join(shown)} | {mean:.3f} |",
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the tables and measure nothing")
    parser.add_argument("--data", type=Path, help="folder with clinc150, banking77 and mr")
    parser.add_argument("--work", type=Path, default=Path("exported/invariance"), help="folder for the students")
    parser.add_argument("--minilm", default="demo", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
    parser.add_argument("--only", choices=("answers", "time"), help="one kind of unit")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None, help="default: the cores this process may use")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no unit after this many minutes")
    asked = parser.parse_args()
    if asked.render:
        page.fill(PAGE, "invariance", Path(__file__).name, render(finished.read(RESULTS)))
        print(PAGE)
    elif asked.data:
        run(asked)
    else:
        parser.error("--data is needed to measure; --render needs nothing")


if __name__ == "__main__":
    main()
