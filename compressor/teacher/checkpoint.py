"""A model folder as found on disk: its config and the header of its weights, read and checked without torch.

Nothing here runs code that came with the folder, and no tensor is read: the names, types and shapes are in
the safetensors header (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

from compressor.errors import TeacherError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

# Any one of these sets makes a tokenizer; without them transformers silently builds one of special tokens only.
TOKENIZERS: tuple[tuple[str, ...], ...] = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("spm.model",),
    ("tokenizer.model",),
)

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_FOREIGN = {".h5": "TensorFlow", ".msgpack": "Flax", ".onnx": "ONNX"}
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_MAX_HEADER = 100_000_000  # bytes, as in the reference implementation
_CONVERT = (
    "Convert it in an environment that you trust, where the model may run code: "
    "from transformers import AutoModel; "
    "AutoModel.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(FOLDER). "
    "Put the class that has the head in AutoModel's place, such as AutoModelForSequenceClassification."
)
_AGAIN = "The file is incomplete or damaged: download or copy it again."


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds a model which is safe to load.

    Attributes:
        name: What the user called it.
        path: Folder with config, safetensors and tokenizer.
        config: ``config.json`` as read.
        weights: The safetensors files, one or several shards.
        tensors: Name to type and shape, over all shards.
        repository: Hub id that it came from; ``None`` for a local folder.
        commit: Commit of that repository.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    tensors: Mapping[str, Tensor]
    repository: str | None = None
    commit: str | None = None


def read(
    path: Path,
    name: str,
    *,
    trust_remote_code: bool = False,
    repository: str | None = None,
    commit: str | None = None,
) -> Checkpoint:
    """Read a model folder's config and headers, and refuse what is unsafe, damaged or not a model.

    Args:
        path: The folder.
        name: What the user called it; messages use it.
        trust_remote_code: Accept a config that brings its own Python code.
        repository: Hub id that the folder came from.
        commit: Commit of that repository.

    Raises:
        TeacherError: Not a model folder; pickles only; a damaged or missing file; code of its own.
    """
    files = {entry.name for entry in path.iterdir() if entry.is_file()}
    check_names(files, name)
    config = _json(path / CONFIG)
    tokenizer_config = _json(path / "tokenizer_config.json") if "tokenizer_config.json" in files else {}
    if not trust_remote_code and (config.get("auto_map") or tokenizer_config.get("auto_map")):
        raise TeacherError(
            f"{name} brings Python code of its own (auto_map in its config), which would run here.",
            "Read that code; if you trust it, allow it with --trust-remote-code.",
        )
    if "quantization_config" in config:
        method = dict(config["quantization_config"] or {}).get("quant_method", "unknown")
        raise TeacherError(
            f"{name} is already quantized ({method}).", "Give the full-precision model; --quantize makes it int8."
        )
    weights = _weight_files(path)
    tensors: dict[str, Tensor] = {}
    for file in weights:
        tensors.update(header(file))
    return Checkpoint(name, path, config, weights, tensors, repository, commit)


def check_names(files: Collection[str], name: str) -> None:
    """Tell from the file names alone whether there is a model to load.

    Args:
        files: Names in the folder or in the root of the repository.
        name: What the user called it.

    Raises:
        TeacherError: No config, no safetensors, or no tokenizer; the message says what was met instead.
    """
    endings = {PurePosixPath(file).suffix for file in files}
    if "adapter_config.json" in files and WEIGHTS not in files and INDEX not in files:
        raise TeacherError(
            f"{name} holds only an adapter (PEFT), not a whole model.",
            "Merge it into its base model (peft: merge_and_unload, then save_pretrained) and give that folder.",
        )
    if CONFIG not in files and ".gguf" in endings:
        raise _gguf(name)
    if CONFIG not in files:
        raise TeacherError(
            f"{name} is not a model folder: there is no {CONFIG}.",
            "Give the folder that save_pretrained wrote.",
        )
    if WEIGHTS not in files and INDEX not in files:
        raise _no_weights(files, name)
    if not any(set(needed) <= set(files) for needed in TOKENIZERS):
        raise TeacherError(
            f"{name} has no tokenizer: none of {', '.join(' + '.join(needed) for needed in TOKENIZERS)}.",
            "Save it beside the model: tokenizer.save_pretrained(FOLDER).",
        )


def _no_weights(files: Collection[str], name: str) -> TeacherError:
    pickles = sorted(file for file in files if file.endswith(_PICKLES) and file != "training_args.bin")
    if pickles:
        return TeacherError(
            f"{name} has its weights only as a pickle ({pickles[0]}), which can run code when it is loaded.", _CONVERT
        )
    if any(file.endswith(".gguf") for file in files):
        return _gguf(name)
    for ending, framework in _FOREIGN.items():
        found = sorted(file for file in files if file.endswith(ending))
        if found:
            return TeacherError(
                f"{name} has only {framework} weights ({found[0]}).", f"Save the PyTorch model as {WEIGHTS}."
            )
    return TeacherError(f"{name} has no weights: there is no {WEIGHTS}.", "Give the folder that save_pretrained wrote.")


def _gguf(name: str) -> TeacherError:
    return TeacherError(
        f"{name} is a GGUF model, which is already quantized and cannot be distilled.",
        "Give the original Hugging Face model (config.json and safetensors).",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TeacherError(f"{path} cannot be read as JSON: {error}.", _AGAIN) from None
    if not isinstance(value, dict):
        raise TeacherError(f"{path} holds no JSON object.", _AGAIN)
    return value


def _weight_files(path: Path) -> tuple[Path, ...]:
    if (path / WEIGHTS).is_file():
        return (path / WEIGHTS,)
    places = _json(path / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise TeacherError(f"{path / INDEX} names no shards (weight_map).", _AGAIN)
    shards = sorted(set(places.values()))
    for shard in shards:
        # By name, not by resolving: the hub's cache holds links that rightly point out of the folder.
        if shard != PurePosixPath(shard).name or "\\" in shard or shard in ("", ".", ".."):
            raise TeacherError(
                f"{path / INDEX} points outside its folder: {shard!r}.",
                "Do not use this model; shards lie beside the index.",
            )
        if not shard.endswith(".safetensors"):
            raise TeacherError(f"{path / INDEX} names a shard that is not safetensors: {shard!r}.", _CONVERT)
    missing = [shard for shard in shards if not (path / shard).is_file()]
    if missing:
        raise TeacherError(
            f"{len(missing)} of {len(shards)} weight shards are missing from {path}: {missing[0]}.",
            "Download or copy the folder again.",
        )
    return tuple(path / shard for shard in shards)


def header(path: Path) -> dict[str, Tensor]:
    """Read the header of a safetensors file and check that the file holds what it promises.

    Raises:
        TeacherError: Truncated, damaged, or not a safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > _MAX_HEADER or 8 + length > size:
            raise TeacherError(
                f"{path} is not a whole safetensors file: {size:,} bytes do not hold its header.", _AGAIN
            )
        raw = stream.read(length)
    try:
        entries = json.loads(raw)
        entries.pop("__metadata__", None)
        found = {key: Tensor(str(entry["dtype"]), tuple(map(int, entry["shape"]))) for key, entry in entries.items()}
        spans = [
            (int(entry["data_offsets"][0]), int(entry["data_offsets"][1]), _bytes(found[key]))
            for key, entry in entries.items()
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise TeacherError(f"{path} is damaged: its header is not a safetensors header.", _AGAIN) from None
    promised = max((end for _, end, _ in spans), default=0)
    if promised != size - 8 - length:
        raise TeacherError(
            f"{path} is damaged: its header promises {promised:,} bytes of weights, "
            f"the file holds {size - 8 - length:,}.",
            _AGAIN,
        )
    position = 0
    for start, end, needed in sorted(spans):
        if start != position or end - start != needed:
            raise TeacherError(f"{path} is damaged: tensors overlap or do not fit their shapes.", _AGAIN)
        position = end
    return found


def _bytes(tensor: Tensor) -> int:
    if any(side < 0 for side in tensor.shape):
        raise ValueError(tensor.shape)
    return -(-prod(tensor.shape) * _BITS[tensor.dtype] // 8)


def fingerprint(checkpoint: Checkpoint) -> str:
    """Hash config and weights.

    Returns:
        sha256, in hex, over the bytes of ``config.json`` and of every weight file, each with its length first.
    """
    digest = hashlib.sha256()
    for path in (checkpoint.path / CONFIG, *checkpoint.weights):
        digest.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
