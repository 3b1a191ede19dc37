"""Calls of a session with its inputs and its outputs bound to a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def bound_call(
    inner: Any, outputs: Sequence[str], device: str
) -> Callable[[Mapping[str, Any]], list[npt.NDArray[np.float32]]]:
    """Make a call that copies the ids to the device once, computes there, and copies some outputs back.

    Without binding, onnxruntime copies an input once for every node that reads it on another device,
    and decides by itself where outputs go. Both copies are part of the call: who serves texts
    pays for them.

    Args:
        inner: onnxruntime's session.
        outputs: Names of the outputs that come back; others are not computed.
        device: As onnxruntime names it: ``cuda`` or ``cpu``.

    Returns:
        A function from arrays by input name to the outputs; safe for concurrent callers.
    """
    from onnxruntime import OrtValue

    def call(feed: Mapping[str, Any]) -> list[npt.NDArray[np.float32]]:
        binding = inner.io_binding()
        for name, ids in feed.items():
            binding.bind_ortvalue_input(name, OrtValue.ortvalue_from_numpy(ids, device, 0))
        for name in outputs:
            binding.bind_output(name, device, 0)  # of a shape that is known only afterwards
        binding.synchronize_inputs()
        inner.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return [np.asarray(output, np.float32) for output in binding.copy_outputs_to_cpu()]

    return call
