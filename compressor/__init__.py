"""compressor: from a fine-tuned encoder to a small, verified ONNX student.

Importing this package is free: a name is loaded when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.artifacts import Run
    from compressor.errors import CompressorError
    from compressor.pipeline import compress
    from compressor.recipe import Recipe
    from compressor.runtime import Prediction, Predictor
    from compressor.slimming.loading import load_student

# From 1.32 on, onnxruntime reports its use to its maker from Linux too, and keeps an id of the machine in the
# home folder, unless one of these (the name differs between versions) is set before it is loaded. A runtime
# for production does not do that unasked; set them to 0 to allow it.
for _name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
    os.environ.setdefault(_name, "1")

__all__ = ["CompressorError", "Prediction", "Predictor", "Recipe", "Run", "compress", "load_student"]

_HOMES = {
    "CompressorError": "compressor.errors",
    "Prediction": "compressor.runtime",
    "Predictor": "compressor.runtime",
    "Recipe": "compressor.recipe",
    "Run": "compressor.artifacts",
    "compress": "compressor.pipeline",
    "load_student": "compressor.slimming.loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
