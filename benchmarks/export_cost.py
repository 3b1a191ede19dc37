"""What it costs to export, fuse and quantize a 12x768 BERT: ours beside optimum-cli, whole processes.

    python benchmarks/export_cost.py --work WORK [--rounds 5] [--minutes 60]
    python benchmarks/peers.py --render

WORK is that of ``peers.py``: the environment of optimum-onnx and the model with random weights are made there where
they are missing. Ours is one process, which loads the Hugging Face folder, exports and fuses, proves parity with torch
at four shapes, and writes and measures int8 (``export_cost.py --ours MODEL OUT MODE``): once in the mode ``per-token``,
which observes no texts, and once in the default, which observes activations on 512 rows of 16 tokens, as a run does on
512 texts. optimum has two processes: ``optimum-cli export onnx``, which validates too, and ``optimum-cli onnxruntime
quantize --avx2``, which observes nothing. Wall time, and the largest resident memory of a process as the kernel counts
it. Finished rounds stand in ``benchmarks/results/export_cost.json``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import finished, peers_build  # noqa: E402

RESULTS = HERE / "results" / "export_cost.json"
MODEL = "bert-base"
SHAPES = ((1, 8), (1, 64), (3, 24), (4, 32))
OBSERVED = ((8, 16),) * 64
MODES = {"ours": "per-token", "ours, observing": "smooth"}
OPTIMUM = next(peer for peer in peers_build.PEERS if peer.name == "optimum")
OURS = next(peer for peer in peers_build.PEERS if peer.name == "ours-fp32")


def ours(model: Path, out: Path, mode: str) -> None:
    """Export, fuse, prove and quantize, by the calls that the pipeline makes."""
    import numpy as np
    from transformers import AutoModelForSequenceClassification

    from compressor.architectures import architecture_of
    from compressor.graph.export import export_onnx
    from compressor.graph.quantize import quantize_onnx
    from compressor.quiet import quiet

    with quiet():
        network = AutoModelForSequenceClassification.from_pretrained(model).eval()
    architecture, expected = architecture_of(network.config), len(architecture_of(network.config).products(network))
    rng, vocabulary = np.random.default_rng(0), network.config.vocab_size

    def batch(rows: int, length: int) -> dict[str, Any]:
        mask = (np.arange(length) < np.linspace(length, max(2, length // 3), rows)[:, None]).astype(np.int64)
        ids = rng.integers(1000, vocabulary, (rows, length)) * mask
        return {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": mask}

    batches, observed = ([batch(*shape) for shape in shapes] for shapes in (SHAPES, OBSERVED))
    fp32 = export_onnx(network, architecture, tuple(batches[0]), out / "model.onnx", opset=18, batches=batches)
    del network
    quantize_onnx(
        fp32.path,
        out / "model_quantized.onnx",
        target="auto",
        expected=expected,
        batches=batches[2:],
        mode=mode,
        calibration=lambda: observed,
    )


def cost(command: Sequence[str | Path], peer: peers_build.Peer) -> dict[str, float]:
    """Run a process to its end.

    Returns:
        ``seconds``, and ``peak_bytes`` of the process itself.

    Raises:
        RuntimeError: It failed; its last words are told.
    """
    with tempfile.TemporaryFile("w+") as words:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=peers_build.offline(peer), stdout=words, stderr=words)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            words.seek(0)
            raise RuntimeError(f"{command[0]} failed:\n{words.read()[-2000:]}")
    return {"seconds": seconds, "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}


def one_round(model: Path, work: Path, *, first: bool) -> dict[str, Any]:
    """Run both sides once, ours first or last."""
    out = work / "export-cost"
    program = peers_build.python_of(OPTIMUM, work).with_name("optimum-cli")
    steps: dict[str, tuple[peers_build.Peer, list[str | Path]]] = {
        **{
            name: (OURS, [sys.executable, Path(__file__).resolve(), "--ours", model, out / "ours", mode])
            for name, mode in MODES.items()
        },
        "optimum export": (
            OPTIMUM,
            [program, "export", "onnx", "--model", model, "--task", "text-classification", out / "optimum"],
        ),
        "optimum quantize": (
            OPTIMUM,
            [program, "onnxruntime", "quantize", "--avx2", "--onnx_model", out / "optimum", "-o", out / "avx2"],
        ),
    }
    shutil.rmtree(out, ignore_errors=True)
    (out / "ours").mkdir(parents=True)
    order = [*steps] if first else [*steps][len(MODES) :] + [*steps][: len(MODES)][::-1]
    found: dict[str, Any] = {name: cost(steps[name][1], steps[name][0]) for name in order}
    found["fp32_bytes"] = (out / "ours" / "model.onnx").stat().st_size
    shutil.rmtree(out)
    return found


def main() -> None:
    """Measure rounds that are missing, or be one measured process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", nargs=3, metavar=("MODEL", "OUT", "MODE"), help="be the measured process")
    parser.add_argument("--work", type=Path, default=Path("exported/peers"), help="folder for environments and files")
    parser.add_argument("--tokenizer", type=Path, help="of the model; default: that of the embedded MiniLM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=1e6, help="start no round after this many minutes")
    asked = parser.parse_args()
    if asked.ours:
        model, out, mode = asked.ours
        ours(Path(model), Path(out), mode)
        return
    from benchmarks.peers import bert_base
    from compressor.environment import fingerprint

    deadline, work = time.monotonic() + 60 * asked.minutes, asked.work.resolve()
    peers_build.environments(work, {OPTIMUM.environment})
    source = bert_base(work / MODEL, asked.tokenizer)
    for number in range(1, asked.rounds + 1):
        unit = f"round {number}"
        if unit in finished.read(RESULTS) or time.monotonic() > deadline:
            continue
        machine = {key: fingerprint()[key] for key in ("date", "cpu", "virtual_machine", "versions")}
        found = one_round(source, work, first=number % 2 == 1)
        finished.add(RESULTS, unit, {"environment": machine, **found})
        told = (f"{name} {one['seconds']:.1f} s, {one['peak_bytes'] / found['fp32_bytes']:.2f}x the file"
                for name, one in found.items() if name != "fp32_bytes")  # fmt: skip
        print(f"{unit}: {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
