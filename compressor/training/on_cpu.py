"""What makes a step of training on a CPU faster and changes nothing else: plain attention, and memory that is kept."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn
from transformers import PreTrainedModel

from compressor.quiet import quiet

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # malloc.h
_NEVER = 2**31 - 1
_SHORT = 256
# What glibc itself comes to, once a program has freed large pieces; its way there ends with the first ``mallopt``.
_ADAPTED = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}


@contextmanager
def fast_on_cpu(model: nn.Module, device: str, longest: int | None) -> Iterator[None]:
    """Train a model within; elsewhere than on a CPU nothing is changed.

    Args:
        model: With the attention that it is exported with, which it has again afterwards.
        device: Where it is trained.
        longest: Tokens of the longest row. Plain attention keeps numbers by the square of that for the backward pass:
            for long rows, and where it is not known, attention stays as it is.
    """
    with ExitStack() as stack:
        if device == "cpu":
            stack.enter_context(_kept_memory())
            if longest is not None and longest <= _SHORT:
                stack.enter_context(_plain_attention(model))
        yield


@contextmanager
def _plain_attention(model: nn.Module) -> Iterator[None]:
    """Compute attention by matrix products: torch's fused kernel is slow in the backward pass, and knows no dropout."""
    fused = [
        part
        for part in model.modules()
        if isinstance(part, PreTrainedModel) and part.config._attn_implementation == "sdpa"
    ]
    with quiet():
        for part in fused:
            part.set_attn_implementation("eager")
    try:
        yield
    finally:
        with quiet():
            for part in fused:
                part.set_attn_implementation("sdpa")


@contextmanager
def _kept_memory() -> Iterator[None]:
    """Keep the memory of one step for the next; glibc would give it back, and the kernel clear it anew, in each."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        for option, value in _ADAPTED.items():
            libc.mallopt(option, value)
        libc.malloc_trim(0)
