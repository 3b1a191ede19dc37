"""Calls of a session with its inputs and its outputs bound to a device (onnxruntime's I/O binding)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnxruntime import OrtValue, RunOptions


def bound_call(
    inner: Any, device: str, options: RunOptions | None = None
) -> Callable[[Sequence[str], Mapping[str, Any]], list[npt.NDArray[np.float32]]]:
    """Make a call that copies the ids to the device once, computes there, and copies some outputs back.

    Without binding, onnxruntime copies an input once for every node that reads it on another device,
    and decides by itself where outputs go. Both copies are part of the call: who serves texts
    pays for them.

    Args:
        inner: onnxruntime's session.
        device: As onnxruntime names it: ``cuda`` or ``cpu``.
        options: Of every call.

    Returns:
        A function from the names of the outputs that come back (others are not computed) and arrays by input name
        to these outputs; safe for concurrent callers.
    """

    def call(outputs: Sequence[str], feed: Mapping[str, Any]) -> list[npt.NDArray[np.float32]]:
        binding = inner.io_binding()
        for name, ids in feed.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(ids, device, 0))
        for name in outputs:
            binding.bind_output(name, device, 0)  # of a shape that is known only afterwards
        binding.synchronize_inputs()
        inner.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return [np.asarray(output, np.float32) for output in binding.copy_outputs_to_cpu()]

    return call
