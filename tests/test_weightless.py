"""weightless: a file is read without its weights, which come from the file when they are used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from google.protobuf.message import DecodeError

from compressor.graph import files, weightless
from tests.exported import sample


def test_every_weight_and_node_is_as_protobuf_reads_it() -> None:
    path = sample("bert").exported.path
    found, expected = files.load(path), ir.load(path)
    assert [node.op_type for node in found.graph] == [node.op_type for node in expected.graph]
    assert list(found.graph.initializers) == list(expected.graph.initializers)
    for name, value in expected.graph.initializers.items():
        weight = found.graph.initializers[name].const_value
        np.testing.assert_array_equal(weight.numpy(), value.const_value.numpy())
        assert weight.dtype == value.const_value.dtype


def test_large_weights_are_left_in_the_file() -> None:
    path = sample("bert").exported.path
    assert weightless.read(path).ByteSize() < path.stat().st_size / 2


def test_a_model_that_was_read_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    source = sample("bert").exported.path
    files.write(files.load(source), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == source.read_bytes()


def test_a_model_may_be_written_over_the_file_that_it_was_read_from(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(sample("bert").exported.path.read_bytes())
    files.write(files.load(path), path)
    assert path.read_bytes() == sample("bert").exported.path.read_bytes()
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_runs_with_its_weights_as_inputs() -> None:
    path = sample("bert").exported.path
    model = files.load(path)
    file, weights = files.weights_apart(model)
    assert sum(weight.nbytes for weight in weights.values()) > path.stat().st_size / 2 > len(file)
    ids = np.arange(12).reshape(2, 6)
    feed = {name: np.ones_like(ids) for name in (item.name for item in model.graph.inputs)} | {"input_ids": ids}
    expected = files.open_session(path).run(None, feed)
    np.testing.assert_allclose(files.open_session(file).run(None, feed | weights)[0], expected[0], atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"no model at all, only words", None])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(sample("bert").exported.path.read_bytes()[:-7] if content is None else content)
    with pytest.raises(DecodeError, match="cut off or is no ONNX model"):
        files.load(path)
