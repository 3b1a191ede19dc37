"""One real run of every task: MiniLM with 6 layers to a student with 3, int8, against its teacher.

    python benchmarks/tasks.py --data DATA --work WORK [--only ner qa] [--minutes 60]
    python benchmarks/tasks.py --render

DATA holds public datasets as their authors publish them: ``go_emotions/{train,dev,test}.tsv`` and ``labels.txt``,
``wnut17/*``, ``xquad/xquad.en.json``, ``plain_text/inaugural.txt``, ``mr/*.jsonl`` and ``banking77/{train,test}.csv``.
Finished runs stand in ``benchmarks/results/tasks.json`` and are not repeated. ``--render`` writes ``docs/tasks.md``.
The teachers are fine-tuned here, for minutes and on samples: the figures compare student and teacher, and are no
records of what the datasets allow.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import finished
import page

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "tasks.json"
PAGE = HERE.parent / "docs" / "tasks.md"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        prepare: Writes what the command line reads: (data folder, folder to fill) to the path for ``--data``.
        flags: Of the command line.
    """

    title: str
    prepare: Callable[[Path, Path], Path]
    flags: tuple[str, ...]


# --- data -----------------------------------------------------------------------------------


def emotions(data: Path, folder: Path) -> Path:
    """GoEmotions: several of 28 labels for each text."""
    names = (data / "go_emotions" / "labels.txt").read_text(encoding="utf-8").split("\n")
    for split, file in zip(SPLITS, ("train", "dev", "test"), strict=True):
        lines = (data / "go_emotions" / f"{file}.tsv").read_text(encoding="utf-8").split("\n")
        rows = [line.split("\t") for line in lines if line]
        _jsonl(
            folder / f"{split}.jsonl",
            [{"text": row[0], "labels": [names[int(i)] for i in row[1].split(",")]} for row in rows],
        )
    return folder


def entities(data: Path, folder: Path) -> Path:
    """WNUT 2017: six types of entities in tweets and comments."""
    for split, file in zip(SPLITS, ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"), strict=True):
        shutil.copyfile(data / "wnut17" / file, folder / f"{split}.conll")
    return folder


def questions(data: Path, folder: Path) -> Path:
    """XQuAD, English: split by paragraph by the toolkit itself."""
    return Path(shutil.copyfile(data / "xquad" / "xquad.en.json", folder / "xquad.json"))


def speeches(data: Path, folder: Path) -> Path:
    """Inaugural addresses of presidents, unlabelled."""
    return Path(shutil.copyfile(data / "plain_text" / "inaugural.txt", folder / "inaugural.txt"))


def sentences(data: Path, folder: Path) -> Path:
    """Film reviews and questions to a bank, their labels left out."""
    for split, file in zip(SPLITS, ("train", "validation", "test"), strict=True):
        texts = [
            json.loads(line)["text"]
            for line in (data / "mr" / f"{file}.jsonl").read_text(encoding="utf-8").split("\n")
            if line
        ]
        bank = _bank(data, "test" if split == "test" else "train")
        part = {"train": bank[:8000], "validation": bank[8000:], "test": bank}[split]
        _jsonl(folder / f"{split}.jsonl", [{"text": text} for text in [*texts, *(text for text, _ in part)]])
    return folder


def pairs(data: Path, folder: Path) -> Path:
    """Do two customers of a bank want the same? Half of the pairs share their intent; banking77's own splits."""
    rng = random.Random(0)
    train = _bank(data, "train")
    rng.shuffle(train)
    for split, rows, count in (
        ("train", train[:9000], 6000),
        ("validation", train[9000:], 800),
        ("test", _bank(data, "test"), 3000),
    ):
        by_intent: dict[str, list[str]] = {}
        for text, intent in rows:
            by_intent.setdefault(intent, []).append(text)
        intents = sorted(intent for intent, texts in by_intent.items() if len(texts) > 1)
        found = []
        for index in range(count):
            first, other = rng.sample(intents, 2)
            same = index % 2 == 0
            one, two = rng.sample(by_intent[first], 2)
            found.append(
                {
                    "text": one,
                    "pair": two if same else rng.choice(by_intent[other]),
                    "label": "same" if same else "different",
                }
            )
        _jsonl(folder / f"{split}.jsonl", found)
    return folder


def _bank(data: Path, split: str) -> list[tuple[str, str]]:
    with (data / "banking77" / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _flags(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TASKS: Mapping[str, Task] = {
    "embeddings": Task("embeddings, MR and banking77 texts", sentences, _flags("--task feature-extraction --epochs 6")),
    "ner": Task(
        "entities, WNUT 17",
        entities,
        _flags("--task token-classification --teacher-learning-rate 2e-4 --teacher-epochs 8 --epochs 12"),
    ),
    "pairs": Task(
        "pairs, banking77 (same intent?)",
        pairs,
        _flags("--pair-column pair --teacher-learning-rate 1e-4 --teacher-epochs 3 --epochs 6"),
    ),
    "multi-label": Task(
        "multi-label, GoEmotions",
        emotions,
        _flags("--problem-type multi_label_classification --teacher-learning-rate 1e-4 --teacher-epochs 3 --epochs 4"),
    ),
    "qa": Task(
        "question answering, XQuAD",
        questions,
        _flags("--task question-answering --teacher-learning-rate 2e-4 --teacher-epochs 15 --epochs 15"),
    ),
    "fill-mask": Task(
        "fill-mask, inaugural addresses",
        speeches,
        _flags("--task fill-mask --teacher-learning-rate 2e-4 --teacher-epochs 20 --epochs 20 --preset distilbert"),
    ),
}


# --- one run --------------------------------------------------------------------------------


def run(name: str, task: Task, arguments: argparse.Namespace) -> dict[str, Any]:
    """Carry out one run by way of the command line and read its report."""
    work = Path(arguments.work).resolve()
    folder = work / "data" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = task.prepare(Path(arguments.data), folder)
    output = work / "runs" / name
    command = [
        sys.executable, "-m", "compressor", "--teacher", arguments.minilm, "--data", str(source), "--layers", "3",
        *task.flags, "--quantize", "--overwrite", "--cache-dir", str(work / "cache"), "--output-dir", str(output),
        "--sequence-lengths", "16,64", "--batch-sizes", "1,8", *arguments.flags.split(),
    ]  # fmt: skip
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    with (work / f"{name}.log").open("w", encoding="utf-8") as log:
        code = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False).returncode
    if code:
        sys.exit(f"{name} failed ({code}); see {work / f'{name}.log'}")
    report = json.loads((output / "report" / "report.json").read_text(encoding="utf-8"))
    models = {row["name"]: row for row in report["models"]}
    headline = report["headline"]
    return {
        "metric": report["metric"]["title"],
        "rows": report["verdict"]["rows"],
        **{
            name: models[key]["score"]
            for name, key in (("teacher", "teacher"), ("student", "student_onnx"), ("int8", "student_int8"))
        },
        "difference": [report["verdict"]["difference"][end] for end in ("estimate", "low", "high")],
        "decision": report["verdict"]["decision"],
        "speedup": headline["speedup"],
        "speedup_ci95": headline["speedup_ci95"],
        "size_bytes": [headline["baseline_size_bytes"], headline["size_bytes"]],
        "command": f"compress --teacher MINILM --data {source.name} --layers 3 "
        + " ".join((*task.flags, "--quantize", *arguments.flags.split())),
        "mode": report["quantization"]["mode"],
        "seconds": time.monotonic() - start,
        "cpu": report["environment"].get("cpu"),
    }


def render(results: Mapping[str, Any]) -> str:
    """Lay the results out as Markdown."""
    lines = [
        "# Every task, once, on real data",
        "",
        "MiniLM (6 layers x 384) to 3 layers and int8, written by `python benchmarks/tasks.py --render` from "
        "`benchmarks/results/tasks.json`. Teachers were fine-tuned for minutes: compare the columns, not the datasets' "
        "records. Speed-up is that of the int8 student over the teacher in onnxruntime fp32, one text at a time, with "
        "its 95% interval.",
        "",
        "| task | metric | test rows | teacher | student fp32 | int8 | difference (95%) | file | speed-up |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, task in TASKS.items():
        if name in results:
            row = results[name]
            estimate, low, high = (100 * value for value in row["difference"])
            scores = " | ".join(f"{100 * row[key]:.1f}" for key in ("teacher", "student", "int8"))
            before, after = (size / 1e6 for size in row["size_bytes"])
            ends = " to ".join(f"{value:.1f}" for value in row["speedup_ci95"] or ())
            lines.append(
                f"| {task.title} | {row['metric']} | {row['rows']:,} | {scores} "
                f"| {estimate:+.1f} ({low:+.1f} to {high:+.1f}) "
                f"| {before:.0f} -> {after:.0f} MB | {row['speedup']:.1f}x ({ends}) |"
            )
    lines += [
        "",
        f"On {page.machines(_placed(results))}; {page.int8_form(results.values())}, the default of that day. "
        "The commands:",
        "",
        "```",
        *(results[name]["command"] for name in TASKS if name in results),
        "```",
        "",
    ]
    return "\n".join(lines)


def _placed(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"threads": one["cpu"]["affinity"], "environment": {"cpu": one["cpu"]}} for one in results.values()]


def main() -> None:
    """Run what is not finished, or render what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write docs/tasks.md and run nothing")
    parser.add_argument("--data", help="folder with the datasets")
    parser.add_argument("--work", default="tasks-work", help="folder for caches and run folders")
    parser.add_argument("--results", default=str(RESULTS), help="where finished runs are kept")
    parser.add_argument("--flags", default="", help="more flags of the command line, for every run")
    parser.add_argument("--minilm", default="demo", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
    parser.add_argument("--only", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--minutes", type=float, default=1e6, help="start no run after this many minutes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    results = Path(arguments.results)
    if arguments.render:
        PAGE.write_text(render(finished.read(results)), encoding="utf-8")
        print(PAGE)
        return
    if not arguments.data:
        parser.error("--data is needed to run; --render needs nothing")
    start = time.monotonic()
    for name in TASKS:
        if (
            name in arguments.only
            and name not in finished.read(results)
            and time.monotonic() - start < 60 * arguments.minutes
        ):
            result = run(name, TASKS[name], arguments)
            finished.add(results, name, result)
            print(
                f"{name}: {result['metric']} {result['teacher']:.3f} -> {result['int8']:.3f}, {result['speedup']:.1f}x"
            )


if __name__ == "__main__":
    main()
