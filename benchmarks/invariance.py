"""Does int8 give a text one answer? Alone, padded and in a batch; in each mode.

    python benchmarks/invariance.py --data DATA --minilm DIR --work WORK [--minutes 30]
    python benchmarks/invariance.py --render

DATA holds ``clinc150/data_full.json`` and ``mr/{train,validation,test}.jsonl``. Two students of all-MiniLM-L6-v2 are
made by ``compress`` (three layers, a few minutes each), one for each dataset. Both are quantized in all forms, and
asked about 1,000 texts of their test split: alone, padded to 128 tokens, and in batches of 32 with others. Finished
datasets stand in ``benchmarks/results/invariance.json``: the same command goes on where it was stopped. ``--render``
writes the table into ``docs/quantization.md``. What the forms cost in time is measured by ``int8_modes.py``.
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
from compressor.environment import fingerprint
from compressor.folder import MODEL
from compressor.graph import files as onnx_files
from compressor.graph import modes, targets
from compressor.graph.calibration import Calibration
from compressor.graph.passes import int8
from compressor.runtime import Session, open_session
from compressor.runtime.machine import detect_target
from compressor.tasks import TASKS

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "invariance.json"
PAGE = HERE.parent / "docs" / "quantization.md"

# Title, mode, and what the weights are chosen for.
FORMS = {
    "smooth": ("fixed steps behind layer norms (`smooth`, the default)", "smooth", "avx512_vnni"),
    "smooth, bounded": ("the same, weights bounded for x86 without VNNI", "smooth", "avx2"),
    "per-token": ("one scale per token (`per-token`)", "per-token", "avx512_vnni"),
    "dynamic": ("one scale per tensor (`dynamic`)", "dynamic", "auto"),
}
TEXTS, WIDTH, BATCH, CALIBRATION = 1000, 128, 32, 512
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TASK = TASKS["single-label"]


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


def quantize(student: Path, work: Path, texts: Sequence[Mapping[str, list[int]]]) -> dict[str, Path]:
    """Write the forms of a student, less those that saturate here, and name its fp32 file beside them."""
    fp32 = student / MODEL
    found = {"fp32": fp32}
    seen = Calibration(lambda: [pad(texts[at : at + 8], INPUTS, 0) for at in range(0, len(texts), 8)])
    for form, (_, mode, target) in FORMS.items():
        plan = targets.first_plan(mode, target)
        if not targets.can_saturate(plan, detect_target()):
            found[form] = work / f"{student.name}-{form.replace(', ', '-')}.onnx"
            modes.write(fp32, found[form], plan, seen)
    return found


def read_rows(student: Path, dataset: str, work: Path, split: str, count: int) -> list[dict[str, list[int]]]:
    """Token ids of texts that are spread evenly over a split."""
    lines = (work / "data" / dataset / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line]
    chosen = [texts[index] for index in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]
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


def rounding(fp32: Path) -> float:
    """Root mean square of the rounding of a file's products with bounded weights, over that with the full range."""
    constants = onnx_files.load(fp32).graph.initializers.values()
    weights = [value.const_value.numpy() for value in constants if _is_multiplied(value)]
    bounded, full = (
        sum(float(np.square(weight - np.multiply(*int8.quantize_weight(weight, 0, bounded=kind))).sum())
            for weight in weights)
        for kind in (True, False)
    )  # fmt: skip
    return float(np.sqrt(bounded / full))


def _is_multiplied(value: Any) -> bool:
    return len(value.shape) == 2 and any(use.node.op_type in ("MatMul", "Attention") for use in value.uses())


def compare(files: Mapping[str, Path], rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Any]:
    """Ask all files, each form in all three ways."""
    truth = ask(open_session(files["fp32"]), rows)
    told = {}
    for form in FORMS.keys() & files.keys():
        session = open_session(files[form])
        alone, padded, batched = ask(session, rows), ask(session, rows, 1, WIDTH), ask(session, rows, BATCH)
        told[form] = {
            name: {"difference": largest_difference(TASK, *pair), "labels": changed_rows(TASK, *pair)}
            for name, pair in {"padded": (alone, padded), "batched": (alone, batched), "fp32": (truth, alone)}.items()
        }
    return {
        "texts": len(rows), "width": WIDTH, "batch": BATCH, "forms": told, "rounding": rounding(files["fp32"])
    }  # fmt: skip


def run(asked: argparse.Namespace) -> None:
    """Carry out what is missing, until the time is up."""
    deadline = time.monotonic() + 60 * asked.minutes
    work = asked.work.resolve()
    accuracy.prepare(asked.data, work)
    for dataset in DATASETS:
        unit = f"answers {dataset.name}"
        if unit in finished.read(RESULTS) or time.monotonic() > deadline:
            continue
        student = make_student(dataset, asked.minilm, work)
        files = quantize(student, work, read_rows(student, dataset.name, work, "train", CALIBRATION))
        found = compare(files, read_rows(student, dataset.name, work, "test", TEXTS))
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
    for form, (title, _, _) in FORMS.items():
        if not all(form in one["forms"] for one in asked):
            continue
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
        f"{cpu['model']} ({cpu['instruction_set']}). With bounded weights (see Targets) the rounding error of a weight "
        f"is {max(one['rounding'] for one in asked):.2f} times that of the full range.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the tables and measure nothing")
    parser.add_argument("--data", type=Path, help="folder with clinc150, banking77 and mr")
    parser.add_argument("--work", type=Path, default=Path("exported/invariance"), help="folder for the students")
    parser.add_argument("--minilm", default="demo", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
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
