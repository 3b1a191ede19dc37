"""Finished training, kept in the cache so that no run repeats it.

A place is named by the content that went into the training: weights, data, settings and seed. It holds a
Hugging Face folder, sealed with the curve of the training; it appears at once, whole, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressor.artifacts import TrainingCurve
from compressor.aside import SEAL, read_seal, seal, write_aside

FORMAT = 1
"""Raised when a change of this toolkit makes earlier training unusable."""


def place(cache_dir: Path, kind: str, content: Mapping[str, Any]) -> Path:
    """Name the place of one training.

    Args:
        cache_dir: Root of the cache.
        kind: Folder in it, such as ``students``.
        content: JSON-able; all that the result depends on.
    """
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return cache_dir / kind / hashlib.sha256(text.encode()).hexdigest()[:24]


def training_folder(kept: Path) -> Path:
    """Where the checkpoints of an unfinished training lie; ``keep`` removes it."""
    return kept.with_name(f"{kept.name}.training")


def keep(kept: Path, save: Callable[[Path], None], curve: TrainingCurve) -> None:
    """Move a finished training into its place, and drop its checkpoints.

    Args:
        kept: Its place.
        save: Writes the model into the folder it is given.
        curve: How the training went.

    Raises:
        OutputError: The cache cannot be written.
    """
    with write_aside(kept) as aside:
        save(aside)
        seal(aside, asdict(curve))
    shutil.rmtree(training_folder(kept), ignore_errors=True)


def is_kept(kept: Path) -> bool:
    """Say whether a place holds a finished training, each file as it was written."""
    return read_seal(kept) is not None


def read_curve(kept: Path) -> TrainingCurve:
    """Read how a kept training went."""
    stored = json.loads((kept / SEAL).read_text(encoding="utf-8"))["facts"]
    return TrainingCurve(tuple(stored["steps"]), tuple(stored["losses"]), tuple(stored["evaluations"]))
