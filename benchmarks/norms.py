"""A layer norm and the sum before it as two nodes, or fused into one: which is faster in which onnxruntime?

    python benchmarks/norms.py --work WORK [--releases 1.26.0 1.32.0] [--sizes 3x384 12x768] [--rounds 5] [--threads 1]
    python benchmarks/norms.py --render

The same files, in fp32 and int8, in both forms; weights are random (seeded): time does not depend on them. Each release
is installed with pip into a folder of its own under WORK. Within a round the four files of a release take short turns,
each in a process of its own. Finished units (a release and a size) stand in ``benchmarks/results/norms.json``;
``--render`` writes the table into ``docs/export.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import finished
import numpy as np
import page
import peers_turns
from int8_modes import INPUTS, random_bert, random_rows, write_shapes

from compressor.answers import pad
from compressor.architectures import architecture_of
from compressor.benchmark.process import environment
from compressor.environment import fingerprint
from compressor.graph import files as onnx_files
from compressor.graph import modes, targets
from compressor.graph.calibration import Calibration
from compressor.graph.export import export_onnx
from compressor.graph.passes.norms import fuse_norms
from compressor.runtime.machine import available_cores

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "norms.json"
PAGE = HERE.parent / "docs" / "export.md"
RELEASES = ("1.20.1", "1.24.4", "1.26.0", "1.28.0", "1.30.0", "1.32.0")
SHAPES = ((1, 16), (1, 128), (8, 32))
PRECISIONS = ("fp32", "int8")
FORMS = ("two", "fused")


def write_files(layers: int, hidden: int, folder: Path) -> None:
    """The same model in both precisions and both forms, and the token ids that all are fed."""
    folder.mkdir(parents=True, exist_ok=True)
    model = random_bert(layers, hidden)
    rows = random_rows(model.config.vocab_size)
    batches = [pad(part, INPUTS, 0) for part in (rows[:1], rows[1:9])]
    fp32, int8 = (folder / f"{precision}-two.onnx" for precision in PRECISIONS)
    export_onnx(model, architecture_of(model.config), INPUTS, fp32, opset=18, batches=batches)
    modes.write(fp32, int8, targets.first_plan("per-token", "auto"), Calibration(lambda: ()))
    for path in (fp32, int8):
        graph = onnx_files.load(path)
        fuse_norms(graph)
        onnx_files.save(graph, path.with_name(path.name.replace("two", "fused")))
    write_shapes(SHAPES, model.config.vocab_size, folder / "timed.npz")


def install(release: str, work: Path) -> Path:
    """A folder with one release of onnxruntime, whose other packages are those of this environment."""
    place = work / release
    if not (place / "onnxruntime").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place]
        subprocess.run([*pip, f"onnxruntime=={release}"], check=True)
    return place


def run(release: str, folder: Path, work: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Time the four files of a size under one release."""
    variables = {**environment(threads, os.environ), "PYTHONPATH": str(install(release, work))}
    files = {name: folder / f"{name}.onnx" for name in (f"{kind}-{form}" for kind in PRECISIONS for form in FORMS)}
    job = {"engine": "onnx", "threads": threads, "inputs": INPUTS}
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        cells, versions = peers_turns.round_of_files(files, folder / "timed.npz", [1] * len(SHAPES), job, variables)
        if versions["onnxruntime"] != release:
            raise RuntimeError(f"{versions['onnxruntime']} was loaded in place of {release}")
        for (size, length), medians in zip(SHAPES, cells, strict=True):
            for precision in PRECISIONS:
                slower = medians[f"{precision}-fused"] / medians[f"{precision}-two"]
                ratios.setdefault(f"{precision} {size}x{length}", []).append(slower)
    machine = fingerprint()
    return {
        "ratios": {
            name: {"ratio": float(np.median(found)), "low": min(found), "high": max(found)}
            for name, found in ratios.items()
        },
        "rounds": rounds,
        "threads": threads,
        "environment": {key: machine[key] for key in ("date", "cpu", "versions")},
    }  # fmt: skip


def render(known: Mapping[str, Any]) -> str:
    """Lay the results out as Markdown."""
    names = [f"{precision} {size}x{length}" for precision in PRECISIONS for size, length in SHAPES]
    lines = [f"| model | onnxruntime | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for unit, one in sorted(known.items(), key=lambda item: _order(item[0])):
        size, release = unit.split(", ")
        cells = [one["ratios"][name] for name in names]
        ratios = " | ".join(f"{cell['ratio']:.2f} ({cell['low']:.2f}-{cell['high']:.2f})" for cell in cells)
        lines.append(f"| {size} | {release} | {ratios} |")
    place = f"on {page.machines(known.values())}; int8 with one scale per token"
    return "\n".join([*lines, "", f"Medians (and range) over rounds, {place}."])


def _order(unit: str) -> tuple[int, list[int]]:
    size, release = unit.split(", ")
    return int(size.partition("x")[0]), [int(part) for part in release.split(".")]


def main() -> None:
    """Measure what is missing, or render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write the table and measure nothing")
    parser.add_argument("--work", type=Path, help="folder for the releases and the files")
    parser.add_argument("--releases", nargs="+", default=list(RELEASES))
    parser.add_argument("--sizes", nargs="+", default=["3x384", "12x768"], help="layers x width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=available_cores())
    asked = parser.parse_args()
    if asked.render:
        page.fill(PAGE, "norms", Path(__file__).name, render(finished.read(RESULTS)))
        print(PAGE)
        return
    if asked.work is None:
        parser.error("--work is needed to measure; --render needs nothing")
    work = asked.work.resolve()
    for size in asked.sizes:
        folder = work / size
        layers, hidden = (int(part) for part in size.split("x"))
        wanted = [name for name in asked.releases if f"{size}, {name}" not in finished.read(RESULTS)]
        if wanted:
            write_files(layers, hidden, folder)
        for release in wanted:
            found = run(release, folder, work, asked.rounds, asked.threads)
            finished.add(RESULTS, f"{size}, {release}", found)
            print(f"{size}, {release}: {found['ratios']}", flush=True)


if __name__ == "__main__":
    main()
