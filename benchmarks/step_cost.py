"""What a training step costs: a student with kept soft labels, and with each preset, against plain fine-tuning.

    python benchmarks/step_cost.py [--data DIR --minilm DIR]
    python benchmarks/step_cost.py --render

Also what precision, dropout, and the plain attention and kept memory of ``compressor.training.on_cpu`` are worth.
Every measurement is a fresh process that trains the same student for some steps on the same batches, through the
toolkit's own engine, with equal threads; plain fine-tuning, kept soft labels and the default alternate within a round,
forwards and backwards in turn, and the presets join in the first rounds. Weights and tokens are random, since neither
changes what a step costs. Rows have 16 tokens; with --data (a folder with ``clinc150/data_full.json`` and ``mr/``) and
--minilm (a folder with its tokenizer) also the lengths of real training texts. The results go to
``benchmarks/results/step_cost.json``, a unit at a time: what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import finished, page  # noqa: E402
from compressor import environment  # noqa: E402
from compressor.benchmark.process import run_process  # noqa: E402
from compressor.recipe.presets import PRESETS  # noqa: E402
from compressor.runtime import available_cores  # noqa: E402

RESULTS = HERE / "results" / "step_cost.json"
PAGE = HERE.parent / "docs" / "training.md"
GOAL = 1.15
BATCH = 32
WARMUP = 4
PRESET_ROUNDS = 2
TIMEOUT = 900.0
LABELS = {"16 tokens": 150, "clinc150": 151, "mr": 2}

STUDENTS: dict[str, dict[str, Any]] = {
    "minilm": {
        "title": "MiniLM, 6 to 3 layers of 384",
        "shape": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
        "layers": 3,
        "steps": 36,
    },
    "base": {"title": "BERT base, 12 to 6 layers of 768", "shape": {}, "layers": 6, "steps": 14},
}
"""Shapes of the teachers (of BERT base where nothing is said), and the students cut from them."""

PLAIN, KEPT, DEFAULT = "fine-tuning", "kept soft labels", "default"
DEFAULTS = {"dropout": False}
"""What the defaults become where a student reads altered copies."""
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {"distill": {"soft_weight": 0.0, "hard_weight": 1.0}, "soft": False},
    KEPT: {"distill": {}, "soft": True},
    **{name: {"distill": {"preset": name}, "soft": True} for name in PRESETS if name != DEFAULT},
}
WAYS = {
    DEFAULT: DEFAULTS,
    "--precision bf16": {**DEFAULTS, "precision": "bf16"},
    "--precision bf16 --dropout": {"precision": "bf16"},
}
PLAINLY = ", as it comes"
MEASURED = {
    **VARIANTS,
    **{name: {"distill": distill, "soft": True} for name, distill in WAYS.items()},
    **{name + PLAINLY: {"distill": distill, "soft": True, "as_it_comes": True} for name, distill in WAYS.items()},
}
"""``VARIANTS``, and each way with what ``compressor.training.on_cpu`` does and without it."""


def lengths_of(asked: argparse.Namespace, rows: int) -> dict[str, list[int]]:
    """Tokens of as many rows: always 16, and those of real training texts where there are some."""
    found = {"16 tokens": [16] * rows}
    if not asked.data or not asked.minilm:
        return found
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked.minilm)
    clinc = json.loads((asked.data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    lines = (asked.data / "mr" / "train.jsonl").read_text(encoding="utf-8").split("\n")
    texts = {
        "clinc150": [text for text, _ in clinc["train"]],
        "mr": [json.loads(line)["text"] for line in lines if line],
    }
    for name, every in texts.items():
        ids = tokenizer(random.Random(0).sample(every, rows), truncation=True, max_length=128)["input_ids"]
        found[name] = [len(row) for row in ids]
    return found


def measure(student: str, data: str, lengths: list[int], variant: str, threads: int) -> dict[str, list[float]]:
    """Seconds of each step of each stage, in a process of its own."""
    about = STUDENTS[student]
    job = {
        "shape": about["shape"], "layers": about["layers"], "lengths": lengths, "labels": LABELS[data],
        "batch": BATCH, "threads": threads, "warmup": WARMUP, **MEASURED[variant],
    }  # fmt: skip
    return run_process("benchmarks.step_cost_worker", job, threads, f"{student} {variant}", TIMEOUT)


def run(asked: argparse.Namespace) -> None:
    """Measure what is missing, until the time is up."""
    deadline = time.monotonic() + 60 * asked.minutes
    threads = asked.threads or available_cores()
    for student in asked.students:
        for data, lengths in lengths_of(asked, BATCH * STUDENTS[student]["steps"]).items():
            if data not in asked.only:
                continue
            for number in range(asked.rounds):
                unit = f"{student}-{data}-{threads}t-{number}"
                if unit in finished.read(RESULTS) or time.monotonic() > deadline:
                    continue
                left_out = [] if number < PRESET_ROUNDS and asked.presets else PRESETS.keys() - {DEFAULT}
                variants = [variant for variant in MEASURED if variant not in left_out]
                seconds = {
                    variant: {
                        stage: [round(step, 5) for step in steps]
                        for stage, steps in measure(student, data, lengths, variant, threads).items()
                    }
                    for variant in variants[:: 1 if number % 2 == 0 else -1]
                }
                machine = environment.fingerprint()
                about = {key: machine[key] for key in ("date", "cpu", "virtual_machine", "versions")}
                where = {"student": student, "data": data, "threads": threads, "round": number}
                finished.add(RESULTS, unit, {**where, "seconds": seconds, "environment": about})
                shown = [f"{name} {_ratio(seconds, name, 'distil'):.3f}x" for name in (KEPT, DEFAULT)]
                print(f"{unit}: {', '.join(shown)} fine-tuning", flush=True)


def _ratio(seconds: dict[str, dict[str, list[float]]], variant: str, stage: str) -> float:
    """Median over steps: both have the same batches in the same order."""
    return float(np.median(np.divide(seconds[variant][stage], seconds[PLAIN]["distil"])))


_INTRODUCTION = f"""
One training step of the same student on the same batches of {BATCH}, kept soft labels, the same without dropout (as
students learn that read altered copies) and each preset, as times a step of plain fine-tuning
(`--soft-weight 0 --hard-weight 1`, rows without soft labels) through the same engine: fresh processes in turn, equal
threads (`python benchmarks/step_cost.py`, which writes
this table with `--render`). Ratios are medians over steps, then the mean over rounds with its interval (95%), or the
range of two rounds for presets; where a preset has two stages, both are shown. Goal for kept soft labels: at most
{GOAL}x.
"""
_WAYS = """
Steps with soft labels, without dropout unless it is said; "as it comes" leaves attention and memory as torch and
glibc have them (`python benchmarks/step_cost.py`):

| student | rows | threads | flags | as it comes, ms | ms | times as fast |
|---|---|---|---|---|---|---|"""
_HEADER = (
    "| student | rows | threads | fine-tuning, ms | kept soft labels | goal | the same, no dropout | distilbert "
    "| pkd | tinybert | minilm |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def render(results: dict[str, Any]) -> str:
    """Lay the results out as Markdown."""
    lines = [_INTRODUCTION, _HEADER]
    groups = _groups(results)
    for (student, data, threads), rows in groups.items():
        plain = [1000 * median(row["seconds"][PLAIN]["distil"]) for row in rows]
        kept, usual = (
            page.ratio(np.log([_ratio(row["seconds"], name, "distil") for row in rows])) for name in (KEPT, DEFAULT)
        )
        told = "met" if kept[2] <= GOAL else "met, interval holds more" if kept[0] <= GOAL else "missed"
        cells = [
            STUDENTS[student]["title"], data, str(threads), f"{median(plain):.0f} ({min(plain):.0f}-{max(plain):.0f})",
            _interval(kept), told, _interval(usual), *(_preset(rows, name) for name in PRESETS if name != DEFAULT),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *_machine(results)])


def render_ways(results: dict[str, Any]) -> str:
    """Lay out what is done for the CPU, as Markdown."""
    lines = [line for place, rows in _groups(results).items() for line in _ways(place, rows)]
    return "\n".join([_WAYS, *lines, *_machine(results)])


def _groups(results: dict[str, Any]) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Rounds by student, data and threads."""
    found: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in results.values():
        found.setdefault((row["student"], row["data"], row["threads"]), []).append(row)
    return found


def _machine(results: dict[str, Any]) -> Iterator[str]:
    if results:
        last = next(iter(results.values()))["environment"]
        rounds = min(len(rows) for rows in _groups(results).values())
        cpu = last["cpu"]
        yield f"\n{cpu['model']}, {cpu['cores']} cores, torch {last['versions']['torch']}; at least {rounds} rounds."


def _ways(place: tuple[str, str, int], rows: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each way of training: with and without what is done for the CPU."""
    student, data, threads = place
    for name in WAYS:
        flags = f"`{name}`" if name.startswith("--") else "none"
        pairs = [(row["seconds"][name]["distil"], row["seconds"][name + PLAINLY]["distil"]) for row in rows]
        ours, theirs = (1000 * median(median(pair[index]) for pair in pairs) for index in (0, 1))
        gain = page.ratio(np.log([np.median(np.divide(its, own)) for own, its in pairs]))
        where = f"{STUDENTS[student]['title']} | {data} | {threads}"
        yield f"| {where} | {flags} | {theirs:.0f} | {ours:.0f} | {_interval(gain)} |"


def _interval(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _preset(rows: list[dict[str, Any]], name: str) -> str:
    measured = [row["seconds"] for row in rows if name in row["seconds"]]
    if not measured:
        return "-"
    shown = []
    for stage in [stage for stage in ("intermediate", "distil") if stage in measured[0][name]]:
        ratios = [_ratio(seconds, name, stage) for seconds in measured]
        low, high = min(ratios), max(ratios)
        shown.append(f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f}-{high:.2f}")
    return ", then ".join(shown)


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--render", action="store_true", help="write the tables of docs/training.md and measure nothing"
    )
    parser.add_argument("--data", type=Path, help="folder with clinc150 and mr")
    parser.add_argument("--minilm", type=Path, help="folder of all-MiniLM-L6-v2, for its tokenizer")
    parser.add_argument("--students", nargs="+", choices=list(STUDENTS), default=list(STUDENTS))
    parser.add_argument("--only", nargs="+", choices=list(LABELS), default=list(LABELS), help="which rows")
    parser.add_argument("--presets", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None, help="default: the cores this process may use")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no round after this many minutes")
    asked = parser.parse_args()
    if not asked.render:
        run(asked)
        return
    results = finished.read(RESULTS)
    page.fill(PAGE, "step cost", Path(__file__).name, render(results))
    page.fill(PAGE, "training on a CPU", Path(__file__).name, render_ways(results))
    print(PAGE)


if __name__ == "__main__":
    main()
