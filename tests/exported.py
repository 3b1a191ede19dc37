"""Tiny classifiers, exported once a test run and shared by the tests of what follows the export."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch

from compressor.architectures import ARCHITECTURES
from compressor.artifacts import ExportedModel
from compressor.events import Listener, ignore
from compressor.graph import export, parity
from tests import tiny

MAX_LENGTH = 48
LAYERS = 2


@dataclass(frozen=True)
class Sample:
    """A classifier, text for it, and its ONNX file."""

    model_type: str
    model: Any
    batches: tuple[parity.Batch, ...]
    exported: ExportedModel

    def export(self, path: Path, opset: int = 18, listen: Listener = ignore) -> ExportedModel:
        """Export the same classifier again."""
        return run(self.model_type, self.model, self.batches, path, opset, listen)


def run(
    model_type: str,
    model: Any,
    batches: tuple[parity.Batch, ...],
    path: Path,
    opset: int = 18,
    listen: Listener = ignore,
) -> ExportedModel:
    names = tiny.tokenizer(model_type).model_input_names
    return export.export_onnx(
        model, ARCHITECTURES[model_type], names, path, opset=opset, batches=batches, listen=listen
    )


def classifier(model_type: str, **changes: Any) -> Any:
    """A two-layer classifier whose weights are large enough for attention, masks and biases to matter."""
    layers = {"n_layers" if model_type == "distilbert" else "num_hidden_layers": LAYERS}
    model = tiny.model(model_type, **{**layers, **changes})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.3, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0, 0.2, generator=generator)
    return model


def texts(model_type: str, rows: int = 40) -> datasets.Dataset:
    """Toy reviews as unpadded token ids."""
    encoded = [tiny.tokenizer(model_type)(text) for text, _ in tiny.reviews(rows)]
    columns = tiny.tokenizer(model_type).model_input_names
    return datasets.Dataset.from_list(
        [{**{name: list(item[name]) for name in columns}, "length": len(item["input_ids"])} for item in encoded]
    )


@functools.cache
def folder() -> Path:
    """Where the shared files live until the test run ends."""
    path = Path(tempfile.mkdtemp(prefix="compressor-exported-"))
    atexit.register(shutil.rmtree, path)
    return path


@functools.cache
def sample(model_type: str) -> Sample:
    """The shared classifier of one architecture."""
    names = tiny.tokenizer(model_type).model_input_names
    batches = parity.parity_batches(texts(model_type), names, 0, MAX_LENGTH)
    model = classifier(model_type)
    exported = run(model_type, model, batches, folder() / f"{model_type}.onnx")
    return Sample(model_type, model, batches, exported)
