"""One process of ``throughput.py``: answers a list of texts in one way, several times; job on stdin, seconds on stdout.

python -m benchmarks.throughput_worker
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BATCH = 32
LENGTH = 128
Answer = Callable[[Sequence[str]], list[int]]


def ours(folder: Path, model: str, threads: int) -> Answer:
    """The runtime as it comes."""
    from compressor.runtime import Predictor

    predictor = Predictor(folder, model=model, threads=threads)
    places = {label: place for place, label in enumerate(predictor.manifest.labels)}
    return lambda texts: [places[found.label] for found in predictor(texts)]


def naive(folder: Path, model: str, threads: int, *, padding: bool | str = True) -> Answer:
    """A loop as it is written by hand: 32 texts in the order of the file, padded to the longest of them."""
    import numpy as np
    import onnxruntime
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / model, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]

    def answer(texts: Sequence[str]) -> list[int]:
        found: list[int] = []
        for start in range(0, len(texts), BATCH):
            part = list(texts[start : start + BATCH])
            rows = tokenizer(part, padding=padding, truncation=True, max_length=LENGTH, return_tensors="np")
            [logits] = session.run(None, {name: rows[name].astype(np.int64) for name in names})
            found += logits.argmax(axis=-1).tolist()
        return found

    return answer


def naive_to_128(folder: Path, model: str, threads: int) -> Answer:
    """The same loop, every batch padded to 128 tokens."""
    return naive(folder, model, threads, padding="max_length")


WAYS: dict[str, Callable[[Path, str, int], Answer]] = {"ours": ours, "naive": naive, "naive-128": naive_to_128}


def main() -> None:
    """Warm up on the first texts, then time whole passes."""
    job: dict[str, Any] = json.load(sys.stdin)
    # The parent's environment forbids it for measurements of models alone; here tokenizing is part of the work.
    os.environ.update(TOKENIZERS_PARALLELISM="true", RAYON_NUM_THREADS=str(job["threads"]))
    answer = WAYS[job["way"]](Path(job["folder"]), job["model"], job["threads"])
    texts = job["texts"]
    # Every way has done what it does once: the longest text, and enough of them for its threads.
    answer(sorted(texts, key=len)[-BATCH:])
    answer(texts[: max(BATCH, len(texts) // 2)])
    seconds, labels = [], []
    for _ in range(job["passes"]):
        start = time.perf_counter()
        labels = answer(texts)
        seconds.append(time.perf_counter() - start)
    json.dump({"seconds": seconds, "labels": labels}, sys.stdout)


if __name__ == "__main__":
    main()
