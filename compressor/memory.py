"""What the C library does with memory that was freed, where it is glibc."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h
_NEVER = 2**31 - 1
# What glibc itself comes to, once a program has freed large pieces; its way there ends with the first ``mallopt``.
_ADAPTED = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


def give_back() -> None:
    """Return freed memory to the system."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


@contextmanager
def kept() -> Iterator[None]:
    """Keep what is freed within for what is needed next; the kernel would have to clear it anew."""
    set_option = _function("mallopt")
    if set_option is None:
        yield
        return
    set_option(_MMAP_MAX, 0)
    set_option(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        for option, value in _ADAPTED.items():
            set_option(option, value)
        give_back()


def _function(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
