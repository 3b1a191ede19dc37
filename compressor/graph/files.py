"""ONNX files as such: read, write, open, weigh."""

from __future__ import annotations

import gc
import zlib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from compressor import memory
from compressor.graph import weightless

CONTRIB = "com.microsoft"
# Where the fused file says which of its products belong to the encoder, as in ``bert.encoder.layer``.
LAYERS_KEY = "compressor.layers"
# Where an int8 file names the range of its weights; ``compressor.runtime.session`` looks for it.
WEIGHTS_KEY = "compressor.weights"
MAX_PROTOBUF_BYTES = 2**31 - 1
_CHUNK_BYTES = 1 << 22
_WEIGHT_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "INT8", "UINT8")


def load(path: Path) -> Any:
    """Read a file as an ``onnx_ir.Model``; weights stay on disk until they are used.

    The file must stay as it is meanwhile; ``write`` replaces a file, and leaves the old one to its readers.
    """
    import onnx_ir as ir

    model = ir.from_proto(skeleton(path))
    ir.external_data.set_base_dir(model.graph, path.parent)
    return model


def skeleton(path: Path) -> Any:
    """Read a file as an ``onnx.ModelProto`` whose weights stay on disk, as external data relative to its folder."""
    import onnx

    if len(parts_of(path)) > 1:
        return onnx.load(path, load_external_data=False)
    return weightless.read(path)


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
    if weights > MAX_PROTOBUF_BYTES - (64 << 20):
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        _stream(model, path)


def _stream(model: Any, path: Path) -> None:
    """Write a model weight by weight.

    protobuf would build the whole message, and its bytes beside it: twice the file in memory. A message is its fields
    one after another (https://protobuf.dev/programming-guides/encoding), so the weights follow the rest of the graph.
    """
    import onnx

    proto, values = _apart(model)
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    headers = [_header(value) for value in values]
    tensor = weightless.tag(onnx.GraphProto.INITIALIZER_FIELD_NUMBER)
    starts = [
        tensor + weightless.varint(len(header) + value.const_value.nbytes) + header
        for value, header in zip(values, headers, strict=True)
    ]
    total = len(graph) + sum(map(len, starts)) + sum(value.const_value.nbytes for value in values)
    aside = path.with_name(f"{path.name}.part")
    with aside.open("wb") as stream:
        stream.write(proto.SerializeToString())
        stream.write(weightless.tag(onnx.ModelProto.GRAPH_FIELD_NUMBER) + weightless.varint(total) + graph)
        for value, start in zip(values, starts, strict=True):
            stream.write(start)
            value.const_value.tofile(stream)
    aside.replace(path)


def _apart(model: Any) -> tuple[Any, list[Any]]:
    """A model's message without its weights, and the values that these belong to."""
    import onnx_ir as ir

    values = list(model.graph.initializers.values())
    for value in values:
        model.graph.initializers.pop(value.name)
    try:
        return ir.to_proto(model), values
    finally:
        for value in values:
            model.graph.register_initializer(value)


def _header(value: Any) -> bytes:
    """A tensor's message up to its bytes, which are its last field."""
    import onnx

    raw = weightless.tag(onnx.TensorProto.RAW_DATA_FIELD_NUMBER)
    header: bytes = _described(value).SerializeToString() + raw + weightless.varint(value.const_value.nbytes)
    return header


def _described(value: Any) -> Any:
    """A tensor's message without its bytes."""
    import onnx

    tensor = value.const_value
    return onnx.TensorProto(dims=tensor.shape.numpy(), data_type=tensor.dtype.value, name=value.name)


def straighten(model: Any) -> None:
    """Lay out the weights of an ``onnx_ir.Model`` as a file has them: a turned matrix is a view of the one before."""
    import onnx_ir as ir

    for value in model.graph.initializers.values():
        array = value.const_value.numpy()
        if not array.flags.c_contiguous:
            value.const_value = ir.Tensor(np.ascontiguousarray(array), name=value.name)


def give_back(*, graph: bool = False) -> None:
    """Return freed memory to the system, where the C library can: glibc keeps hundreds of megabytes of a session.

    Args:
        graph: One was dropped. Its nodes point at each other, so it takes the collector, and a third of a second.
    """
    if graph:
        gc.collect()
    memory.give_back()


def open_session(source: Path | bytes, threads: int = 0) -> Any:
    """Open a file in onnxruntime on the CPU, as a user would: with all of its own optimizations.

    Args:
        source: The ONNX file, or what is in it.
        threads: Threads within an operator; 0 leaves the choice to onnxruntime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def weights_apart(model: Any) -> tuple[bytes, dict[str, Any]]:
    """Serialize an ``onnx_ir.Model`` with its large weights as further inputs, to be run without a copy of any.

    Returns:
        The file, and what to feed it beside the model's own inputs: arrays by name, which share the model's memory.
    """
    import onnx

    proto, values = _apart(model)
    weights: dict[str, Any] = {}
    for value in values:
        tensor, message = value.const_value, _described(value)
        # Shapes and axes must be known to load the graph.
        if tensor.nbytes < weightless.LEAST_BYTES:
            message.raw_data = tensor.tobytes()
            proto.graph.initializer.append(message)
        else:
            weights[value.name] = tensor.numpy()
            proto.graph.input.append(onnx.helper.make_tensor_value_info(message.name, message.data_type, message.dims))
    return proto.SerializeToString(), weights


def parts_of(path: Path) -> list[Path]:
    """The file, and the one beside it with the weights of a large model: ours, or as optimum names it."""
    return [path, *(part for part in map(path.with_name, (f"{path.name}.data", f"{path.name}_data")) if part.exists())]


def file_bytes(path: Path) -> int:
    """Size of a model on disk, weights beside it included."""
    return sum(part.stat().st_size for part in parts_of(path))


def compressed_bytes(path: Path, level: int = 6) -> int:
    """Size of a model as a gzip download: what zeroed weights save.

    The file is streamed, so memory does not grow with it.
    """
    total = 0
    for part in parts_of(path):
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
