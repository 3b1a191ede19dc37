"""Time the int8 modes side by side, on BERTs of two sizes: the default against the others.

The form with one scale per tensor comes twice: beside layer norms as we write them, and beside the fused ones that
onnxruntime's own tools write.

    python benchmarks/int8_modes.py [--rounds 5] [--sizes 3x384 12x768] [--threads 2]
    python benchmarks/int8_modes.py --render

Weights are random (seeded): time does not depend on them. Every model runs in a fresh process per round, in alternating
order, with equal threads; ratios come with their interval, and with the noise floor of a model against its own copy.
Finished sizes stand in ``benchmarks/results/int8_modes.json`` and are not measured again; ``--render`` writes the table
into ``docs/quantization.md``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import finished
import numpy as np
import page
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from compressor.answers import pad
from compressor.architectures import architecture_of
from compressor.benchmark import MeasuredModel, TokenRows, measure, speedup, verdict
from compressor.environment import fingerprint
from compressor.graph import files as onnx_files
from compressor.graph.export import export_onnx
from compressor.graph.passes.int8 import MODES
from compressor.graph.passes.norms import fuse_norms
from compressor.graph.quantize import quantize_onnx
from compressor.recipe import BenchmarkRecipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "int8_modes.json"
PAGE = HERE.parent / "docs" / "quantization.md"
INPUTS = ("input_ids", "attention_mask")
FUSED = "dynamic-fused-norms"
DEFAULT = "smooth"
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


def run(layers: int, hidden: int, rounds: int, threads: int | None) -> dict[str, Any]:
    """Export once, quantize in every mode, measure all."""
    model = random_bert(layers, hidden)
    architecture = architecture_of(model.config)
    rows = random_rows(model.config.vocab_size)
    batches = [pad(part, INPUTS, 0) for part in (rows[:1], rows[1:9])]
    recipe = recipe_of(SHAPES, rounds, threads)
    with tempfile.TemporaryDirectory() as folder:
        fp32 = export_onnx(model, architecture, INPUTS, Path(folder) / "fp32.onnx", opset=18, batches=batches)
        models = [MeasuredModel("fp32", "onnx", fp32.path)]
        for mode in MODES:
            path = Path(folder) / f"{mode}.onnx"
            quantize_onnx(
                fp32.path, path, target="auto", expected=layers * len(architecture.linears), batches=batches, mode=mode
            )
            models.append(MeasuredModel(mode, "onnx", path, precision="int8"))
        graph = onnx_files.load(path.with_name("dynamic.onnx"))
        fuse_norms(graph)
        onnx_files.save(graph, path.with_name(f"{FUSED}.onnx"))
        models.append(MeasuredModel(FUSED, "onnx", path.with_name(f"{FUSED}.onnx"), precision="int8"))
        found = measure(models, recipe, TokenRows(rows, INPUTS, 512))
    cells = {}
    for size, length in SHAPES:
        cells[f"{size}x{length}"] = {
            **{
                other: {
                    "ratio": (slower := speedup(found, DEFAULT, other, size, length)).value,
                    "low": slower.low,
                    "high": slower.high,
                    "verdict": verdict(speedup(found, other, DEFAULT, size, length), found.noise_floor),
                }
                for other in OTHERS
            },
            "faster_than_fp32": speedup(found, "fp32", DEFAULT, size, length).value,
        }
    machine = fingerprint()
    return {
        "ratios": cells,
        "geometric_mean": {
            other: float(np.exp(np.mean([np.log(cell[other]["ratio"]) for cell in cells.values()]))) for other in OTHERS
        },
        "noise_floor": found.noise_floor,
        "rounds": rounds,
        "threads": found.latency[0].threads,
        "notes": list(found.notes),
        "environment": {key: machine[key] for key in ("date", "cpu", "versions")},
    }


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
        for other, title in OTHERS.items():
            cells = [one["ratios"][shape][other] for shape in names]
            ratios = " | ".join(f"{cell['ratio']:.2f} ({cell['low']:.2f}-{cell['high']:.2f})" for cell in cells)
            mean = one["geometric_mean"][other]
            lines.append(f"| {name} | {title} | {ratios} | **{mean:.2f}** | {one['noise_floor']:.0%} |")
        gains = " | ".join(f"{one['ratios'][shape]['faster_than_fp32']:.2f}" for shape in names)
        lines.append(f"| {name} | times faster than fp32 | {gains} | | |")
    lines += ["", f"On {page.machines(known.values())}."]
    page.fill(PAGE, "int8 modes", Path(__file__).name, "\n".join(lines))


def main() -> None:
    """Measure the sizes that are missing, and print all; or render."""
    asked = ask(__doc__, ("3x384", "6x384", "12x768"), 5, render, PAGE)
    for known in each_size(asked, RESULTS, run) if asked else ():
        print(f"geometric means: {known['geometric_mean']}")


if __name__ == "__main__":
    main()
