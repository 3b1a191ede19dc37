"""A folder that is written aside, and moved into place once it is whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressor.aside import beside, escaped, full_disk_explained, partial_name
from compressor.errors import OutputError
from compressor.runtime.manifest import MANIFEST


def check_output(output_dir: Path, overwrite: bool = False, bytes_needed: int = 0) -> None:
    """Make sure that a run can be written, before hours are spent on it. Leaves nothing behind.

    Args:
        output_dir: The folder that the run is to become.
        overwrite: An earlier run there may be replaced.
        bytes_needed: What the run will take on disk, roughly.

    Raises:
        OutputError: The folder exists, is not a run, cannot be written, or the disk is too small.
    """
    try:
        _check_place(output_dir.resolve(), overwrite)
        _check_disk(output_dir.resolve(), bytes_needed)
    except OSError as error:
        raise OutputError(
            f"Output folder {output_dir} cannot be written: {error.strerror}.", "Choose another --output-dir."
        ) from error


@contextmanager
def staging(output_dir: Path, overwrite: bool = False, bytes_needed: int = 0) -> Iterator[Path]:
    """Offer a folder to write into, which becomes ``output_dir`` at the end of the block.

    It lies beside ``output_dir``, so that the move is one rename. Where the block fails or is
    interrupted it is removed, and what was at ``output_dir`` stays as it was.

    Args:
        output_dir: The folder that the run is to become.
        overwrite: An earlier run there may be replaced.
        bytes_needed: What the run will take on disk, roughly.

    Yields:
        The folder to write into.

    Raises:
        OutputError: As ``check_output`` does; or the disk became full.
    """
    place = output_dir.resolve()
    _mend(place)
    check_output(output_dir, overwrite, bytes_needed)
    with full_disk_explained(output_dir, "--output-dir"), beside(place, "--output-dir") as stage:
        yield stage
        _sync(stage)
        _move(stage, place, overwrite)


def _check_place(place: Path, overwrite: bool) -> None:
    if not place.name or place == Path.cwd() or place in Path.cwd().parents:
        raise OutputError(f"Output folder {place} is one that you are in.", "Name a new folder with --output-dir.")
    if not os.path.lexists(place):
        return
    if not place.is_dir():
        raise OutputError(f"Output folder {place} is a file.", "Choose another --output-dir, or remove the file.")
    if not any(place.iterdir()):
        return
    if not _is_run(place):
        raise OutputError(
            f"Output folder {place} exists, and is not a run: it has no manifest.json of compress.",
            "Choose another --output-dir; --overwrite replaces only what compress has written.",
        )
    if not overwrite:
        raise OutputError(
            f"Output folder {place} exists.", "Replace the run in it with --overwrite, or choose another --output-dir."
        )


def _is_run(place: Path) -> bool:
    """Tell whether a folder has a manifest of ours: browser extensions and web applications have one of that name."""
    try:
        found = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"format_version", "default_model", "files", "teacher"} <= found.keys()


def _check_disk(place: Path, bytes_needed: int) -> None:
    ground = next(folder for folder in place.parents if os.path.lexists(folder))
    if not ground.is_dir():
        raise OutputError(
            f"Output folder {place} lies below {ground}, which is a file.", "Choose another --output-dir."
        )
    # Tried, since permission bits do not tell (root, read-only mounts, quotas); under the name that the
    # run will have there, since a name may be too long.
    Path(tempfile.mkdtemp(prefix=partial_name(place), dir=ground)).rmdir()
    free = shutil.disk_usage(ground).free
    if free < bytes_needed:
        raise OutputError(
            f"The disk of {place} has {free / 1e6:,.0f} MB free; the run needs about {bytes_needed / 1e6:,.0f} MB.",
            "Free some, or choose another --output-dir.",
        )


def _move(stage: Path, place: Path, overwrite: bool) -> None:
    _check_place(place, overwrite)  # something may have come there meanwhile
    old = place.with_name(f"{_replaced(place)}{os.getpid()}")
    moved = place.is_dir()
    try:
        if moved:
            place.rename(old)
        stage.rename(place)
    except BaseException:
        if moved and old.is_dir() and not place.exists():
            old.rename(place)
        raise
    _sync_path(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _mend(place: Path) -> None:
    """Put back a run that a killed one was about to replace; or clear it away, where that one had come so far."""
    if not place.parent.is_dir():
        return
    for old in place.parent.glob(f"{escaped(_replaced(place))}*"):
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(place)


def _replaced(place: Path) -> str:
    return f".{place.name}.replaced-"


def _sync(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            _sync_path(path)


def _sync_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
