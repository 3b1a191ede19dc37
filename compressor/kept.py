"""Finished training, kept in the cache so that no run repeats it.

A place is named by the content that went into the training: weights, data, settings and seed. It holds a
Hugging Face folder, sealed with the curve of the training; it appears at once, whole, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressor import processes
from compressor.artifacts import TrainingCurve
from compressor.aside import SEAL, read_seal, seal, write_aside
from compressor.errors import OutputError

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
    if processes.here().is_first:
        with write_aside(kept) as aside:
            save(aside)
            seal(aside, asdict(curve))
        shutil.rmtree(training_folder(kept), ignore_errors=True)
    processes.wait_for_all()


def is_kept(kept: Path) -> bool:
    """Say whether a place holds a finished training, each file as it was written."""
    return processes.by_first(lambda: read_seal(kept) is not None)


def check_shared(cache_dir: Path) -> None:
    """Make sure that all processes of a run see the same cache: the first one writes there for the others.

    Raises:
        OutputError: Some do not, or it cannot be written.
    """

    def leave_a_sign() -> Path:
        sign = cache_dir / f".seen-by-all-{secrets.token_hex(4)}"
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            sign.touch()
        except OSError as error:
            raise OutputError(
                f"Folder {cache_dir} cannot be written: {error.strerror or error}.", "Choose another --cache-dir."
            ) from error
        return sign

    if processes.here().count == 1:
        return
    sign = processes.by_first(leave_a_sign)
    found = processes.gathered(sign.exists())
    if processes.here().is_first:
        sign.unlink(missing_ok=True)
        if not all(found):
            blind = ", ".join(str(rank) for rank, sees in enumerate(found) if not sees)
            raise OutputError(
                f"The cache {cache_dir} of the first process is not there for process {blind}.",
                "Give --cache-dir a folder on a disk that all machines share, by the same path.",
            )


def read_curve(kept: Path) -> TrainingCurve:
    """Read how a kept training went."""
    stored = json.loads((kept / SEAL).read_text(encoding="utf-8"))["facts"]
    return TrainingCurve(tuple(stored["steps"]), tuple(stored["losses"]), tuple(stored["evaluations"]))
