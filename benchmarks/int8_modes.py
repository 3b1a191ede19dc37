"""Time the int8 modes side by side, on BERTs of two sizes: the default against the others.

The form with one scale per tensor comes twice: beside layer norms as we write them, and beside the fused ones that
onnxruntime's own tools write.

    python benchmarks/int8_modes.py [--rounds 5] [--sizes 3x384 12x768] [--threads 2]
    python benchmarks/int8_modes.py --render

Weights are random (seeded): time does not depend on them. Every file has a fresh process in each round, with equal
threads, and all of them take short turns (``peers_turns.py``). Ratios come with their interval, and with the largest
difference between the default and a copy of itself. Finished sizes stand in ``benchmarks/results/int8_modes.json`` and
are not measured again; ``--render`` writes the table into ``docs/quantization.md``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import finished
import numpy as np
import page
import peers_turns
import torch
from scipy.stats import gmean
from transformers import AutoModelForSequenceClassification, BertConfig

from compressor.answers import pad
from compressor.architectures import architecture_of
from compressor.benchmark.inputs import Cell, write_cells
from compressor.benchmark.intervals import spread
from compressor.benchmark.process import environment
from compressor.environment import fingerprint
from compressor.graph import files as onnx_files
from compressor.graph.export import export_onnx
from compressor.graph.passes.int8 import MODES
from compressor.graph.passes.norms import fuse_norms
from compressor.graph.quantize import quantize_onnx
from compressor.recipe import BenchmarkRecipe
from compressor.runtime.machine import available_cores

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "int8_modes.json"
PAGE = HERE.parent / "docs" / "quantization.md"
INPUTS = ("input_ids", "attention_mask")
FUSED = "dynamic-fused-norms"
DEFAULT, COPY = "smooth", "smooth, once more"
OTHERS = {
    "dynamic": "one scale per tensor", FUSED: "one scale per tensor, norms fused", "per-token": "one scale per token",
}  # fmt: skip
SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (8, 128))


def random_rows(vocabulary: int, rows: int = 64) -> list[dict[str, list[int]]]:
    """Rows of random ids, 8 to 128 tokens long."""
    rng = np.random.default_rng(0)
    found = []
    for length in rng.integers(8, 129, rows):
        found.append(
            {"input_ids": rng.integers(1000, vocabulary, length).tolist(), "attention_mask": [1] * int(length)}
        )
    return found


def random_bert(layers: int, hidden: int) -> Any:
    """A classifier of two labels with 12 heads, in eval mode; its weights are random and always the same."""
    torch.manual_seed(0)
    config = BertConfig(
        num_labels=2, num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=12, intermediate_size=4 * hidden
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for name, value in model.named_parameters():
        # A fresh layer norm has none, unlike every trained one; the graph takes notice.
        if name.endswith("LayerNorm.bias"):
            torch.nn.init.constant_(value, 0.01)
    return model


def recipe_of(shapes: Sequence[tuple[int, int]], rounds: int, threads: int | None) -> BenchmarkRecipe:
    """What to measure: at least these batch sizes and lengths, in so many rounds."""
    sizes, lengths = (tuple(sorted(set(of))) for of in zip(*shapes, strict=True))
    return BenchmarkRecipe(
        batch_sizes=sizes, sequence_lengths=lengths, rounds=rounds, max_rounds=rounds, threads=threads, clients=()
    )


def write_shapes(shapes: Sequence[tuple[int, int]], vocabulary: int, path: Path) -> None:
    """Write one batch of random ids for each shape (texts, tokens), as the processes that are timed read it."""
    rng = np.random.default_rng(0)
    found = []
    for shape in shapes:
        ids = rng.integers(1000, vocabulary, shape)
        found.append(Cell(*shape, ({"input_ids": ids, "attention_mask": np.ones_like(ids)},)))
    write_cells(found, path)


def run(layers: int, hidden: int, rounds: int, threads: int | None) -> dict[str, Any]:
    """Export once, quantize in every mode, and let all take turns."""
    threads = threads or available_cores()
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(layers, hidden, Path(folder))
        job = {"engine": "ours", "threads": threads, "inputs": INPUTS}
        variables = environment(threads, os.environ)
        # For each round the medians of each shape by name, every second one in the other order.
        found = [
            peers_turns.round_of_files(
                dict([*files.items()][:: -1 if number % 2 else 1]), Path(folder) / "shapes.npz", [1] * len(SHAPES),
                job, variables,
            )[0]
            for number in range(rounds)
        ]  # fmt: skip

    def times(slow: str, fast: str, place: int) -> Any:
        return np.array([one[place][slow] / one[place][fast] for one in found])

    cells: dict[str, Any] = {}
    for place, (size, length) in enumerate(SHAPES):
        cell = {other: interval_of(times(DEFAULT, other, place)) for other in OTHERS}
        cells[f"{size}x{length}"] = {**cell, "faster_than_fp32": float(np.median(times("fp32", DEFAULT, place)))}
    machine = fingerprint()
    return {
        "ratios": cells,
        "geometric_mean": {
            other: interval_of(gmean([times(DEFAULT, other, place) for place in range(len(SHAPES))]))
            for other in OTHERS
        },
        "noise_floor": max(abs(float(np.median(times(DEFAULT, COPY, place))) - 1) for place in range(len(SHAPES))),
        "rounds": rounds,
        "threads": threads,
        "environment": {key: machine[key] for key in ("date", "cpu", "versions")},
    }


def write_files(layers: int, hidden: int, folder: Path) -> dict[str, Path]:
    """The same random model in every form, by name, and the ids that all are fed in ``shapes.npz``."""
    model = random_bert(layers, hidden)
    architecture, rows = architecture_of(model.config), random_rows(model.config.vocab_size)
    batches = [pad(part, INPUTS, 0) for part in (rows[:1], rows[1:9])]
    write_shapes(SHAPES, model.config.vocab_size, folder / "shapes.npz")
    found = {name: folder / f"{name}.onnx" for name in ("fp32", *MODES, FUSED)}
    export_onnx(model, architecture, INPUTS, found["fp32"], opset=18, batches=batches)
    expected = layers * len(architecture.linears)
    for mode in MODES:
        quantize_onnx(
            found["fp32"], found[mode], target="auto", expected=expected, batches=batches,
            calibration=lambda: batches, mode=mode,
        )  # fmt: skip
    graph = onnx_files.load(found["dynamic"])
    fuse_norms(graph)
    onnx_files.save(graph, found[FUSED])
    return {**found, COPY: found[DEFAULT]}


def interval_of(ratios: Any) -> dict[str, float | None]:
    """The median of the rounds' ratios, and Student's interval of their mean (95%, of logarithms)."""
    known = spread(np.log(ratios))
    low, high = (None, None) if known is None else known.ratio()[1:]
    return {"ratio": float(np.median(ratios)), "low": low, "high": high}


def ask(
    description: str | None, sizes: Sequence[str], rounds: int, render: Callable[[], None], place: Path
) -> argparse.Namespace | None:
    """What a benchmark of random models is asked with; ``None`` where it was only to render its page."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the table and measure nothing")
    parser.add_argument("--sizes", nargs="*", default=list(sizes), help="layers x width")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=None, help="default: the cores this process may use")
    asked = parser.parse_args()
    if not asked.render:
        return asked
    render()
    print(place)
    return None


def each_size(
    asked: argparse.Namespace, results: Path, measured: Callable[[int, int, int, int | None], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Measure the sizes that are missing; give the results of all, each headed on the terminal."""
    for name in asked.sizes:
        if name not in finished.read(results):
            layers, hidden = (int(part) for part in name.split("x"))
            finished.add(results, name, measured(layers, hidden, asked.rounds, asked.threads))
        known = finished.read(results)[name]
        print(f"{name}, {known['threads']} threads; noise floor {known['noise_floor']:.1%}")
        yield known


def render() -> None:
    """Write the table of what was measured."""
    names = [f"{size}x{length}" for size, length in SHAPES]
    lines = [f"| model | over | {' | '.join(names)} | mean | noise |", f"|---|---|{'---|' * len(names)}---|---|"]
    known = finished.read(RESULTS)
    for name, one in known.items():
        noise = f"{one['noise_floor']:.0%}"
        for other, title in OTHERS.items():
            cells = [one["ratios"][shape][other] for shape in names]
            ratios = " | ".join(_told(cell) for cell in cells)
            lines.append(f"| {name} | {title} | {ratios} | **{_told(one['geometric_mean'][other])}** | {noise} |")
        gains = " | ".join(f"{one['ratios'][shape]['faster_than_fp32']:.2f}" for shape in names)
        lines.append(f"| {name} | times faster than fp32 | {gains} | | |")
    rounds = min(one["rounds"] for one in known.values())
    place = f"On {page.machines(known.values())}; at least {rounds} rounds."
    lines += ["", f"{place} Medians with the 95% interval of the mean."]
    page.fill(PAGE, "int8 modes", Path(__file__).name, "\n".join(lines))


def _told(found: Mapping[str, float]) -> str:
    return f"{found['ratio']:.2f} ({found['low']:.2f}-{found['high']:.2f})"


def main() -> None:
    """Measure the sizes that are missing, and print all; or render."""
    asked = ask(__doc__, ("3x384", "6x384", "12x768"), 5, render, PAGE)
    for known in each_size(asked, RESULTS, run) if asked else ():
        print("; ".join(f"{OTHERS[other]}: {_told(mean)}" for other, mean in known["geometric_mean"].items()))


if __name__ == "__main__":
    main()
