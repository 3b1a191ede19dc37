"""What it saves to compute a classifier's last layer for one token: the same model, exported with and without.

    python benchmarks/first_token.py [--rounds 7] [--sizes 3x384 6x384 12x768] [--threads 1]
    python benchmarks/first_token.py --render

Weights are random (seeded): time does not depend on them. Every file runs in a fresh process per round, in alternating
order, with equal threads; ratios come with their interval, and with the noise floor of a file against its own copy.
Finished sizes stand in ``benchmarks/results/first_token.json`` and are not measured again; ``--render`` writes the
table into ``docs/export.md``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import finished
import numpy as np
import page
from int8_modes import INPUTS, ask, each_size, random_bert, random_rows, recipe_of

from compressor.answers import pad
from compressor.architectures import architecture_of
from compressor.benchmark import MeasuredModel, TokenRows, measure, speedup, verdict
from compressor.environment import fingerprint
from compressor.graph import export, parity
from compressor.graph.quantize import quantize_onnx
from compressor.recipe import QuantizeRecipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "first_token.json"
PAGE = HERE.parent / "docs" / "export.md"
SHAPES = ((1, 12), (1, 32), (1, 128), (8, 32))
PRECISIONS = ("fp32", "int8")


def run(layers: int, hidden: int, rounds: int, threads: int | None) -> dict[str, Any]:
    """Export with and without, quantize both, measure all."""
    model = random_bert(layers, hidden)
    architecture = architecture_of(model.config)
    rows = random_rows(model.config.vocab_size)
    batches = [pad(part, INPUTS, 0) for part in (rows[:1], rows[1:9])]
    models, logits = [], []
    with tempfile.TemporaryDirectory() as folder:
        for form in ("one", "all"):
            path = Path(folder) / f"{form}-fp32.onnx"
            with mock.patch.object(
                export, "narrow_last_layer", export.narrow_last_layer if form == "one" else lambda _: False
            ):
                export.export_onnx(model, architecture, INPUTS, path, opset=18, batches=batches)
            small = Path(folder) / f"{form}-int8.onnx"
            expected = layers * len(architecture.linears)
            quantize_onnx(
                path, small, target="auto", expected=expected, batches=batches, calibration=lambda: batches,
                mode=QuantizeRecipe().mode,
            )  # fmt: skip
            models += [
                MeasuredModel(path.stem, "onnx", path),
                MeasuredModel(small.stem, "onnx", small, precision="int8"),
            ]
            logits.append(np.concatenate(parity.onnx_logits(path, batches)))
        found = measure(models, recipe_of(SHAPES, rounds, threads), TokenRows(rows, INPUTS, 512))
    cells = {}
    for precision in PRECISIONS:
        for size, length in SHAPES:
            gain = speedup(found, f"all-{precision}", f"one-{precision}", size, length)
            cells[f"{precision} {size}x{length}"] = {
                "ratio": gain.value, "low": gain.low, "high": gain.high, "verdict": verdict(gain, found.noise_floor)
            }  # fmt: skip
    machine = fingerprint()
    return {
        "ratios": cells,
        "difference": float(np.abs(logits[0] - logits[1]).max()),
        "noise_floor": found.noise_floor,
        "rounds": rounds,
        "mode": QuantizeRecipe().mode,
        "threads": found.latency[0].threads,
        "environment": {key: machine[key] for key in ("date", "cpu", "versions")},
    }


def render() -> None:
    """Write the table of what was measured."""
    names = [f"{size}x{length}" for size, length in SHAPES]
    lines = [
        f"| model | precision | {' | '.join(names)} | threads | noise |",
        f"|---|---|{'---|' * len(names)}---|---|",
    ]
    known = finished.read(RESULTS)
    for name, one in known.items():
        for precision in PRECISIONS:
            cells = [one["ratios"][f"{precision} {shape}"] for shape in names]
            ratios = " | ".join(f"{cell['ratio']:.2f} ({cell['low']:.2f}-{cell['high']:.2f})" for cell in cells)
            lines.append(f"| {name} | {precision} | {ratios} | {one['threads']} | {one['noise_floor']:.0%} |")
    worst = max(one["difference"] for one in known.values())
    apart = f"within {worst:.1e} of each other" if worst else "the same, bit for bit"
    place = f"On {page.machines(known.values())}, {page.int8_form(known.values())}."
    lines += ["", f"{place} The logits of the two fp32 files are {apart}."]
    page.fill(PAGE, "first token", "first_token.py", "\n".join(lines))


def main() -> None:
    """Measure the sizes that are missing, or render."""
    asked = ask(__doc__, ("3x384", "6x384", "12x768"), 7, render, PAGE)
    for known in each_size(asked, RESULTS, run) if asked else ():
        for cell, gain in known["ratios"].items():
            print(f"{cell}: {gain['ratio']:.2f}x ({gain['low']:.2f} to {gain['high']:.2f}, {gain['verdict']})")


if __name__ == "__main__":
    main()
