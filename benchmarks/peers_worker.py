"""One process of ``peers.py``, in the environment of one peer: times a model on token ids that are given.

    python peers_worker.py < QUESTIONS.jsonl > ANSWERS.jsonl

It imports numpy and the peer's engine and nothing of this project, but for the engine ``ours``, which is its runtime.
All peers get equal bytes: the ids come from one ``.npz`` file, as ``compressor.benchmark.inputs.write_cells`` makes it.
The first question is the job: ``engine`` (a key of ``ENGINES``), ``path``, ``threads``, ``cells`` and ``inputs``. Then
``{"cell": 0, "feeds": [0, 5], "first": true}`` times these feeds of a cell, ``{"classify": true}`` answers each feed of
the file once, and ``{}`` tells how much memory all that took. The process waits until it is asked again.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

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
WARMUP_SECONDS, TURN_SECONDS = 0.3, 0.06


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


def take_turn(call: Call, feeds: Sequence[Feed], first: bool) -> list[float]:
    """Time whole passes over some feeds, garbage collection off.

    Others have used the caches meanwhile: a call before fills them again, and at the first turn as many as it takes
    until they are steady, the largest feed first.

    Returns:
        Milliseconds of each call.
    """
    largest = sorted(feeds, key=lambda feed: -next(iter(feed.values())).nbytes)
    taken: list[float] = []
    start = time.perf_counter()
    while not _warm(taken, len(feeds), first, time.perf_counter() - start > WARMUP_SECONDS):
        taken.append(_seconds(call, largest[len(taken) % len(feeds)]))
    samples: list[float] = []
    gc.disable()
    start = time.perf_counter()
    while not samples or time.perf_counter() - start < TURN_SECONDS:
        samples += [1e3 * _seconds(call, feed) for feed in feeds]
    gc.enable()
    return samples


def _seconds(call: Call, feed: Feed) -> float:
    start = time.perf_counter()
    call(feed)
    return time.perf_counter() - start


def _warm(taken: Sequence[float], feeds: int, first: bool, late: bool) -> bool:
    if not first:
        return len(taken) >= 1
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


def answers(told: TextIO) -> Iterator[dict[str, Any]]:
    """Open what the first line names, then do what each further line asks."""
    job = json.loads(told.readline())
    start = time.perf_counter()
    call, prepare = ENGINES[job["engine"]](Path(job["path"]), job["threads"])
    cells = [[prepare(feed) for feed in feeds] for feeds in read_feeds(Path(job["cells"]), job["inputs"])]
    yield {"load_seconds": time.perf_counter() - start, "versions": dict(versions())}
    for line in told:
        asked, before = json.loads(line), time.process_time()
        if "cell" in asked:
            feeds = cells[asked["cell"]]
            samples = take_turn(call, [feeds[index] for index in asked["feeds"]], asked["first"])
            answer: dict[str, Any] = {"samples": [round(sample, 5) for sample in samples]}
        elif asked.get("classify"):
            answer = {"labels": [int(one) for feeds in cells for feed in feeds for one in call(feed).argmax(axis=-1)]}
        else:
            answer = {"peak_bytes": peak_bytes()}
        yield {**answer, "busy_seconds": time.process_time() - before}


def main() -> None:
    """Answer line by line; whatever libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for answer in answers(sys.stdin):
            out.write(json.dumps(answer) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
