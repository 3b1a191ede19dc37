"""How much of its teacher's accuracy a student keeps: every preset, seed and depth, on the whole test splits.

    python benchmarks/accuracy.py --data DATA --work WORK [--part minilm] [--dataset mr] [--minutes 60]
    python benchmarks/accuracy.py --render

DATA holds ``clinc150/data_full.json`` (github.com/clinc/oos-eval), ``banking77/{train,test}.csv``
(github.com/PolyAI-LDN/task-specific-datasets) and ``mr/{train,validation,test}.jsonl`` (the rotten_tomatoes split).
A unit of work is one run of the command line: one teacher, dataset, depth, variant and seed. Finished units stand in
``benchmarks/results/accuracy.json`` and are never repeated; a killed one continues from its last checkpoint, which
lies in WORK. All variants of one row share teacher, data, layers, epochs and learning rate. ``--render`` writes the
table into ``docs/accuracy.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import finished

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "accuracy.json"
PAGE = HERE.parent / "docs" / "accuracy.md"

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "ours": (),
    "fine-tuned only": ("--soft-weight", "0", "--hard-weight", "1"),
    "distilbert": ("--preset", "distilbert"),
    "pkd": ("--preset", "pkd"),
    "tinybert": ("--preset", "tinybert"),
    "minilm": ("--preset", "minilm"),
}


@dataclass(frozen=True)
class Dataset:
    """One dataset and how long teacher and student learn from it."""

    name: str
    teacher_epochs: int
    epochs: int


@dataclass(frozen=True)
class Part:
    """One teacher with all that is tried on it."""

    name: str
    title: str
    layers: tuple[int, ...]
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    teacher_learning_rate: str
    goals: Mapping[tuple[int, str], float]


DATASETS = (Dataset("clinc150", 4, 6), Dataset("banking77", 6, 8), Dataset("mr", 3, 4))
PARTS = (
    Part(
        "minilm", "MiniLM-L6 (384 wide)", (3,), tuple(VARIANTS), (42, 43, 44), "1e-4",
        {(3, "clinc150"): 99.5, (3, "banking77"): 99.5, (3, "mr"): 99.5},
    ),
    Part(
        "mpnet", "MPNet base (768 wide)", (6, 4, 3), ("ours", "fine-tuned only", "distilbert"), (42,), "3e-5",
        {(6, "clinc150"): 100.0, (6, "banking77"): 100.0, (6, "mr"): 99.0, (3, "clinc150"): 99.0},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """One run."""

    part: Part
    dataset: Dataset
    layers: int
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Key in the results and name of the run folder."""
        return f"{self.part.name}-{self.dataset.name}-{self.layers}l-{self.variant.replace(' ', '-')}-{self.seed}"


def units(part: str | None, dataset: str | None) -> Iterator[Unit]:
    """Every unit, those that the headline figures need first."""
    for seed_index in range(3):
        for chosen in PARTS:
            for data in DATASETS:
                if part in (None, chosen.name) and dataset in (None, data.name) and seed_index < len(chosen.seeds):
                    for layers in chosen.layers:
                        for variant in chosen.variants:
                            yield Unit(chosen, data, layers, variant, chosen.seeds[seed_index])


# --- data -----------------------------------------------------------------------------------


def prepare(data: Path, work: Path) -> None:
    """Write each dataset as the command line reads it; clinc150 with its out-of-scope class as one of the labels."""
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    for split, keys in (
        ("train", ("train", "oos_train")),
        ("validation", ("val", "oos_val")),
        ("test", ("test", "oos_test")),
    ):
        rows = [{"text": text, "label": label} for key in keys for text, label in clinc[key]]
        path = work / "data" / "clinc150" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    for name in ("banking77", "mr"):
        folder = work / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in (data / name).iterdir():
            if file.suffix in (".csv", ".jsonl"):
                shutil.copyfile(file, folder / file.name)


# --- one unit -------------------------------------------------------------------------------


def run(unit: Unit, teachers: Mapping[str, str], work: Path, threads: int) -> dict[str, Any]:
    """Carry out one unit by way of the command line and read its report."""
    folder = work / "runs" / unit.name
    command = [
        sys.executable, "-m", "compressor",
        "--teacher", teachers[unit.part.name],
        "--data", str(work / "data" / unit.dataset.name),
        "--layers", str(unit.layers),
        "--teacher-epochs", str(unit.dataset.teacher_epochs),
        "--teacher-learning-rate", unit.part.teacher_learning_rate,
        "--epochs", str(unit.dataset.epochs),
        "--seed", str(unit.seed),
        *VARIANTS[unit.variant],
        "--quantize", "--no-benchmark", "--overwrite",
        "--cache-dir", str(work / "cache"),
        "--output-dir", str(folder),
    ]  # fmt: skip
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{unit.name} failed ({done.returncode}):\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder)  # the training is kept in the cache; the figures are in the report
    models = {row["name"]: row["score"] for row in report["models"]}
    difference = report["verdict"]["difference"]
    return {
        "teacher": models["teacher"],
        "student": models["student_onnx"],
        "int8": models["student_int8"],
        "rows": report["verdict"]["rows"],
        "difference": [difference["estimate"], difference["low"], difference["high"]],
        "decision": report["verdict"]["decision"],
        "validation": [row.get("accuracy") for row in report["training"]["student"]["evaluations"]],
        "seconds": time.monotonic() - start,
        "environment": {key: report["environment"].get(key) for key in ("cpu", "packages")},
    }


def measure(arguments: argparse.Namespace) -> None:
    """Work through what is not finished, until the time is up."""
    work = Path(arguments.work).resolve()
    prepare(Path(arguments.data), work)
    teachers = {"minilm": arguments.minilm, "mpnet": arguments.mpnet}
    deadline = time.monotonic() + 60 * arguments.minutes
    for unit in units(arguments.part, arguments.dataset):
        if unit.name in finished.read(RESULTS) or not teachers[unit.part.name]:
            continue
        if time.monotonic() > deadline:
            print("The time is up; the same command goes on from here.")
            return
        result = run(unit, teachers, work, arguments.threads)
        finished.add(RESULTS, unit.name, result)
        print(
            f"{unit.name}: teacher {result['teacher']:.2%}, student {result['student']:.2%}, int8 {result['int8']:.2%}"
        )


# --- the table ------------------------------------------------------------------------------


def render(results: Mapping[str, Any]) -> str:
    """Lay the results out as Markdown; what is not measured yet is left empty."""
    lines = [
        "# Accuracy kept",
        "",
        "Written by `python benchmarks/accuracy.py --render` from `benchmarks/results/accuracy.json`. Whole test "
        "splits; clinc150 with its 1,000 out-of-scope rows. Retained is int8 student over fp32 teacher of one seed; "
        "the difference is in points, with the 95% interval of the first seed's paired test rows.",
        "",
    ]
    for part in PARTS:
        lines += [f"## {part.title}", "", _HEADER]
        for data in DATASETS:
            for layers in part.layers:
                for variant in part.variants:
                    found = [
                        results[unit.name]
                        for seed in part.seeds
                        if (unit := Unit(part, data, layers, variant, seed)).name in results
                    ]
                    goal = part.goals.get((layers, data.name)) if variant == "ours" else None
                    lines.append(_line(f"{data.name}, {layers} layers", variant, found, goal))
        lines.append("")
    return "\n".join(lines)


_HEADER = (
    "| data | student | seeds | teacher | student fp32 | int8 | retained | difference | goal |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def _line(where: str, variant: str, found: Sequence[Mapping[str, Any]], goal: float | None) -> str:
    wanted = f">= {goal:.1f}%" if goal else ""
    if not found:
        return f"| {where} | {variant} | 0 | | | | | | {wanted} |"
    kept = [100 * row["int8"] / row["teacher"] for row in found]
    retained = f"{mean(kept):.2f}%" + (f" ± {stdev(kept):.2f}" if len(kept) > 1 else "")
    estimate, low, high = (100 * value for value in found[0]["difference"])
    if goal:
        wanted += ", met" if mean(kept) >= goal else f", missed by {goal - mean(kept):.2f}"
    scores = " | ".join(f"{100 * mean(row[name] for row in found):.2f}" for name in ("teacher", "student", "int8"))
    points = f"{estimate:+.2f} ({low:+.2f} to {high:+.2f})"
    return f"| {where} | {variant} | {len(found)} | {scores} | {retained} | {points} | {wanted} |"


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write docs/accuracy.md and measure nothing")
    parser.add_argument("--data", help="folder with clinc150, banking77 and mr")
    parser.add_argument("--work", default="accuracy-work", help="folder for caches and unfinished runs")
    parser.add_argument("--minilm", default="demo", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
    parser.add_argument("--mpnet", help="folder of all-mpnet-base-v2; its part is left out without it")
    parser.add_argument("--part", choices=[part.name for part in PARTS])
    parser.add_argument("--dataset", choices=[data.name for data in DATASETS])
    parser.add_argument("--minutes", type=float, default=1e6, help="start no unit after this many minutes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if arguments.render:
        PAGE.write_text(render(finished.read(RESULTS)), encoding="utf-8")
        print(PAGE)
    elif arguments.data:
        measure(arguments)
    else:
        parser.error("--data is needed to measure; --render needs nothing")


if __name__ == "__main__":
    main()
