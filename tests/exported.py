"""Tiny models, exported once a test run and shared by the tests of what follows the export, in all its processes."""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch

from compressor.answers import IGNORED
from compressor.architectures import ARCHITECTURES
from compressor.artifacts import ExportedModel, FusionCount, ParityRow
from compressor.events import Listener, ignore
from compressor.graph import export, parity
from compressor.student import silence_padding
from compressor.tasks import TASKS, Kind
from tests import tiny
from tests.conftest import SHARED

MAX_LENGTH = 48
LAYERS = 2
# Their attention stands beside its projections: these have several inputs, other readers, or are turned in between.
PARALLEL = {"mobilebert", "deberta-v2", "modernbert"}
PACKED = tuple(name for name in ARCHITECTURES if name not in PARALLEL)
# Weights' deviation: large enough to matter, not so large that a rounded one decides.
DEVIATIONS = {"albert": 0.15, "mobilebert": 0.15, "deberta-v2": 0.15}


@dataclass(frozen=True)
class Sample:
    """A model, text for it, and its ONNX file."""

    model_type: str
    model: Any
    batches: tuple[parity.Batch, ...]
    exported: ExportedModel
    kind: Kind = "single-label"

    def export(self, path: Path, opset: int = 18, listen: Listener = ignore) -> ExportedModel:
        """Export the same model again."""
        return run(self.model_type, self.model, self.batches, path, opset, listen, self.kind)


def run(
    model_type: str,
    model: Any,
    batches: tuple[parity.Batch, ...],
    path: Path,
    opset: int = 18,
    listen: Listener = ignore,
    kind: Kind = "single-label",
) -> ExportedModel:
    names = tiny.tokenizer(model_type).model_input_names
    return export.export_onnx(
        model, ARCHITECTURES[model_type], names, path, opset=opset, batches=batches, task=TASKS[kind], listen=listen
    )


def classifier(model_type: str, kind: Kind = "single-label", **changes: Any) -> Any:
    """A two-layer model whose weights are large enough for attention, masks and biases to matter."""
    layers = {"n_layers" if model_type == "distilbert" else "num_hidden_layers": LAYERS}
    model = tiny.model(model_type, kind=kind, **{**layers, **changes})
    strengthen(model, DEVIATIONS.get(model_type, 0.3))
    if ARCHITECTURES[model_type].trigram:
        silence_padding(model)
    return model


def strengthen(model: Any, deviation: float = 0.3) -> None:
    """Give a model weights that are large enough for attention, masks and biases to matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                weight.normal_(0, deviation, generator=generator)
            elif name.endswith("bias"):
                weight.normal_(0, 0.2, generator=generator)


def texts(model_type: str, rows: int = 40, kind: Kind = "single-label") -> datasets.Dataset:
    """Toy reviews as unpadded token ids; for fill-mask every third word is masked."""
    tokenizer = tiny.tokenizer(model_type)
    encoded = [tokenizer(text) for text, _ in tiny.reviews(rows)]
    columns = tokenizer.model_input_names
    found = [{**{name: list(item[name]) for name in columns}, "length": len(item["input_ids"])} for item in encoded]
    if kind == "fill-mask":
        for row in found:
            ids = row["input_ids"]
            masked = [1 <= place < len(ids) - 1 and place % 3 == 1 for place in range(len(ids))]
            row["labels"] = [piece if chosen else IGNORED for piece, chosen in zip(ids, masked, strict=True)]
            row["input_ids"] = [
                tokenizer.mask_token_id if chosen else piece for piece, chosen in zip(ids, masked, strict=True)
            ]
    return datasets.Dataset.from_list(found)


@functools.cache
def folder() -> Path:
    """Where the files of this process live until it ends."""
    path = Path(tempfile.mkdtemp(prefix="compressor-exported-"))
    atexit.register(shutil.rmtree, path)
    return path


@functools.cache
def sample(model_type: str, kind: Kind = "single-label") -> Sample:
    """The shared model of one architecture and task: seeded, so that each process has the same."""
    names = tiny.tokenizer(model_type).model_input_names
    batches = parity.parity_batches(texts(model_type, kind=kind), names, 0, MAX_LENGTH, TASKS[kind])
    model = classifier(model_type, kind)
    place = Path(os.environ[SHARED])
    facts, path = place / f"{model_type}-{kind}.json", place / f"{model_type}-{kind}.onnx"
    with (place / f"{model_type}-{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if facts.is_file():
            exported = _read(facts, path)
        else:
            exported = run(model_type, model, batches, path, kind=kind)
            told = asdict(replace(exported, path=None))  # type: ignore[arg-type] # JSON has no paths
            facts.write_text(json.dumps(told), encoding="utf-8")
    return Sample(model_type, model, batches, exported, kind)


def _read(facts: Path, path: Path) -> ExportedModel:
    """What another process has exported."""
    told = json.loads(facts.read_text(encoding="utf-8"))
    lists = {name: tuple(told[name]) for name in ("input_names", "warnings")}
    fusions = tuple(FusionCount(**row) for row in told["fusions"])
    parity_rows = tuple(ParityRow(**row) for row in told["parity"])
    return ExportedModel(**{**told, **lists, "path": path, "fusions": fusions, "parity": parity_rows})
