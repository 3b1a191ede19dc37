"""What can be measured in a folder, whoever made it: a run of ours, an optimum export, a transformers model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressor.benchmark import MeasuredModel
from compressor.benchmark.plan import PRECISIONS, Kind
from compressor.errors import ManifestError
from compressor.graph import files as onnx_files
from compressor.runtime import Manifest, read_manifest, verify
from compressor.runtime.manifest import MANIFEST, TOKENIZER
from compressor.tasks import TASKS
from compressor.upkeep.home import Home, home_of, json_object

_INT8 = ("INT8", "UINT8", "INT4", "UINT4")
_ON_CPU_ALONE = re.compile("DynamicQuantize.*|QLinear.*|QGemm|QAttention|.*Integer(ToFloat)?")
"""Operators that compute in int8: of these files onnxruntime's CUDA provider takes a part at most. Products in fp32
between ``QuantizeLinear`` and ``DequantizeLinear`` (QDQ) it takes whole."""


@dataclass(frozen=True)
class Entrant:
    """One model that can be measured.

    Attributes:
        name: The folder's name and the file's, as in ``reviews/onnx/model.onnx``.
        kind: ``onnx`` for a file, ``torch`` for a Hugging Face folder.
        path: The file or the folder.
        home: The folder with its config and tokenizer.
        precision: Of most of its weights: ``fp32``, ``fp16`` or ``int8``.
        size_bytes: Its weights on disk.
    """

    name: str
    kind: Kind
    path: Path
    home: Home
    precision: str
    size_bytes: int

    @property
    def measured(self) -> MeasuredModel:
        """The entrant as the benchmark takes it."""
        task = self.home.task or TASKS["single-label"]  # of an ONNX file without a task all outputs are computed
        found = MeasuredModel(self.name, self.kind, self.path, task=task.kind)
        precision = self.precision if self.precision in PRECISIONS else "fp32"
        return replace(found, precision=precision)

    @property
    def runs_on_cuda(self) -> bool:
        """Whether onnxruntime has CUDA kernels for all that costs time in it; needs the training install."""
        nodes = _graph(self.path) if self.kind == "onnx" and self.precision == "int8" else ()
        return not any(_ON_CPU_ALONE.fullmatch(node.op_type) for node in nodes)


def line_up(places: Sequence[Path], *, torch_too: bool = False) -> tuple[tuple[Entrant, ...], tuple[str, ...]]:
    """Find the models of several folders.

    ONNX files at a folder's root and in its ``onnx/`` are entrants; its safetensors are one where there is
    no ONNX file, or where they are asked for. A folder of ours is compared with its checksums first.

    Args:
        places: Run folders, other folders, or single ONNX files.
        torch_too: Enter the safetensors of every folder.

    Returns:
        The entrants in the order given, with distinct names, and notes on what was left out.

    Raises:
        ManifestError: A place is missing, damaged, or holds nothing that can be measured.
    """
    notes: list[str] = []
    found = [entrant for place in places for entrant in _of(place, torch_too, notes)]
    twice = {entrant.name for entrant in found if [other.name for other in found].count(entrant.name) > 1}
    named = [replace(entrant, name=str(entrant.path)) if entrant.name in twice else entrant for entrant in found]
    return tuple(dict.fromkeys(named)), tuple(notes)


def _of(place: Path, torch_too: bool, notes: list[str]) -> list[Entrant]:
    if not place.exists():
        raise ManifestError(
            f"{place} does not exist.", "Name a run folder, or a folder with ONNX or safetensors files."
        )
    if place.is_file():
        folder = place.parent.parent if place.parent.name == "onnx" else place.parent
        files = [place] if place.suffix == ".onnx" else []
    else:
        folder, files = place, sorted([*place.glob("*.onnx"), *place.glob("onnx/*.onnx")])
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    if manifest is not None:
        verify(folder, manifest, [name for name in manifest.files if folder / name in files or name == TOKENIZER])
    home = home_of(folder, manifest)
    entrants = [
        Entrant(
            name=f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}",
            kind="onnx",
            path=path,
            home=home,
            precision=_precision(path, manifest),
            size_bytes=onnx_files.file_bytes(path),
        )
        for path in files
    ]
    if place.is_dir() and (torch_too or not entrants):
        entrants += _torch(home, notes)
    if not entrants:
        raise ManifestError(
            f"{place} holds nothing that can be measured: no ONNX file, and no safetensors with a head for a task.",
            "Name a run folder, or a folder with model.onnx, onnx/model.onnx or model.safetensors.",
        )
    return entrants


def _torch(home: Home, notes: list[str]) -> list[Entrant]:
    weights = sorted(home.path.glob("*.safetensors"))
    if not weights:
        if any(home.path.glob("pytorch_model*.bin")):
            notes.append(f"{home.path}: pytorch_model.bin was not measured: a pickle runs code when it is loaded.")
        return []
    names = [str(name) for name in json_object(home.path / "config.json").get("architectures") or ()]
    if home.task is None or not names:
        what = f"{', '.join(names)} has no head for a task" if names else "config.json names no architecture"
        notes.append(f"{home.path}: its safetensors were not measured: {what}.")
        return []
    size = sum(path.stat().st_size for path in weights)
    return [Entrant(f"{home.path.resolve().name} (torch)", "torch", home.path, home, "fp32", size)]


def _precision(path: Path, manifest: Manifest | None) -> str:
    """Read a file's precision from the manifest, else from its weights: that of the most elements."""
    entry = manifest.files.get(path.relative_to(path.parent.parent).as_posix()) if manifest else None
    if entry is not None and entry.precision:
        return entry.precision
    elements: dict[str, int] = {}
    for value in _graph(path).initializers.values():
        if len(value.const_value.shape) >= 2:
            name = value.const_value.dtype.name
            elements[name] = elements.get(name, 0) + value.const_value.size
    most = max(elements, key=lambda name: elements[name], default="FLOAT")
    # Embeddings stay in fp32 and can outweigh the encoder: any int8 matrix makes an int8 model.
    return "int8" if any(name in elements for name in _INT8) else "fp16" if "FLOAT16" in most else "fp32"


def _graph(path: Path) -> Any:
    try:
        return onnx_files.load(path).graph
    except ImportError:
        raise
    except Exception as error:  # of protobuf, or of what it read
        raise ManifestError(
            f"{path} cannot be read: {str(error) or type(error).__name__}.",
            "Copy it again; where it is a pointer of Git LFS: git lfs pull.",
        ) from error
