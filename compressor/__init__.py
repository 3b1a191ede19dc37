"""compressor: from a fine-tuned encoder to a small, verified ONNX student.

Importing this package is free: a name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.artifacts import Run
    from compressor.errors import CompressorError
    from compressor.pipeline import compress
    from compressor.recipe import Recipe
    from compressor.runtime import Prediction, Predictor

__all__ = ["CompressorError", "Prediction", "Predictor", "Recipe", "Run", "compress"]

_HOMES = {
    "CompressorError": "compressor.errors",
    "Prediction": "compressor.runtime",
    "Predictor": "compressor.runtime",
    "Recipe": "compressor.recipe",
    "Run": "compressor.artifacts",
    "compress": "compressor.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
