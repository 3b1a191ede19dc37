"""ONNX files as such: read, write, open, weigh."""

from __future__ import annotations

import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

CONTRIB = "com.microsoft"
# Where the fused file says which of its products belong to the encoder, as in ``bert.encoder.layer``.
LAYERS_KEY = "compressor.layers"
MAX_PROTOBUF_BYTES = 2**31 - 1
_CHUNK_BYTES = 1 << 22
_WEIGHT_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "INT8", "UINT8")


def load(path: Path) -> Any:
    """Read a file as an ``onnx_ir.Model``; weights stay on disk until they are used."""
    import onnx_ir as ir

    return ir.load(path)


def save(model: Any, path: Path) -> None:
    """Write a finished ``onnx_ir.Model``.

    The same model gives the same bytes: stack traces and exporter notes are dropped, and the producer is this package.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    kept = dict(model.metadata_props)
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.update(kept)
    model.producer_name = "compressor"
    model.producer_version = _version()
    write(model, path)


def write(model: Any, path: Path) -> None:
    """Write an ``onnx_ir.Model`` as one file; above 2 GB the weights go to ``<name>.data`` beside it."""
    import onnx_ir as ir

    path.parent.mkdir(parents=True, exist_ok=True)
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    # Graph structure takes some of protobuf's 2 GB too.
    outside = f"{path.name}.data" if weights > MAX_PROTOBUF_BYTES - (64 << 20) else None
    ir.save(model, path, external_data=outside)


def open_session(path: Path, threads: int = 0) -> Any:
    """Open a file in onnxruntime on the CPU, as a user would: with all of its own optimizations.

    Args:
        path: The ONNX file.
        threads: Threads within an operator; 0 leaves the choice to onnxruntime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def file_bytes(path: Path) -> int:
    """Size of a model on disk, weights beside it included."""
    outside = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (outside.stat().st_size if outside.exists() else 0)


def compressed_bytes(path: Path, level: int = 6) -> int:
    """Size of a model as a gzip download: what zeroed weights save.

    The file is streamed, so memory does not grow with it.
    """
    total = 0
    for part in (path, path.with_name(f"{path.name}.data")):
        if not part.exists():
            continue
        packer = zlib.compressobj(level)
        with part.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                total += len(packer.compress(chunk))
        total += len(packer.flush())
    return total


def graph_zeros(path: Path) -> tuple[int, int]:
    """Count the zeros among a graph's weights.

    Only weights of two or more dimensions count: biases, scales and shapes are no matter of pruning, and many of them
    are zero by themselves.

    Returns:
        Zeros, and weights in all.
    """
    zeros = total = 0
    for value in load(path).graph.initializers.values():
        tensor = value.const_value
        if len(tensor.shape) >= 2 and tensor.dtype.name in _WEIGHT_TYPES:
            array = tensor.numpy()
            zeros += array.size - int(np.count_nonzero(array))
            total += array.size
    return zeros, total


def _version() -> str:
    try:
        return metadata.version("compressor")
    except metadata.PackageNotFoundError:
        return "0"
