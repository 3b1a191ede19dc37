"""What makes a step of training on a CPU faster and changes nothing else: plain attention, and memory that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from compressor import memory
from compressor.events import Listener, Note
from compressor.quiet import quiet
from compressor.runtime.machine import cpu_flags

_SHORT = 256
_BFLOAT16 = ("amx_bf16", "avx512_bf16")


def point_out_bfloat16(device: str, precision: str, listen: Listener, root: Path = Path("/")) -> None:
    """Say so where a training in fp32 leaves a CPU's products of bfloat16 unused.

    Args:
        device: Where is trained.
        precision: In what.
        listen: Told of it.
        root: Where ``proc`` is mounted.
    """
    flag = next((name for name in _BFLOAT16 if name in cpu_flags(root)), None)
    if device == "cpu" and precision == "fp32" and flag is not None:
        listen(Note(f"This CPU multiplies bfloat16 ({flag}): training would be faster with --precision bf16."))


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
            stack.enter_context(memory.kept())
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
