"""Write a folder beside its place and move it there when it is whole, so that a kill leaves no half folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from compressor.errors import OutputError

SEAL = "seal.json"
_BLOCK = 1 << 20


@contextmanager
def write_aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder of the cache that takes the place of ``folder`` when the block ends well.

    Another process may have finished the same folder in the meantime: then its copy stays.

    Raises:
        OutputError: The parent folder cannot be written.
    """
    with beside(folder) as aside:
        yield aside
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """Yield an empty, hidden folder beside ``place``; at the end it is removed, unless it was moved away.

    What killed processes have left there is cleared away first: a folder belongs to a living process as long as
    that holds a lock on it, and the system drops the lock however a process ends.

    Raises:
        OutputError: The parent folder cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        aside, lock = _locked_folder(place)
    except OSError as error:
        raise OutputError(
            f"Folder {place.parent} cannot be written: {error.strerror or error}.", "Name another one."
        ) from error
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(lock)


def _locked_folder(place: Path) -> tuple[Path, int]:
    while True:
        aside = place.with_name(f"{_partial(place)}{secrets.token_hex(4)}")
        aside.mkdir()
        lock = os.open(aside, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if aside.is_dir():  # another process may have swept it away before it was locked
            return aside, lock
        os.close(lock)


def _sweep(place: Path) -> None:
    for left in place.parent.glob(f"{escaped(_partial(place))}*"):
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _partial(place: Path) -> str:
    return f".{place.name}.partial-"


def escaped(name: str) -> str:
    """Write a name as a glob pattern that matches it alone."""
    return "".join(f"[{mark}]" if mark in "*?[" else mark for mark in name)


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Write down the sha256 of every file in a folder, and ``facts`` about it; ``read_seal`` checks them."""
    files = {item.relative_to(folder).as_posix(): sha256(item) for item in sorted(folder.rglob("*")) if item.is_file()}
    (folder / SEAL).write_text(json.dumps({"files": files, "facts": facts}, indent=1), encoding="utf-8")


def read_seal(folder: Path) -> dict[str, Any] | None:
    """Return the facts of a sealed folder, or ``None`` where a file is missing, changed or was never sealed."""
    try:
        content = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        files, facts = content["files"], content["facts"]
        whole = all(sha256(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return facts if whole and isinstance(facts, dict) else None


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
