"""Texts per second, from text to label: ``compressor.runtime.Predictor`` against loops written by hand, same file.

    python benchmarks/throughput.py --data DIR --minilm DIR --mpnet DIR
    python benchmarks/throughput.py --render

DIR of --data holds ``clinc150/data_full.json`` and ``mr/``. The texts are test rows of clinc150, of MR, and of both
shuffled together. Each measurement is a fresh process; the ways alternate within a round, forwards and backwards in
turn, with equal threads. Tokenizing is part of the work. The results go to ``benchmarks/results/throughput.json``, a
unit at a time: what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import finished, page, throughput_student  # noqa: E402
from benchmarks.throughput_worker import WAYS  # noqa: E402
from compressor import environment  # noqa: E402
from compressor.benchmark.process import run_process  # noqa: E402
from compressor.folder import MODEL, QUANTIZED  # noqa: E402
from compressor.recipe import QuantizeRecipe  # noqa: E402
from compressor.runtime import available_cores  # noqa: E402

RESULTS = HERE / "results" / "throughput.json"
PAGE = HERE.parent / "docs" / "throughput.md"
STUDENTS = {"minilm": ("MiniLM, 3 layers of 384", 3), "mpnet": ("MPNet, 6 layers of 768", 6)}
FILES = {"int8": QUANTIZED, "fp32": MODEL}
# One pass over fewer texts where every one of them has 128 tokens: a ratio does not need them all.
SLOW_SHARE = 4
GOAL = 2.0
TIMEOUT = 900.0


def read_texts(data: Path, most: int) -> dict[str, list[str]]:
    """At most so many texts of each set, in a shuffled order."""
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    lines = (data / "mr" / "test.jsonl").read_text(encoding="utf-8").split("\n")
    found = {
        "clinc150": [text for split in ("test", "oos_test") for text, _ in clinc[split]],
        "mr": [json.loads(line)["text"] for line in lines if line],
    }
    rng = random.Random(0)
    found = {name: rng.sample(texts, min(most, len(texts))) for name, texts in found.items()}
    both = [text for texts in found.values() for text in texts]
    rng.shuffle(both)
    return {**found, "both": both}


def measure(folder: Path, model: str, texts: list[str], threads: int, rounds: int) -> dict[str, Any]:
    """Measure every way in alternating rounds.

    Returns:
        Texts per second of each way and round, and how many labels differ from the naive loop's.
    """
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    labels: dict[str, list[int]] = {}
    for number in range(rounds):
        for way in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            asked = texts[: len(texts) // SLOW_SHARE] if way == "naive-128" else texts
            job = {
                "way": way, "folder": str(folder), "model": model, "texts": asked, "threads": threads,
                "passes": 1 if way == "naive-128" else 3,
            }  # fmt: skip
            answer = run_process("benchmarks.throughput_worker", job, threads, way, TIMEOUT)
            rates[way].append(len(asked) / median(answer["seconds"]))
            labels[way] = answer["labels"]
    differ = sum(one != two for one, two in zip(labels["ours"], labels["naive"], strict=True))
    return {"rates": rates, "labels_that_differ": differ, "texts": len(texts)}


def ratio(rates: dict[str, list[float]], way: str) -> tuple[float, float, float]:
    """How many times as many texts we answer in a second, with its interval (95%)."""
    return page.ratio(np.log(rates["ours"]) - np.log(rates[way]))


def run(asked: argparse.Namespace) -> None:
    """Measure what is missing, until the time is up."""
    deadline = time.monotonic() + 60 * asked.minutes
    threads = asked.threads or available_cores()
    texts = read_texts(asked.data, asked.texts)
    known = finished.read(RESULTS)
    for name, (_, layers) in STUDENTS.items():
        if not getattr(asked, name):
            continue
        folder = asked.work / f"{name}-{layers}l"
        throughput_student.make(getattr(asked, name), asked.data / "mr", layers, folder, asked.work / "cache")
        if asked.prepare:
            continue
        for precision in asked.precisions:
            for data, chosen in texts.items():
                unit = f"{name}-{precision}-{data}-{threads}t"
                if unit in known or time.monotonic() > deadline:
                    continue
                found = measure(folder, FILES[precision], chosen, threads, asked.rounds)
                where = {"student": name, "precision": precision, "data": data, "threads": threads}
                where["mode"] = QuantizeRecipe().mode
                machine = environment.fingerprint()
                shown = {key: machine[key] for key in ("date", "cpu", "virtual_machine", "versions")}
                finished.add(RESULTS, unit, {**where, **found, "environment": shown})
                print(f"{unit}: {ratio(found['rates'], 'naive')[0]:.2f}x the naive loop", flush=True)


_INTRODUCTION = """# Throughput

Written by `python benchmarks/throughput.py --render` from `benchmarks/results/throughput.json`. Texts per second from
text to label, tokenizing included: `compressor.runtime.Predictor` as it comes, against a loop over onnxruntime with
the same file, transformers' tokenizer and 32 texts a batch in the order of the file, padded to the longest of them or
to 128 tokens. Equal threads, one fresh process per measurement, alternating rounds; medians over rounds with the range,
and ratios with their interval (95%). clinc150 and MR are test texts, shuffled; *both* is the two mixed. Goal: at least
2x the loop that pads to the longest.
"""
_HEADER = (
    "| student | texts | ours, texts/s | padded to longest | padded to 128 | ours over longest | over 128 | goal |\n"
    "|---|---|---|---|---|---|---|---|"
)
_END = """
What makes the difference: texts of similar length share a batch (the loop computes 1.4 to 2.7 times the tokens that
there are); a batch has at most 256 tokens, so that a layer's activations stay in the cores' caches; and a long list
runs as one batch on each core instead of one batch on all of them. The share of padding bounds what the first can
bring; the machine's product rate bounds the rest.
"""


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    lines = [_INTRODUCTION, _HEADER]
    for row in results.values():
        rates = row["rates"]
        value, low, high = ratio(rates, "naive")
        told = (
            "met" if low >= GOAL else "met, interval holds less" if value >= GOAL else f"missed by {GOAL - value:.2f}"
        )
        wide = ratio(rates, "naive-128")[0]
        title = f"{STUDENTS[row['student']][0]}, {row['precision']}, {row['threads']} threads"
        shown = " | ".join(_rate(rates[way]) for way in ("ours", "naive", "naive-128"))
        lines.append(
            f"| {title} | {row['data']} | {shown} | {value:.2f} ({low:.2f} to {high:.2f}) | {wide:.1f} | {told} |"
        )
    if results:
        cpu = next(iter(results.values()))["environment"]["cpu"]
        rounds = min(len(row["rates"]["ours"]) for row in results.values())
        form = page.int8_form(results.values())
        lines.append(
            f"\n{cpu['model']}, {cpu['cores']} cores, {cpu['instruction_set']}; {form}; at least {rounds} rounds."
        )
    return "\n".join([*lines, _END])


def _rate(rates: list[float]) -> str:
    return f"{median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write docs/throughput.md and measure nothing")
    parser.add_argument("--prepare", action="store_true", help="build the students and measure nothing")
    parser.add_argument("--data", type=Path, help="folder with clinc150 and mr")
    parser.add_argument("--work", type=Path, default=Path("exported/throughput"), help="folder for the students")
    parser.add_argument("--minilm", default="", help="folder of all-MiniLM-L6-v2, or demo for the embedded one")
    parser.add_argument("--mpnet", default="", help="folder of all-mpnet-base-v2")
    parser.add_argument("--precisions", nargs="*", default=["int8"], choices=list(FILES))
    parser.add_argument("--texts", type=int, default=1066, help="most texts of a set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="default: the cores this process may use")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no unit after this many minutes")
    asked = parser.parse_args()
    if asked.render:
        PAGE.write_text(render(finished.read(RESULTS)), encoding="utf-8")
        print(PAGE)
    elif asked.data:
        run(asked)
    else:
        parser.error("--data is needed to measure; --render needs nothing")


if __name__ == "__main__":
    main()
