"""The peers of ``peers.py``: which packages each needs, and how each makes its file. One row for each.

Environments are made with ``python -m venv`` and pip. torch stays at the version of ``constraints.txt``: where that is
a CPU build, an open version would fetch gigabytes for GPUs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
ENVIRONMENTS: Mapping[str, tuple[str, ...]] = {
    # Versions agree, so that one environment serves four peers. optimum-onnx 0.1.0 takes no transformers 5.
    "optimum": (
        "torch==2.13.0", "transformers==4.57.6", "optimum==2.1.0", "optimum-onnx==0.1.0",
        "sentence-transformers==5.1.2", "onnxruntime==1.32.0", "onnx==1.23.2",
    ),
    "openvino": ("openvino==2026.4.1", "nncf==3.4.0", "numpy==2.4.6"),
}  # fmt: skip

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class Peer:
    """One way to run the same model.

    Attributes:
        name: Key in the results, and folder of what it makes.
        title: As the page names it.
        environment: A key of ``ENVIRONMENTS``; ``ours`` is the one that this script runs in.
        engine: A key of ``peers_worker.ENGINES``.
        command: Makes the file. ``{model}`` is the Hugging Face folder, ``{out}`` the peer's own, ``{NAME}`` what the
            peer of that name made, ``{calibration}`` training texts; none where the folder itself is run.
        file: What is run, within ``{out}``.
    """

    name: str
    title: str
    precision: Precision
    environment: str
    engine: str
    command: tuple[str, ...] = ()
    file: str = "model.onnx"


SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (8, 128))
CELLS = ("clinc150", "mr", *(f"{size}x{length}" for size, length in SHAPES))
"""What is timed: test texts at their own lengths, and batches of one length."""

OURS: Mapping[Precision, str] = {"fp32": "ours-fp32", "int8": "ours-int8"}
COPY = "ours-int8-copy"

_SCRIPT = ("python", str(HERE / "peers_artefacts.py"))
_EXPORT = ("optimum-cli", "export", "onnx", "--model", "{model}", "--task", "text-classification")
_QUANTIZE = ("optimum-cli", "onnxruntime", "quantize", "--onnx_model", "{optimum}", "-o", "{out}")
_FUSE = ("python", "-m", "onnxruntime.transformers.optimizer", "--model_type", "bert")
_MAKE_OURS = (*_SCRIPT, "ours", "{model}", "{out}", "{calibration}")

PEERS = (
    Peer(COPY, "ours, int8 (copy)", "int8", "ours", "ours", file="{ours-fp32}/smooth.onnx"),
    Peer("torch", "torch eager", "fp32", "optimum", "torch", file="{model}"),
    Peer("torch-compile", "torch.compile", "fp32", "optimum", "torch.compile", file="{model}"),
    Peer("optimum", "optimum-onnx, as exported", "fp32", "optimum", "onnx", (*_EXPORT, "{out}")),
    *(
        Peer(f"optimum-{level}", f"optimum-onnx {level}", "fp32", "optimum", "onnx",
             (*_EXPORT, "--optimize", level, "{out}"))
        for level in ("O1", "O2", "O3")
    ),
    Peer("onnxruntime", "onnxruntime's optimizer", "fp32", "optimum", "onnx",
         (*_FUSE, "--input", "{optimum}/model.onnx", "--output", "{out}/model.onnx")),
    Peer("openvino", "OpenVINO", "fp32", "openvino", "openvino",
         (*_SCRIPT, "openvino", "{optimum}/model.onnx", "{out}"), "model.xml"),
    Peer("ours-fp32", "ours, fp32", "fp32", "ours", "ours", _MAKE_OURS),
    *(
        Peer(f"optimum-{preset}", f"optimum-onnx, int8 preset {preset}", "int8", "optimum", "onnx",
             (*_QUANTIZE, f"--{preset}"), "model_quantized.onnx")
        for preset in ("avx2", "avx512", "avx512_vnni")
    ),
    Peer("optimum-avx2-per-channel", "optimum-onnx, int8 preset avx2, per channel", "int8", "optimum", "onnx",
         (*_QUANTIZE, "--avx2", "--per_channel"), "model_quantized.onnx"),
    Peer("sentence-transformers", "sentence-transformers, quantized export avx2", "int8", "optimum", "onnx",
         (*_SCRIPT, "sentence-transformers", "{model}", "{out}"), "onnx/model_quint8_avx2.onnx"),
    Peer("onnxruntime-int8", "onnxruntime's optimizer and quantizer", "int8", "optimum", "onnx",
         (*_SCRIPT, "onnxruntime-int8", "{onnxruntime}/model.onnx", "{out}")),
    Peer("nncf", "OpenVINO, int8 of NNCF", "int8", "openvino", "openvino",
         (*_SCRIPT, "nncf", "{openvino}/model.xml", "{out}", "{calibration}"), "model.xml"),
    Peer("ours-dynamic", "ours, int8, --quantize-mode dynamic", "int8", "ours", "ours",
         file="{ours-fp32}/dynamic.onnx"),
    Peer("ours-int8", "ours, int8", "int8", "ours", "ours", file="{ours-fp32}/smooth.onnx"),
)  # fmt: skip


def python_of(peer: Peer, work: Path) -> Path:
    """The interpreter of a peer's environment."""
    if peer.environment == "ours":
        return Path(sys.executable)
    return work / "environments" / peer.environment / "bin" / "python"


def environments(work: Path, wanted: set[str]) -> None:
    """Make the environments that are not there."""
    for name in sorted(wanted & set(ENVIRONMENTS)):
        folder = work / "environments" / name
        if (folder / "finished").exists():
            continue
        print(f"environment {name}: {' '.join(ENVIRONMENTS[name])}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *ENVIRONMENTS[name]], check=True)
        (folder / "finished").touch()


def places(model: Path, folder: Path) -> dict[str, str]:
    """What the names in braces stand for."""
    made = {peer.name: str(folder / peer.name) for peer in PEERS}
    return {"model": str(model), "calibration": str(folder / "calibration.npz"), **made}


def path_of(peer: Peer, model: Path, folder: Path) -> Path:
    """What a peer runs."""
    return folder / peer.name / peer.file.format(**places(model, folder))


def artefact(peer: Peer, model: Path, folder: Path, work: Path) -> float | None:
    """Make a peer's file, unless it is there.

    Args:
        peer: Which; what it needs of other peers is there already, as the table is ordered.
        model: The Hugging Face folder.
        folder: For what is made of this model.
        work: Where the environments are.

    Returns:
        Seconds that it took; ``None`` where nothing was to be done.

    Raises:
        subprocess.CalledProcessError: The peer failed; what it said is printed.
    """
    out = folder / peer.name
    if not peer.command or (out / "finished").exists():
        return None
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    python = python_of(peer, work)
    program, *rest = (part.format(**{**places(model, folder), "out": str(out)}) for part in peer.command)
    start = time.perf_counter()
    done = subprocess.run(
        [python.with_name(program) if program != "python" else python, *rest],
        env=offline(peer), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(out)
        print(f"{peer.name} failed:\n{done.stderr[-3000:]}", flush=True)
        done.check_returncode()
    seconds = time.perf_counter() - start
    (out / "finished").touch()
    return seconds


def offline(peer: Peer) -> dict[str, str]:
    """A process's environment: no hub, and this project's modules for us alone."""
    found = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    found.pop("PYTHONPATH", None)
    return {**found, "PYTHONPATH": str(HERE.parent)} if peer.environment == "ours" else found
