"""What can be measured in a folder, whoever made it: a run of ours, an optimum export, a transformers model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressor.benchmark import MeasuredModel
from compressor.benchmark.plan import Kind
from compressor.errors import ManifestError
from compressor.graph import files as onnx_files
from compressor.runtime import Manifest, read_manifest, verify
from compressor.runtime.manifest import MANIFEST, TOKENIZER

LONGEST = 512
"""Tokens, where a folder does not say how many its model takes."""

_HEAD = "ForSequenceClassification"
_INT8 = ("INT8", "UINT8", "INT4", "UINT4")


@dataclass(frozen=True)
class Entrant:
    """One model that can be measured.

    Attributes:
        name: The folder's name and the file's, as in ``reviews/onnx/model.onnx``.
        kind: ``onnx`` for a file, ``torch`` for a Hugging Face folder.
        path: The file or the folder.
        home: The folder with its config and tokenizer.
        labels: In the order of the logits; empty where the folder does not say.
        max_length: Longest sequence in tokens.
        pad_token_id: Fills the shorter texts of a batch.
        precision: Of most of its weights: ``fp32``, ``fp16`` or ``int8``.
        size_bytes: Its weights on disk.
    """

    name: str
    kind: Kind
    path: Path
    home: Path
    labels: tuple[str, ...]
    max_length: int
    pad_token_id: int
    precision: str
    size_bytes: int

    @property
    def measured(self) -> MeasuredModel:
        """The entrant as the benchmark takes it; dynamic int8 has no CUDA kernels."""
        providers = MeasuredModel("", self.kind, self.path).providers
        return MeasuredModel(self.name, self.kind, self.path, ("cpu",) if self.precision == "int8" else providers)


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
        home = place.parent.parent if place.parent.name == "onnx" else place.parent
        files = [place] if place.suffix == ".onnx" else []
    else:
        home, files = place, sorted([*place.glob("*.onnx"), *place.glob("onnx/*.onnx")])
    manifest = read_manifest(home) if (home / MANIFEST).is_file() else None
    if manifest is not None:
        verify(home, manifest, [name for name in manifest.files if home / name in files or name == TOKENIZER])
    base = home_facts(home, manifest)
    entrants = [
        replace(
            base,
            name=f"{home.resolve().name}/{path.relative_to(home).as_posix()}",
            kind="onnx",
            path=path,
            precision=_precision(path, manifest),
            size_bytes=onnx_files.file_bytes(path),
        )
        for path in files
    ]
    if place.is_dir() and (torch_too or not entrants):
        entrants += _torch(base, notes)
    if not entrants:
        raise ManifestError(
            f"{place} holds nothing that can be measured: no ONNX file, and no safetensors with a classification head.",
            "Name a run folder, or a folder with model.onnx, onnx/model.onnx or model.safetensors.",
        )
    return entrants


def home_facts(home: Path, manifest: Manifest | None) -> Entrant:
    """Read what all models of a folder share: labels, lengths, padding.

    Raises:
        ManifestError: A file is missing or not JSON.
    """
    if not (home / TOKENIZER).is_file():
        raise ManifestError(
            f"{home} has no {TOKENIZER}.", "Save the tokenizer of the model there: tokenizer.save_pretrained(folder)."
        )
    if manifest is not None:
        labels, longest, padding = manifest.labels, manifest.max_length, manifest.pad_token_id
    else:
        config = _json(home / "config.json")
        labels = labels_of(config)
        longest = _longest(config, _json(home / "tokenizer_config.json"))
        padding = int(config.get("pad_token_id") or 0)
    return Entrant(home.resolve().name, "torch", home, home, labels, longest, padding, "fp32", 0)


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the label names of a Hugging Face config in the order of their ids; empty where it has none."""
    names = config.get("id2label")
    if not isinstance(names, dict) or not all(str(key).isdigit() for key in names):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _torch(base: Entrant, notes: list[str]) -> list[Entrant]:
    weights = sorted(base.home.glob("*.safetensors"))
    if not weights:
        if any(base.home.glob("pytorch_model*.bin")):
            notes.append(f"{base.home}: pytorch_model.bin was not measured: a pickle runs code when it is loaded.")
        return []
    kinds = _json(base.home / "config.json").get("architectures") or []
    if not any(str(kind).endswith(_HEAD) for kind in kinds):
        notes.append(f"{base.home}: its safetensors were not measured: they are no classifier ({', '.join(kinds)}).")
        return []
    size = sum(path.stat().st_size for path in weights)
    return [replace(base, name=f"{base.name} (torch)", size_bytes=size)]


def _precision(path: Path, manifest: Manifest | None) -> str:
    """Read a file's precision from the manifest, else from its weights: that of the most elements."""
    entry = manifest.files.get(path.relative_to(path.parent.parent).as_posix()) if manifest else None
    if entry is not None and entry.precision:
        return entry.precision
    elements: dict[str, int] = {}
    for value in onnx_files.load(path).graph.initializers.values():
        if len(value.const_value.shape) >= 2:
            name = value.const_value.dtype.name
            elements[name] = elements.get(name, 0) + value.const_value.size
    most = max(elements, key=lambda name: elements[name], default="FLOAT")
    # Embeddings stay in fp32 and can outweigh the encoder: any int8 matrix makes an int8 model.
    return "int8" if any(name in elements for name in _INT8) else "fp16" if "FLOAT16" in most else "fp32"


def _longest(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    said = tokenizer.get("model_max_length")
    if isinstance(said, int | float) and 0 < said < 1e6:  # a huge number there means "not known"
        return int(said)
    from compressor.architectures import ARCHITECTURES

    row = ARCHITECTURES.get(str(config.get("model_type")))
    return int(config.get("max_position_embeddings") or LONGEST) - (row.reserved_positions if row else 0)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read: {error}.", "Download or copy the folder again.") from None
    return found if isinstance(found, dict) else {}
