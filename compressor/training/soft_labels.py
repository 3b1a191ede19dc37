"""The teacher's answers to every text, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from compressor.artifacts import SplitName, Teacher, Tokenized
from compressor.aside import one_at_a_time
from compressor.events import Listener, Progress

BATCH = 32
FLUSH_EVERY = 50
"""Batches between two records of the progress: what a kill may cost."""


def soft_labels(
    teacher: Teacher,
    tokenized: Tokenized,
    split: SplitName,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    cache_dir: Path,
    device: str,
    listen: Listener,
) -> npt.NDArray[np.float32]:
    """Run the teacher over a split, or read what an earlier run has written.

    The file is keyed by the content of teacher, corpus, tokenizer and length. An interrupted pass continues.

    Args:
        teacher: Moved to ``device`` for the pass and back to the CPU after it.
        tokenized: Its splits; rows are visited from the longest to the shortest.
        split: Which split.
        collate: Pads a list of rows to one batch.
        cache_dir: Root of the cache.
        device: ``cpu`` or ``cuda``.
        listen: Receives ``Progress``.

    Returns:
        Logits of shape (rows, labels), memory-mapped read-only.
    """
    dataset = tokenized.splits[split]
    key = hashlib.sha256(f"{teacher.fingerprint}:{tokenized.fingerprint}:{split}".encode()).hexdigest()[:24]
    path = cache_dir / "soft_labels" / f"{key}.npy"
    if not path.exists():
        with one_at_a_time(path, listen):
            if not path.exists():
                _compute(teacher, dataset, collate, path, device, listen)
    logits: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")
    return logits


def _compute(
    teacher: Teacher,
    dataset: Any,
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]],
    path: Path,
    device: str,
    listen: Listener,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, record = path.with_suffix(".partial.npy"), path.with_suffix(".json")
    order = np.argsort(-np.asarray(dataset["length"]), kind="stable")
    shape = (len(order), len(teacher.labels))
    done = _recorded(partial, record, shape)
    logits = np.lib.format.open_memmap(
        partial, mode="r+" if done else "w+", dtype=np.float32, shape=None if done else shape
    )
    model: torch.nn.Module = teacher.model
    model.to(device)
    starts = range(done, len(order), BATCH)
    try:
        with torch.inference_mode():
            for count, start in enumerate(starts, 1):
                rows = order[start : start + BATCH]
                batch = collate([dataset[int(row)] for row in rows])
                batch.pop("labels")
                logits[rows] = model(**{name: item.to(device) for name, item in batch.items()}).logits.float().cpu()
                if count % FLUSH_EVERY == 0:
                    logits.flush()
                    record.write_text(json.dumps(start + len(rows)), encoding="utf-8")
                listen(Progress("soft labels", start + len(rows), len(order), {}))
    finally:
        model.to("cpu")
    logits.flush()
    partial.replace(path)
    record.unlink(missing_ok=True)


def _recorded(partial: Path, record: Path, shape: tuple[int, int]) -> int:
    """Read how many rows an interrupted pass had finished; 0 where that cannot be trusted."""
    try:
        done = int(json.loads(record.read_text(encoding="utf-8")))
        return done if np.load(partial, mmap_mode="r").shape == shape else 0
    except (OSError, ValueError):
        return 0
