"""What texts without labels and altered copies are worth where few texts are labelled.

    python benchmarks/few_labels.py --data DATA --work WORK [--dataset banking77] [--seed 42] [--minutes 60]
    python benchmarks/few_labels.py --render

DATA holds ``banking77/{train,test}.csv`` (github.com/PolyAI-LDN/task-specific-datasets) and ``clinc150/data_full.json``
(github.com/clinc/oos-eval; its 150 classes, without out-of-scope). Of each class 10 training texts are labelled and 3
more are validated with; all other training texts are what ``--unlabelled`` gets. A seed decides which they are, and
trains a teacher of 6 layers on the labelled ones alone, and its students of 3 layers. All students of a seed have the
same teacher and the same number of steps; those with altered copies have no dropout, by default. Their accuracy is that
of the fp32 student on the whole test split.

Finished units stand in ``benchmarks/results/few_labels.json`` and are not repeated; ``--render`` writes the table into
``docs/training.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import finished
import numpy as np
import page
from scipy import stats

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "few_labels.json"
PAGE = HERE.parent / "docs" / "training.md"

LABELLED, VALIDATED = 10, 3
"""Texts of each class."""

COPIES = 8
SEEDS = (42, 43, 44)
BATCH = 32
PLAIN = "labelled texts alone"
VARIANTS: Mapping[str, tuple[bool, int]] = {
    PLAIN: (False, 0),
    f"--augment {COPIES}": (False, COPIES),
    "--unlabelled": (True, 0),
    f"--unlabelled --augment {COPIES}": (True, COPIES),
}
"""Whether it gets the other training texts, and altered copies of each labelled one."""

DATASETS: Mapping[str, int] = {"banking77": 300, "clinc150": 600}
"""Steps of every student."""

TEACHER_EPOCHS = 20
FLAGS: Mapping[str, Any] = {
    "task": "text-classification", "problem-type": "single_label_classification", "layers": 3, "batch-size": BATCH,
    "teacher-epochs": TEACHER_EPOCHS, "teacher-learning-rate": 2e-4, "learning-rate": 4e-4,
}  # fmt: skip

Rows = list[tuple[str, str]]


def read(data: Path, dataset: str) -> tuple[Rows, Rows]:
    """Training and test rows: (text, label)."""
    if dataset == "clinc150":
        whole = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
        return [(text, label) for text, label in (*whole["train"], *whole["val"])], [
            (text, label) for text, label in whole["test"]
        ]
    found: list[Rows] = []
    for split in ("train", "test"):
        with (data / dataset / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            found.append([(row["text"], row["category"]) for row in csv.DictReader(stream)])
    return found[0], found[1]


def prepare(data: Path, dataset: str, seed: int, folder: Path) -> Path:
    """Write the labelled rows as the command line reads them, and the others beside them, without labels."""
    train, test = read(data, dataset)
    random.Random(seed).shuffle(train)
    taken: dict[str, int] = {}
    parts: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "rest": []}
    for text, label in train:
        taken[label] = taken.get(label, 0) + 1
        count = taken[label]
        part = "train" if count <= LABELLED else "validation" if count <= LABELLED + VALIDATED else "rest"
        parts[part].append({"text": text, "label": label} if part != "rest" else {"text": text})
    parts["test"] = [{"text": text, "label": label} for text, label in test]
    (folder / "labelled").mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        place = folder if part == "rest" else folder / "labelled"
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (place / f"{part}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def run(dataset: str, variant: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one student, and the teacher where it is the first of its seed."""
    from compressor import enriching, lesson, practice
    from compressor.answers import INPUT_NAMES, collect
    from compressor.heads import asking
    from compressor.journal import Journal
    from compressor.quiet import quiet
    from compressor.recipe import build
    from compressor.training.engine import resolve_device
    from compressor.training.soft_labels import soft_labels

    work = Path(arguments.work).resolve()
    folder = prepare(Path(arguments.data), dataset, seed, work / "data" / f"{dataset}-{seed}")
    is_given, copies = VARIANTS[variant]
    flags = {
        **FLAGS, "teacher": arguments.minilm, "data": str(folder / "labelled"), "seed": seed, "augment": copies,
        "cache-dir": str(work / "cache"), "precision": arguments.precision,
    }  # fmt: skip
    recipe = build({}, {**flags, **({"unlabelled": str(folder / "rest.jsonl")} if is_given else {})})
    recipe = recipe.model_copy(update={"device": resolve_device(recipe.device, recipe.distill.precision)})
    begin, journal = time.monotonic(), Journal(lambda event: None)
    with quiet():
        candidate = lesson.find_teacher(recipe, journal)
        candidate, material = lesson.read_material(recipe, candidate, journal)
        tutor, _ = lesson.teach_teacher(recipe, candidate, material, journal)
        recipe = enriching.settle(recipe, tutor, material, journal)
        labelled = material.tokenized
        material = enriching.extend(recipe, candidate, tutor, material, journal)
        cache = recipe.cache_dir.expanduser()
        heard: Any = {
            split: soft_labels(tutor, material.tokenized, split, cache, recipe.device, journal, precision)
            for split, precision in (("train", recipe.distill.precision), ("validation", "fp32"))
        }
        # The same test rows for every variant: asked once for all.
        said = soft_labels(tutor, labelled, "test", cache, recipe.device, journal)
        rows = len(material.tokenized.splits["train"])
        epochs = DATASETS[dataset] * BATCH / material.rows
        recipe = recipe.model_copy(update={"distill": recipe.distill.model_copy(update={"epochs": epochs})})
        taught = time.monotonic()
        pupil, curve = practice.teach_student(recipe, tutor, material, heard, journal)
        seconds = time.monotonic() - taught
        tested = labelled.splits["test"]
        found = collect(
            asking(pupil.model.to(recipe.device), tutor.task, recipe.device),
            tested,
            tutor.task,
            names=[name for name in INPUT_NAMES if name in tested.column_names],
            pad_token_id=material.collate.pad_token_id,
        )
    truth = np.asarray(material.corpus.splits["test"].labels)
    return {
        "teacher": float((np.asarray(said and said.values).argmax(-1) == truth).mean()),
        "student": float((found.values.argmax(-1) == truth).mean()),
        "rows": rows,
        "test_rows": len(truth),
        "added": [
            {**asdict(part), "source": part.source.rpartition("/")[2]}
            for part in (material.corpus.added.parts if material.corpus.added else ())
        ],
        "steps": DATASETS[dataset],
        "validation": [row["accuracy"] for row in curve.evaluations],
        "seconds": {"student": seconds, "all": time.monotonic() - begin},
        "precision": recipe.distill.precision,
    }


# --- table ----------------------------------------------------------------------------------


def units(
    dataset: str | None = None, only: int | None = None, one: str | None = None
) -> Iterator[tuple[str, str, int]]:
    """Dataset, variant, seed; whole seeds first, so that what there is can be compared.

    Args:
        dataset: Of these units alone.
        only: Seed, likewise.
        one: Variant, likewise.
    """
    for name in DATASETS:
        for seed in SEEDS:
            for variant in VARIANTS:
                if dataset in (None, name) and only in (None, seed) and one in (None, variant):
                    yield name, variant, seed


def name_of(dataset: str, variant: str, seed: int) -> str:
    """Key in the results."""
    return f"{dataset}-{variant.replace('--', '').replace(' ', '-')}-{seed}"


def interval(values: Sequence[float], signed: bool = False) -> str:
    """Mean and 95% interval (Student's t over the seeds), in percent; the mean alone where there is one value."""
    mark = "+" if signed else ""
    mean = 100 * float(np.mean(values))
    if len(values) < 2:
        return f"{mean:{mark}.1f}"
    half = 100 * float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:{mark}.1f} ± {half:.1f}"


def table(results: Mapping[str, Any]) -> list[str]:
    """What is finished, as Markdown; only seeds whose variants are all there count."""
    lines = [
        "MiniLM with 6 layers, fine-tuned on the labelled texts alone, to 3 layers; the same number of steps for every",
        "student of a dataset; the unlabelled texts are the rest of the training split. Means over seeds, each with",
        "other labelled texts and its own teacher, with 95% intervals (Student's t) where there are several.",
        "",
        "| dataset | the student learns from | rows | steps | seeds | teacher | student, accuracy in % | over labelled "
        "texts alone | of the teacher's |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for dataset in DATASETS:
        seeds = [seed for seed in SEEDS if all(name_of(dataset, name, seed) in results for name in VARIANTS)]
        for variant in VARIANTS if seeds else ():
            found = [results[name_of(dataset, variant, seed)] for seed in seeds]
            plain = [results[name_of(dataset, PLAIN, seed)] for seed in seeds]
            gains = [one["student"] - two["student"] for one, two in zip(found, plain, strict=True)]
            cells = [
                dataset,
                PLAIN if variant == PLAIN else f"`{variant}`",
                f"{np.mean([row['rows'] for row in found]):,.0f}",
                f"{found[0]['steps']:,}",
                str(len(seeds)),
                interval([row["teacher"] for row in found]),
                interval([row["student"] for row in found]),
                "" if variant == PLAIN else interval(gains, signed=True),
                f"{100 * np.mean([row['student'] / row['teacher'] for row in found]):.1f}%",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the table and measure nothing")
    parser.add_argument("--data", help="folder with banking77 and clinc150")
    parser.add_argument("--work", default="few-labels-work", help="folder for caches and unfinished runs")
    parser.add_argument("--minilm", default="demo", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
    parser.add_argument("--dataset", choices=list(DATASETS))
    parser.add_argument("--seed", type=int, choices=SEEDS, help="this one alone")
    parser.add_argument("--variant", choices=list(VARIANTS), help="this one alone, as in --variant=--unlabelled")
    parser.add_argument("--results", default=str(RESULTS), help="where finished units are kept")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no unit after this many minutes")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the training")
    arguments = parser.parse_args()
    if arguments.render:
        known = finished.read(RESULTS)
        page.fill(PAGE, "few labels", Path(__file__).name, "\n".join(table(known)) if known else "")
        print(PAGE)
        return
    if not arguments.data:
        parser.error("--data is needed to measure; --render needs nothing")
    deadline = time.monotonic() + 60 * arguments.minutes
    results = Path(arguments.results)
    for unit in units(arguments.dataset, arguments.seed, arguments.variant):
        name = name_of(*unit)
        if name in finished.read(results) or time.monotonic() > deadline:
            continue
        result = run(*unit, arguments)
        finished.add(results, name, result)
        print(
            f"{name}: teacher {result['teacher']:.2%}, student {result['student']:.2%} "
            f"({result['rows']:,} rows, {result['seconds']['all']:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
