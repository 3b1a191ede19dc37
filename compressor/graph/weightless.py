"""An ONNX file without its weights: read as a message that says where in the file they are.

protobuf reads a file into bytes, and these into a message: twice its size in memory, where most readers want the names
of nodes. A message is its fields one after another, each a tag and a length before its bytes
(https://protobuf.dev/programming-guides/encoding), so weights can be passed over.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BYTES = 2  # wire type of a message, a text or bytes
_FIXED = {1: 8, 5: 4}
# Shapes, axes and scales are needed at once, and by readers that take no weights from elsewhere.
LEAST_BYTES = 1 << 12


def read(path: Path) -> Any:
    """Read a file as an ``onnx.ModelProto`` whose large weights are external data within the file itself.

    Raises:
        google.protobuf.message.DecodeError: It is no ONNX file.
    """
    import onnx

    model, graphs = bytearray(), []
    if not path.stat().st_size:
        raise _damaged()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, start, body, end in _fields(data, 0, len(data)):
            if number == onnx.ModelProto.GRAPH_FIELD_NUMBER:
                graphs.append((body, end))
            else:
                model += data[start:end]
        proto = onnx.ModelProto.FromString(bytes(model))
        for body, end in graphs:
            _read_graph(proto.graph, data, body, end, path.name)
    return proto


def tag(field: int) -> bytes:
    """Announces a field that is a message or bytes."""
    return varint(field << 3 | _BYTES)


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _read_graph(graph: Any, data: mmap.mmap, start: int, end: int, name: str) -> None:
    import onnx

    rest = bytearray()
    for number, first, _, last in _fields(data, start, end):
        if number != onnx.GraphProto.INITIALIZER_FIELD_NUMBER:
            rest += data[first:last]
    graph.MergeFromString(bytes(rest))
    for number, _, body, last in _fields(data, start, end):
        if number == onnx.GraphProto.INITIALIZER_FIELD_NUMBER:
            _read_tensor(graph.initializer.add(), data, body, last, name)


def _read_tensor(tensor: Any, data: mmap.mmap, start: int, end: int, name: str) -> None:
    import onnx

    rest, weights = bytearray(), None
    for number, first, body, last in _fields(data, start, end):
        if number == onnx.TensorProto.RAW_DATA_FIELD_NUMBER and last - body >= LEAST_BYTES:
            weights = (body, last)
        else:
            rest += data[first:last]
    tensor.MergeFromString(bytes(rest))
    if weights:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", name), ("offset", weights[0]), ("length", weights[1] - weights[0])):
            tensor.external_data.add(key=key, value=str(value))


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, where it starts with its tag, where its bytes start, where they end."""
    while at < end:
        start = at
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        body = at
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            length, body = _varint(data, at)
            at = body + length
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise _damaged()
        if at > end:
            raise _damaged()
        yield number, start, body, at


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _damaged()
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _damaged() -> Exception:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore] # it ships no types

    error: Exception = DecodeError("the file is cut off or is no ONNX model")
    return error
