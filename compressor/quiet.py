"""What other libraries say while they work: kept off the terminal, and cut to a line in our messages."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting on the terminal; what it was set to comes back afterwards."""
    from transformers.utils import logging as reports

    previous = reports.set_tqdm_hook(lambda make, args, options: make(*args, **{**options, "disable": True}))
    try:
        with quiet_loggers("transformers"):
            yield
    finally:
        reports.set_tqdm_hook(previous)


@contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Keep libraries from logging: what goes wrong is raised, and told by us. Their levels come back afterwards.

    Args:
        names: Of their root loggers, such as ``huggingface_hub``.
    """
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def untouched_root() -> Iterator[None]:
    """Keep an import from configuring the root logger, which is for applications to do."""
    root, guard = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(guard)  # basicConfig leaves a root logger with a handler alone
    try:
        yield
    finally:
        root.removeHandler(guard)
        root.setLevel(level)


def first_line(error: Exception) -> str:
    """Shorten another library's message to its first line, of at most 200 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")
