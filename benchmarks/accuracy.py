"""How much of its teacher's accuracy a student keeps: every preset, seed, depth and width, on the whole test splits.

    python benchmarks/accuracy.py --data DATA --work WORK [--part minilm] [--dataset mr] [--minutes 60] [--jobs 8]
    python benchmarks/accuracy.py --render

DATA holds ``clinc150/data_full.json`` (github.com/clinc/oos-eval), ``banking77/{train,test}.csv``
(github.com/PolyAI-LDN/task-specific-datasets) and ``mr/{train,validation,test}.jsonl`` (the rotten_tomatoes split).
A unit of work is one teacher, dataset, depth, variant and seed; ``accuracy_unit.py`` carries it out in a process of
its own. Finished units stand in ``benchmarks/results/accuracy.json`` and are never repeated; a killed one continues
from its last checkpoint, which lies in WORK. All variants of one row share data, layers, epochs, learning rate and one
teacher: the seeds are the students'. ``--jobs`` runs several units at once, each on its share of the cores: for a
machine with a GPU, which one training does not fill. ``--render`` writes the table into ``docs/accuracy.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import accuracy_table
import finished

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "accuracy.json"
PAGE = HERE.parent / "docs" / "accuracy.md"

Flags = Mapping[str, Any]


@dataclass(frozen=True)
class Dataset:
    """One dataset and how long teacher and student learn from it.

    Attributes:
        slower: Divides the student's learning rate, for all variants alike.
    """

    name: str
    teacher_epochs: int
    epochs: int
    slower: float = 1


@dataclass(frozen=True)
class Part:
    """One teacher with all that is tried on it.

    Attributes:
        variants: Name to what it changes; the first is ours.
        goals: (layers, dataset, variant) to the share of the teacher's accuracy that is aimed at, in percent.
        longer: Times as many epochs as the dataset's: students that are cut on the way need them.
        teacher_epochs: Dataset's name to the teacher's epochs, where they are not the dataset's: a larger teacher
            learns in fewer, and each takes a quarter of an hour on two cores.
        epochs: Likewise, the student's.
        slower: Dataset's name to what divides the student's learning rate, where it is not the dataset's.
        teacher_slower: Dataset's name to what divides the teacher's.
        complete: Every unit is to be measured; of attempts a seed may be enough.
    """

    name: str
    title: str
    teacher: str
    layers: tuple[int, ...]
    variants: Mapping[str, Flags]
    seeds: tuple[int, ...]
    teacher_learning_rate: float
    learning_rate: float
    goals: Mapping[tuple[int, str, str], float] = field(default_factory=dict)
    datasets: tuple[str, ...] = ("clinc150", "banking77", "mr")
    longer: int = 1
    teacher_epochs: Mapping[str, int] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)
    slower: Mapping[str, float] = field(default_factory=dict)
    teacher_slower: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True

    def efforts(self, dataset: Dataset) -> tuple[int, int]:
        """Epochs of teacher and student."""
        epochs = self.epochs.get(dataset.name, dataset.epochs) * self.longer
        return self.teacher_epochs.get(dataset.name, dataset.teacher_epochs), epochs

    def rates(self, dataset: Dataset) -> tuple[float, float]:
        """Learning rates of teacher and student."""
        slower = self.slower.get(dataset.name, dataset.slower)
        return self.teacher_learning_rate / self.teacher_slower.get(dataset.name, 1), self.learning_rate / slower


OURS: Flags = {}
SAME_TEXTS: Flags = {"augment": 0}
COPIES: Flags = {"augment": "one for every epoch after the first", "dropout": False}
NO_DROPOUT: Flags = {**SAME_TEXTS, "dropout": False}
EARLY: Flags = {"patience": 2}
SLIM: Flags = {**SAME_TEXTS, **EARLY}
FINE_TUNED: Flags = {"soft-weight": 0.0, "hard-weight": 1.0}
PRESETS: Mapping[str, Flags] = {name: {"preset": name} for name in ("distilbert", "pkd", "tinybert", "minilm")}
BATCH: Flags = {"batch-size": 64}
# A checkpoint of MPNet is 1.3 GB with its optimizer's states: every two minutes, a tenth of the time went into them.
RARELY: Flags = {"checkpoint-minutes": 10}
EVERY_OTHER: Flags = {"layer-selection": "alternate"}
EVEN: Flags = {"soft-weight": 0.5, "hard-weight": 0.5}
SQUARED: Flags = {"soft-weight": 0.0, "logit-weight": 1.0}
BASE_EPOCHS = {"clinc150": 4, "banking77": 5, "mr": 1}
BASE_STUDENT_EPOCHS = {"banking77": 6}
DATASETS = (Dataset("clinc150", 6, 8), Dataset("banking77", 8, 10), Dataset("mr", 3, 6, slower=4))
PARTS = (
    Part(
        "minilm", "MiniLM-L6 (6 layers of 384)", "minilm", (3,),
        {"ours": OURS, "fine-tuned only": FINE_TUNED, **PRESETS}, (42, 43, 44), 2e-4, 4e-4,
        {(3, "clinc150", "ours"): 99.5, (3, "banking77", "ours"): 99.5, (3, "mr", "ours"): 99.5},
    ),
    Part(
        "mpnet", "MPNet base (12 layers of 768)", "mpnet", (6, 4, 3),
        {"ours": OURS, "fine-tuned only": FINE_TUNED, "distilbert": PRESETS["distilbert"]}, (42,), 1e-4, 1.5e-4,
        {(6, "clinc150", "ours"): 100.0, (6, "banking77", "ours"): 100.0, (6, "mr", "ours"): 99.0,
         (3, "clinc150", "ours"): 99.0},
        teacher_epochs=BASE_EPOCHS, epochs=BASE_STUDENT_EPOCHS, slower={"mr": 2}, teacher_slower={"mr": 2},
    ),
    Part(
        "copies", "MPNet base, altered copies where the teacher does not know its texts by heart", "mpnet", (6, 3),
        {"ours": OURS, "altered copies in every epoch, no dropout": COPIES},
        (42,), 5e-5, 1.5e-4, teacher_epochs=BASE_EPOCHS, epochs={**BASE_STUDENT_EPOCHS, "mr": 3, "clinc150": 5},
        complete=False,
    ),
    Part(
        "weak", "MPNet base, a teacher that has learnt too little", "mpnet", (6, 3),
        {"ours": OURS, "fine-tuned only": FINE_TUNED, "labels weigh as much as soft labels": EVEN},
        (42,), 5e-5, 1.5e-4, datasets=("clinc150",), teacher_epochs=BASE_EPOCHS, complete=False,
    ),
    Part(
        "base-attempts", "MPNet base, what was tried", "mpnet", (6, 3),
        {"ours": OURS, "the same texts in every epoch": SAME_TEXTS,
         "the same, labels weigh as much as soft labels": {**SAME_TEXTS, **EVEN},
         "altered copies in every epoch, no dropout": COPIES},
        (42,), 1e-4, 1.5e-4, teacher_epochs=BASE_EPOCHS, epochs=BASE_STUDENT_EPOCHS, slower={"mr": 2},
        teacher_slower={"mr": 2}, complete=False,
    ),
    Part(
        "rates", "MPNet base, learning rates in half as many epochs", "mpnet", (6,),
        {f"learning rate {rate:g}": {"learning-rate": rate} for rate in (7.5e-5, 1.5e-4, 3e-4)},
        (42,), 5e-5, 1.5e-4, datasets=("mr",), teacher_epochs=BASE_EPOCHS, epochs={"mr": 3}, complete=False,
    ),
    Part(
        "slim", "MPNet base, heads and neurons removed", "mpnet", (3,),
        {"half the FFN, half the heads": {**SLIM, "prune-ffn": 0.5, "prune-heads": 0.5},
         "a third of the FFN, half the heads": {**SLIM, "prune-ffn": 2 / 3, "prune-heads": 0.5},
         "a quarter of the FFN, a third of the heads": {**SLIM, "prune-ffn": 0.75, "prune-heads": 2 / 3}},
        (42,), 5e-5, 1.5e-4,
        {(3, "clinc150", "half the FFN, half the heads"): 99.0},
        datasets=("clinc150", "mr"), longer=2, teacher_epochs=BASE_EPOCHS, epochs={"mr": 3},
    ),
    Part(
        "sparse", "MiniLM-L6, all layers, weights set to zero by magnitude", "minilm", (6,),
        {f"{share:.0%} zeros": {"prune": share} for share in (0.0, 0.3, 0.5, 0.7, 0.9)}, (42,), 2e-4, 4e-4,
        datasets=("clinc150", "mr"),
    ),
    Part(
        "attempts", "MiniLM-L6, what was tried on the way to the default", "minilm", (3,),
        {
            "the same texts in every epoch, dropout: the default before": SAME_TEXTS,
            "the same, stops early": {**SAME_TEXTS, **EARLY},
            "the same, layers 0, 2, 4": {**SAME_TEXTS, **EVERY_OTHER},
            "the same, layers 0, 2, 4, stops early: the first default": {**SAME_TEXTS, **EVERY_OTHER, **EARLY},
            "the same texts in every epoch, no dropout": NO_DROPOUT,
            "no dropout, squared logits": {**NO_DROPOUT, **SQUARED},
            "no dropout, layers 0, 2, 4": {**NO_DROPOUT, **EVERY_OTHER},
            "no dropout, layers 0, 2, 4, squared logits": {**NO_DROPOUT, **EVERY_OTHER, **SQUARED},
            "two altered copies of each text": {"augment": 2},
            "altered copies, dropout": {"dropout": True},
        },
        (42, 43, 44), 2e-4, 4e-4, epochs={"mr": 3}, complete=False,
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
        """Key in the results."""
        variant = self.variant.replace(" ", "-").replace(",", "")
        return f"{self.part.name}-{self.dataset.name}-{self.layers}l-{variant}-{self.seed}"

    def flags(self, teacher: str, work: Path) -> dict[str, Any]:
        """What the command line would be given."""
        teacher_epochs, epochs = self.part.efforts(self.dataset)
        teacher_rate, rate = self.part.rates(self.dataset)
        changed = self.part.variants[self.variant]
        if changed.get("augment") == COPIES["augment"]:
            changed = {**changed, "augment": epochs - 1}
        return {
            "teacher": teacher,
            "data": str(work / "data" / self.dataset.name),
            "layers": self.layers,
            "teacher-epochs": teacher_epochs,
            "teacher-learning-rate": teacher_rate,
            "learning-rate": rate,
            "epochs": epochs,
            "seed": self.seed,
            "cache-dir": str(work / "cache"),
            **BATCH,
            **RARELY,
            **changed,
        }


def units(part: str | None = None, dataset: str | None = None, variants: Collection[str] = ()) -> Iterator[Unit]:
    """Every unit, or those that are named.

    What the headline figures need comes first, and one unit of each teacher before the others.
    """
    found = [
        (index, place, Unit(chosen, data, layers, variant, seed))
        for chosen in PARTS
        for data in DATASETS
        for index, seed in enumerate(chosen.seeds)
        for place, (layers, variant) in enumerate((at, name) for at in chosen.layers for name in chosen.variants)
        if data.name in chosen.datasets
        and part in (None, chosen.name)
        and dataset in (None, data.name)
        and (not variants or variant in variants)
    ]
    yield from (unit for _, _, unit in sorted(found, key=lambda item: item[:2]))


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
                (folder / file.name).write_bytes(file.read_bytes())


def measure(arguments: argparse.Namespace) -> None:
    """Work through what is not finished, until the time is up."""
    work = Path(arguments.work).resolve()
    prepare(Path(arguments.data), work)
    teachers = {"minilm": arguments.minilm, "mpnet": arguments.mpnet}
    deadline = time.monotonic() + 60 * arguments.minutes
    results, cores = Path(arguments.results), sorted(os.sched_getaffinity(0))
    slots: SimpleQueue[Sequence[int]] = SimpleQueue()
    for slot in range(arguments.jobs):
        slots.put(cores[slot :: arguments.jobs] or cores)
    writing = threading.Lock()

    def carry_out(unit: Unit) -> None:
        if time.monotonic() > deadline:
            return
        mine = slots.get()
        # Of this thread alone: the process that it starts inherits it.
        os.sched_setaffinity(0, mine)
        flags = {**unit.flags(teachers[unit.part.teacher], work), "precision": arguments.precision}
        asked = {"flags": flags, "teacher_seed": unit.part.seeds[0], "target": arguments.target}
        if unit.part.name in (arguments.keep or ()):
            asked["keep"] = str(work / "kept" / unit.name)
        done = subprocess.run(
            [sys.executable, str(HERE / "accuracy_unit.py")],
            input=json.dumps(asked), capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(len(mine))},
        )  # fmt: skip
        slots.put(mine)
        if done.returncode:
            print(f"{unit.name} failed ({done.returncode}):\n{done.stderr[-2000:]}", flush=True)
            return
        result = json.loads(done.stdout.splitlines()[-1])
        with writing:
            finished.add(results, unit.name, result)
        scores = ", ".join(f"{name} {result[name]:.2%}" for name in ("teacher", "student", "int8"))
        print(f"{unit.name}: {scores} ({result['seconds']['all']:.0f} s)", flush=True)

    known = finished.read(results)
    wanted = [
        unit for unit in units(arguments.part, arguments.dataset, arguments.variant) if teachers[unit.part.teacher]
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(carry_out, [unit for unit in wanted if unit.name not in known]))
    if time.monotonic() > deadline:
        print("The time is up; the same command goes on from here.")


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write docs/accuracy.md and measure nothing")
    parser.add_argument("--data", help="folder with clinc150, banking77 and mr")
    parser.add_argument("--work", default="accuracy-work", help="folder for caches and unfinished runs")
    parser.add_argument("--results", default=str(RESULTS), help="where finished units are kept")
    parser.add_argument("--minilm", default="demo", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
    parser.add_argument("--mpnet", help="folder of all-mpnet-base-v2; its parts are left out without it")
    parser.add_argument("--part", choices=[part.name for part in PARTS])
    parser.add_argument("--dataset", choices=[data.name for data in DATASETS])
    parser.add_argument("--variant", nargs="+", default=[], help="as in: --variant ours distilbert")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no unit after this many minutes")
    parser.add_argument("--jobs", type=int, default=1, help="units at once, each on its share of the cores")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"), help="of the training")
    parser.add_argument("--target", default="auto", help="instruction set that the int8 weights are chosen for")
    parser.add_argument("--keep", nargs="*", help="parts whose ONNX files stay in WORK/kept")
    arguments = parser.parse_args()
    if arguments.render:
        PAGE.write_text(accuracy_table.render(PARTS, DATASETS, units(), finished.read(RESULTS)), encoding="utf-8")
        print(PAGE)
    elif arguments.data:
        measure(arguments)
    else:
        parser.error("--data is needed to measure; --render needs nothing")


if __name__ == "__main__":
    main()
