"""The teacher's answers to every row, computed once and kept on disk."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compressor import processes
from compressor.answers import BATCH, IGNORED, INPUT_NAMES, Answers, Floats, Ints, cut, pad
from compressor.artifacts import SplitName, Teacher, Tokenized
from compressor.aside import full_disk_explained, one_at_a_time
from compressor.events import Listener, Progress
from compressor.heads import asking
from compressor.tasks import Kind, Task
from compressor.training.engine import arithmetic, resolve_device
from compressor.training.masking import mask_token_of

FLUSH_EVERY = 50
"""Batches between two records of the progress: what a kill may cost."""

BETWEEN = 8
"""Batches of each process between two meetings, where there are several."""

_WIDTHS: dict[Kind, Callable[[Teacher], int]] = {
    "regression": lambda teacher: 1,
    "question-answering": lambda teacher: 2,
    "fill-mask": lambda teacher: 3,
    "feature-extraction": lambda teacher: int(teacher.model.config.hidden_size),
}
"""Width of the answers where it is not the number of labels; see ``Answers.values``."""


def soft_labels(
    teacher: Teacher,
    tokenized: Tokenized,
    split: SplitName,
    cache_dir: Path,
    device: str,
    listen: Listener,
    precision: str = "fp32",
) -> Answers | None:
    """Run the teacher over a split, or read what an earlier run has written.

    The file is keyed by the content of teacher, corpus, tokenizer and length, and by the precision. An interrupted pass
    continues. Several processes share the batches, the same ones that a single process would ask about; the first of
    them writes.

    Args:
        teacher: Moved to ``device`` for the pass and back to the CPU after it.
        tokenized: Its splits; rows are visited from the longest to the shortest.
        split: Which split.
        cache_dir: Root of the cache.
        device: ``auto``, ``cpu`` or ``cuda``.
        listen: Receives ``Progress``.
        precision: Arithmetic of the pass: ``fp32``, ``bf16`` or ``fp16``. Fit to teach with; judge by fp32.

    Returns:
        Its answers, memory-mapped read-only. ``None`` for the training split of a masked language model: whole
        vocabularies would not fit, and other words are hidden in every epoch, so the teacher runs beside the student.

    Raises:
        OutputError: The cache folder cannot be written, or the disk is full.
    """
    task, rows = tokenized.task, tokenized.splits[split]
    if task.unit == "masked token" and split == "train":
        return None
    asked = ":".join([teacher.fingerprint, tokenized.fingerprint, split, *([precision] if precision != "fp32" else [])])
    key = hashlib.sha256(asked.encode()).hexdigest()[:24]
    path = cache_dir / "soft_labels" / f"{key}.npy"
    starts = np.concatenate([[0], np.cumsum(_units(task, rows))]).astype(np.int64)
    if not processes.by_first(path.exists):
        with one_at_a_time(path, listen), full_disk_explained(path.parent, "--cache-dir"):
            if not processes.by_first(path.exists):
                where = resolve_device(device, precision)
                with arithmetic(where, precision):
                    _compute(teacher, task, rows, starts, path, where, listen)
    return Answers(np.load(path, mmap_mode="r"), starts)


def _units(task: Task, rows: Any) -> Ints:
    """Count what a model answers about in each row."""
    if task.unit == "row":
        return np.ones(len(rows), np.int64)
    if task.unit == "token":
        return np.asarray(rows["length"][:], np.int64)
    return np.array([sum(label != IGNORED for label in labels) for labels in rows["labels"][:]], np.int64)


def _compute(teacher: Teacher, task: Task, rows: Any, starts: Ints, path: Path, device: str, listen: Listener) -> None:
    partial, record = path.with_suffix(".partial.npy"), path.with_suffix(".json")
    order = np.argsort(-np.asarray(rows["length"][:]), kind="stable")
    width = _WIDTHS[task.kind](teacher) if task.kind in _WIDTHS else len(teacher.labels)
    shape = (int(starts[-1]), width)
    me = processes.here()
    done = processes.by_first(lambda: _recorded(partial, record, shape))
    if me.is_first and not done:
        record.unlink(missing_ok=True)  # of a pass whose answers are gone
    values = _opened(partial, done, shape) if me.is_first else None
    names = [name for name in INPUT_NAMES if name in rows.column_names]
    pad_token_id: Any = teacher.tokenizer.pad_token_id
    model: torch.nn.Module = teacher.model
    model.to(device)
    call = asking(model, task, device, mask_token_of(teacher.tokenizer))

    def ask(chosen: Ints) -> tuple[Ints, list[Floats]]:
        batch = [rows[int(index)] for index in chosen]
        return chosen, cut(task, call(pad(batch, names, pad_token_id)), batch)

    batches = [order[start : start + BATCH] for start in range(done, len(order), BATCH)]
    at_once = me.count * BETWEEN if me.count > 1 else 1
    try:
        for begin in range(0, len(batches), at_once):
            heard = processes.gathered([ask(chosen) for chosen in me.share(batches[begin : begin + at_once])])
            if values is None:
                continue
            for chosen, answers in itertools.chain.from_iterable(heard):
                for index, found in zip(chosen, answers, strict=True):
                    values[starts[index] : starts[index + 1]] = found
            now = min(len(order), done + (begin + at_once) * BATCH)
            if (begin + at_once) // FLUSH_EVERY > begin // FLUSH_EVERY:
                values.flush()
                record.write_text(json.dumps(now), encoding="utf-8")
            listen(Progress("soft labels", now, len(order), {}))
    finally:
        model.to("cpu")
    if values is not None:
        values.flush()
        partial.replace(path)
        record.unlink(missing_ok=True)
    processes.wait_for_all()


def _opened(partial: Path, done: int, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float32]]:
    values = np.lib.format.open_memmap(
        partial, mode="r+" if done else "w+", dtype=np.float32, shape=None if done else shape
    )
    _reserve(partial)
    return values


def _reserve(path: Path) -> None:
    """Take the file's space on the disk now: a page that finds none later would kill the process (SIGBUS).

    Raises:
        OSError: There is not enough.
    """
    size = path.stat().st_size
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            path.unlink()
            raise
    except AttributeError:  # macOS
        pass
    else:
        return
    if shutil.disk_usage(path.parent).free < size:
        path.unlink()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _recorded(partial: Path, record: Path, shape: tuple[int, int]) -> int:
    """Read how many rows an interrupted pass had finished; 0 where that cannot be trusted."""
    try:
        done = int(json.loads(record.read_text(encoding="utf-8")))
        return done if np.load(partial, mmap_mode="r").shape == shape else 0
    except (OSError, ValueError):
        return 0
