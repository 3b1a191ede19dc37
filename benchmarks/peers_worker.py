"""One process of ``peers.py``, in the environment of one peer: times a model on token ids that are given.

    python peers_worker.py < JOB.json > ANSWER.json

It imports numpy and the peer's engine and nothing of this project, but for the engine ``ours``, which is its runtime.
All peers get equal bytes: the ids come from one ``.npz`` file, as ``compressor.benchmark.inputs.write_cells`` makes it.
The job has ``engine`` (a key of ``ENGINES``), ``path``, ``threads``, ``inputs``, and ``timed_seconds``,
``warmup_seconds``, ``min_calls`` and ``max_calls``; with ``classify`` each feed is answered once and not timed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Feed = Mapping[str, Any]
Call = Callable[[Feed], Any]
Prepare = Callable[[Feed], Feed]
Engine = Callable[[Path, int], tuple[Call, Prepare]]

PACKAGES = (
    "torch",
    "transformers",
    "onnxruntime",
    "openvino",
    "nncf",
    "optimum-onnx",
    "sentence-transformers",
    "numpy",
)
# Two neighbouring windows of calls whose medians differ by less are the steady state.
WINDOW, TOLERANCE = 5, 0.05


def open_torch(path: Path, threads: int, compiled: bool = False) -> tuple[Call, Prepare]:
    """Plain transformers, as ``from_pretrained`` gives it; attention as torch's fused kernel."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    run = torch.compile(model) if compiled else model

    def call(feed: Feed) -> Any:
        with torch.inference_mode():
            return run(**feed).logits.numpy()

    return call, lambda feed: {name: torch.from_numpy(ids) for name, ids in feed.items()}


def open_compiled(path: Path, threads: int) -> tuple[Call, Prepare]:
    """The same under ``torch.compile``; compiling is not timed, and its files are kept between processes."""
    return open_torch(path, threads, compiled=True)


def open_onnx(path: Path, threads: int) -> tuple[Call, Prepare]:
    """Plain onnxruntime with its defaults; what wraps it in other tools would only add time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    return lambda feed: session.run(["logits"], feed)[0], lambda feed: {name: feed[name] for name in names}


def open_openvino(path: Path, threads: int) -> tuple[Call, Prepare]:
    """OpenVINO for latency, in fp32 where the file has no int8."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(path, "CPU", settings)
    request = model.create_infer_request()
    names = [item.get_any_name() for item in model.inputs]
    # The answer is a view of memory that the next call writes to.
    return lambda feed: np.array(request.infer(feed)[0]), lambda feed: {name: feed[name] for name in names}


def open_ours(path: Path, threads: int) -> tuple[Call, Prepare]:
    """The session of this project's runtime, as it ships."""
    from compressor.runtime import open_session

    session = open_session(path, threads=threads)
    names = [item.name for item in session.inner.get_inputs()]
    return session.run, lambda feed: {name: feed[name] for name in names}


ENGINES: dict[str, Engine] = {
    "torch": open_torch,
    "torch.compile": open_compiled,
    "onnx": open_onnx,
    "openvino": open_openvino,
    "ours": open_ours,
}


def read_feeds(path: Path, inputs: Sequence[str]) -> list[list[Feed]]:
    """The feeds of each cell, in the order of the file."""
    with np.load(path, allow_pickle=False) as arrays:
        counts = [int(count) for _, _, count in arrays["shapes"]]
        return [
            [{name: arrays[f"{cell}/{feed}/{name}"] for name in inputs} for feed in range(count)]
            for cell, count in enumerate(counts)
        ]


def time_cell(call: Call, feeds: Sequence[Feed], job: Mapping[str, Any]) -> dict[str, Any]:
    """Warm up until calls are steady, the largest feed first; then time whole passes, garbage collection off.

    Returns:
        ``samples`` in milliseconds, and ``warmup_calls``.
    """
    largest = sorted(feeds, key=lambda feed: -next(iter(feed.values())).nbytes)
    taken: list[float] = []
    start = time.perf_counter()
    while not _warm(taken, len(feeds), time.perf_counter() - start > job["warmup_seconds"]):
        taken.append(_seconds(call, largest[len(taken) % len(feeds)]))
    samples: list[float] = []
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    while len(samples) < job["min_calls"] or (
        time.perf_counter() - start < job["timed_seconds"] and len(samples) < job["max_calls"]
    ):
        samples += [1e3 * _seconds(call, feed) for feed in feeds]
    gc.enable()
    return {"samples": [round(sample, 5) for sample in samples], "warmup_calls": len(taken)}


def _seconds(call: Call, feed: Feed) -> float:
    start = time.perf_counter()
    call(feed)
    return time.perf_counter() - start


def _warm(taken: Sequence[float], feeds: int, late: bool) -> bool:
    if feeds > 1:  # of different sizes, so that they never settle: one pass
        return len(taken) >= feeds
    if late or len(taken) < 2 * WINDOW:
        return late and len(taken) >= 2
    last, before = (statistics.median(part) for part in (taken[-WINDOW:], taken[-2 * WINDOW : -WINDOW]))
    return abs(last - before) <= TOLERANCE * before


def peak_bytes() -> int | None:
    """The largest resident memory of this process; ``None`` where there is no /proc."""
    status = Path("/proc/self/status")
    return 1024 * int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) if status.exists() else None


def versions() -> Iterator[tuple[str, str]]:
    """Versions of what is installed here."""
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield name, metadata.version(name)


def main() -> None:
    """Do one job."""
    job = json.load(sys.stdin)
    start = time.perf_counter()
    call, prepare = ENGINES[job["engine"]](Path(job["path"]), job["threads"])
    cells = [[prepare(feed) for feed in feeds] for feeds in read_feeds(Path(job["cells"]), job["inputs"])]
    answer: dict[str, Any] = {"load_seconds": time.perf_counter() - start, "versions": dict(versions())}
    if job.get("classify"):
        answer["labels"] = [int(label) for feeds in cells for feed in feeds for label in call(feed).argmax(axis=-1)]
    else:
        answer["cells"] = [time_cell(call, feeds, job) for feeds in cells]
    json.dump({**answer, "peak_bytes": peak_bytes()}, sys.stdout)


if __name__ == "__main__":
    main()
