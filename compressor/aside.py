"""Write a folder beside its place and move it there when it is whole, so that a kill leaves no half folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from compressor import processes
from compressor.errors import OutputError
from compressor.events import Listener, Note

SEAL = "seal.json"
_BLOCK = 1 << 20


@contextmanager
def write_aside(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder``, in the cache, when the block ends well.

    Another process may have finished the same folder in the meantime: then its copy stays, if it is sealed and whole.

    Raises:
        OutputError: The parent folder cannot be written.
    """
    with beside(folder, "--cache-dir") as aside:
        yield aside
        if read_seal(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)


@contextmanager
def beside(place: Path, flag: str) -> Iterator[Path]:
    """Yield an empty, hidden folder beside ``place``; at the end it is removed, unless it was moved away.

    What killed processes have left there is cleared away first: a folder belongs to a living process as long as
    that holds a lock on it, and the system drops the lock however a process ends.

    Args:
        place: Where the content belongs; it need not exist.
        flag: With which the user chooses another parent folder.

    Raises:
        OutputError: The parent folder cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        aside, lock = _locked_folder(place)
    except OSError as error:
        raise OutputError(
            f"Folder {place.parent} cannot be written: {error.strerror or error}.", f"Choose another {flag}."
        ) from error
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(lock)


@contextmanager
def one_at_a_time(place: Path, listen: Listener) -> Iterator[None]:
    """Let one process at a time make a place of the cache; the others wait, and then find it made.

    Without it two runs of the same command would write each other's checkpoints. The system drops the lock however
    a process ends. Processes of one run make a place together: the first holds the lock for all.

    Args:
        place: What is made in the block; it need not exist.
        listen: Receives a ``Note`` where another process is waited for.

    Raises:
        OutputError: The parent folder cannot be written.
    """
    if not processes.here().is_first:
        yield
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        path = place.with_name(f".{place.name}.lock")
        lock = _locked_file(path, listen)
    except OSError as error:
        raise OutputError(
            f"Folder {place.parent} cannot be written: {error.strerror or error}.", "Choose another --cache-dir."
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: who waits for it sees that, and makes another
        os.close(lock)


def _locked_file(path: Path, listen: Listener) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                listen(Note("Another run is making what this one needs too, and is waited for."))
                fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), path.stat()):
                    return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


@contextmanager
def full_disk_explained(place: Path, flag: str) -> Iterator[None]:
    """Say in the user's words that a disk became full, whichever library met it.

    Args:
        place: What is being written.
        flag: With which the user chooses another place.

    Raises:
        OutputError: No space is left.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise OutputError(
            f"No space left on the disk of {place}.",
            f"Free some and give the same command again: it continues. Or choose another {flag}.",
        ) from error


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Give a temporary folder that is gone afterwards.

    Raises:
        OutputError: No space is left there.
    """
    ground = Path(tempfile.gettempdir())
    with full_disk_explained(ground, "TMPDIR"), tempfile.TemporaryDirectory(prefix=f"compressor-{name}-") as place:
        yield Path(place)


def is_full(error: BaseException) -> bool:
    """Tell whether an error says that a disk is full, whichever library says it."""
    # safetensors and torch report a full disk in exceptions of their own.
    words = ("os error 28", "StorageFull", "PytorchStreamWriter failed writing file")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(word in str(error) for word in words)


def _locked_folder(place: Path) -> tuple[Path, int]:
    while True:
        aside = place.with_name(f"{partial_name(place)}{secrets.token_hex(4)}")
        aside.mkdir()
        lock = os.open(aside, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if aside.is_dir():  # another process may have swept it away before it was locked
            return aside, lock
        os.close(lock)


def _sweep(place: Path) -> None:
    for left in place.parent.glob(f"{escaped(partial_name(place))}*"):
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def partial_name(place: Path) -> str:
    """How the hidden folders beside a place begin."""
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
