"""export: the ONNX file computes what torch computes, at every shape, and says what was fused."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import onnx
import pytest

from compressor.architectures import ARCHITECTURES
from compressor.artifacts import ExportedModel, ParityRow
from compressor.errors import ParityError, StageError
from compressor.events import Event, Note
from compressor.graph import export, parity
from compressor.graph import files as onnx_files
from tests.exported import sample

MODEL_TYPES = tuple(ARCHITECTURES)
# Others fuse two attentions, two norms a layer and that of the embeddings, and two GELUs.
EXPECTED_FUSIONS = {
    "mobilebert": {"attention": (2, 2), "layer norm": (0, 0), "gelu": (0, 0)},
    "deberta-v2": {"attention": (2, 2), "layer norm": (4, 4), "gelu": (2, 2)},
    "modernbert": {"attention": (2, 2), "layer norm": (4, 4), "gelu": (2, 2)},
}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_exported_and_the_fused_graph_agree_with_torch_at_five_shapes_and_more(model_type: str) -> None:
    rows = sample(model_type).exported.parity
    for graph in ("exported", "fused"):
        shapes = {(row.batch_size, row.sequence_length) for row in rows if row.graph == graph}
        assert len(shapes) >= 5
        assert sum(row.padded for row in rows if row.graph == graph) >= 3
    assert max(row.max_abs_difference for row in rows) <= 1e-4
    assert sum(row.changed_labels for row in rows) == 0


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_are_large_enough_for_the_tolerance_to_mean_something(model_type: str) -> None:
    item = sample(model_type)
    logits = np.concatenate(parity.torch_logits(item.model, item.batches))
    assert np.ptp(logits) > 0.5


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_block_that_can_be_is_fused(model_type: str) -> None:
    item = sample(model_type)
    counts = {count.kind: (count.expected, count.found) for count in item.exported.fusions}
    assert counts == EXPECTED_FUSIONS.get(model_type, {"attention": (2, 2), "layer norm": (5, 5), "gelu": (2, 2)})
    assert item.exported.warnings == ()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_axes_and_output_carry_the_names_that_optimum_expects(model_type: str) -> None:
    graph = onnx.load(sample(model_type).exported.path).graph
    for value in graph.input:
        assert [axis.dim_param for axis in value.type.tensor_type.shape.dim] == ["batch_size", "sequence_length"]
    assert [value.name for value in graph.output] == ["logits"]
    axes = graph.output[0].type.tensor_type.shape.dim
    assert (axes[0].dim_param, axes[1].dim_value) == ("batch_size", 2)


def test_the_file_keeps_the_token_types_that_tokenizer_and_model_have() -> None:
    assert sample("bert").exported.input_names == ("input_ids", "token_type_ids", "attention_mask")


@pytest.mark.parametrize("model_type", ["distilbert", "mpnet"])
def test_an_input_that_the_model_does_not_take_is_left_out(model_type: str) -> None:
    item = sample(model_type)
    names = ("input_ids", "token_type_ids", "attention_mask")
    assert export._accepted(item.model, names) == ("input_ids", "attention_mask")


def test_one_file_holds_the_weights_and_names_its_producer() -> None:
    path = sample("bert").exported.path
    model = onnx.load(path, load_external_data=False)
    assert model.producer_name == "compressor"
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_weights_are_named_by_their_torch_module() -> None:
    names = {tensor.name for tensor in onnx.load(sample("bert").exported.path).graph.initializer}
    assert "bert.encoder.layer.1.intermediate.dense.weight.T" in names
    assert "bert.encoder.layer.0.attention.self.query_key_value.weight.T" in names


@dataclass(frozen=True)
class Again:
    """A second export of the shared DistilBERT, from a config that asks for hidden states."""

    exported: ExportedModel
    heard: tuple[Event, ...]
    printed: tuple[str, str]


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Again:
    item = sample("distilbert")
    path = tmp_path_factory.mktemp("again") / "model.onnx"
    heard: list[Event] = []
    out, err = io.StringIO(), io.StringIO()
    item.model.config.output_hidden_states = True
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            exported = item.export(path, listen=heard.append)
        assert item.model.config.output_hidden_states
    finally:
        item.model.config.output_hidden_states = False
    return Again(exported, tuple(heard), (out.getvalue(), err.getvalue()))


def test_the_same_weights_give_the_same_bytes(again: Again) -> None:
    assert again.exported.path.read_bytes() == sample("distilbert").exported.path.read_bytes()


def test_the_exporter_prints_nothing(again: Again) -> None:
    assert again.printed == ("", "")


def test_a_config_that_asks_for_hidden_states_still_gives_one_output(again: Again) -> None:
    assert [value.name for value in onnx.load(again.exported.path).graph.output] == ["logits"]


def test_a_listener_hears_how_close_the_graphs_are(again: Again) -> None:
    assert [type(event) for event in again.heard] == [Note]
    assert "agree at 6 shapes, before and after fusion" in again.heard[0].text  # type: ignore[union-attr]


def test_the_newest_opset_passes_as_well(tmp_path: Path) -> None:
    exported = sample("mpnet").export(tmp_path / "model.onnx", opset=21)
    assert {item.domain: item.version for item in onnx.load(exported.path).opset_import}[""] == 21
    assert exported.warnings == ()


def test_a_graph_of_other_weights_is_a_parity_error_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fusion that damages one weight is found by the comparison after it."""
    fuse = export.fusion.fuse

    def damage(model: Any, *arguments: Any) -> Any:
        counts = fuse(model, *arguments)
        weight = next(value for name, value in model.graph.initializers.items() if "lin2.weight" in name)
        weight.const_value = export_tensor(weight.const_value.numpy() * 1.5)
        return counts

    monkeypatch.setattr(export.fusion, "fuse", damage)
    with pytest.raises(ParityError, match=r"The fused ONNX graph differs from torch at \d+x\d+ tokens") as caught:
        sample("distilbert").export(tmp_path / "model.onnx")
    assert "--opset" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_torch_cannot_export_is_a_stage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse(*arguments: Any, **options: Any) -> None:
        raise torch.onnx.OnnxExporterError("no translation for aten.made_up")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(
        StageError, match="could not export DistilBertForSequenceClassification to ONNX: no translation"
    ):
        sample("distilbert").export(tmp_path / "model.onnx")


# --- parity -----------------------------------------------------------------------------------


def test_parity_batches_cover_short_long_padded_and_full_length() -> None:
    dataset = datasets.Dataset.from_list(
        [
            {"input_ids": [2, *[7] * size, 3], "attention_mask": [1] * (size + 2), "length": size + 2}
            for size in (9, 1, 4, 2)
        ]
    )
    batches = parity.parity_batches(dataset, ("input_ids", "attention_mask"), 5, max_length=32)
    assert [batch["input_ids"].shape for batch in batches] == [(1, 3), (1, 11), (2, 11), (5, 11), (8, 11), (2, 32)]
    padded = batches[2]
    assert padded["input_ids"][1].tolist() == [2, 7, 3, *[5] * 8]
    assert padded["attention_mask"][1].tolist() == [1, 1, 1, *[0] * 8]
    assert batches[5]["input_ids"][0].tolist() == [2, *[7] * 30, 3]
    assert all(array.dtype == np.int64 for batch in batches for array in batch.values())


def batch_of(rows: int) -> parity.Batch:
    return {"input_ids": np.ones((rows, 4), np.int64), "attention_mask": np.ones((rows, 4), np.int64)}


def compare(expected: list[list[float]], actual: list[list[float]]) -> ParityRow:
    first, second = np.array(expected, np.float32), np.array(actual, np.float32)
    return parity.compare("fused", [batch_of(len(first))], [first], [second])[0]


def test_a_changed_label_is_counted() -> None:
    row = compare([[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]])
    assert (row.changed_labels, row.max_abs_difference) == (1, 1.0)
    with pytest.raises(ParityError, match="1 of 2 decisions changed"):
        parity.require([row])


def test_two_labels_that_torch_itself_cannot_tell_apart_may_change_places() -> None:
    row = compare([[0.50000, 0.50004]], [[0.50005, 0.50001]])
    assert row.changed_labels == 0
    parity.require([row])


def test_a_difference_over_the_tolerance_fails_even_if_no_label_changes() -> None:
    row = compare([[0.0, 1.0]], [[0.0, 1.0002]])
    assert row.changed_labels == 0
    with pytest.raises(ParityError, match=r"outputs by up to 0\.0002 \(tolerance 0\.0001\)"):
        parity.require([row])


def test_not_a_number_is_never_within_the_tolerance() -> None:
    with pytest.raises(ParityError, match="outputs by up to nan"):
        parity.require([compare([[0.0, 1.0]], [[0.0, float("nan")]]), compare([[0.0, 1.0]], [[0.0, 1.0]])])


def test_logits_of_another_shape_fail() -> None:
    with pytest.raises(ParityError, match="outputs by up to inf"):
        parity.require([compare([[0.0, 1.0]], [[0.0, 1.0, 2.0]])])


# --- files ------------------------------------------------------------------------------------


def test_zeros_of_a_graph_are_counted_in_its_matrices_alone(tmp_path: Path) -> None:
    weight = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]], np.float32)
    path = two_weights(tmp_path / "model.onnx", weight, np.zeros(2, np.float32))
    assert onnx_files.graph_zeros(path) == (3, 6)


def test_zeroed_weights_make_the_download_smaller_and_not_the_file(tmp_path: Path) -> None:
    dense = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    sparse = dense * (np.abs(dense) > 1.0)
    files = [two_weights(tmp_path / f"{index}.onnx", weight, dense[0]) for index, weight in enumerate((dense, sparse))]
    assert onnx_files.file_bytes(files[0]) == onnx_files.file_bytes(files[1])
    assert onnx_files.compressed_bytes(files[1]) < 0.7 * onnx_files.compressed_bytes(files[0])


def two_weights(path: Path, matrix: np.ndarray[Any, Any], vector: np.ndarray[Any, Any]) -> Path:
    rows, columns = matrix.shape
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["m"]), onnx.helper.make_node("Add", ["m", "b"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", rows])],
        [onnx.helper.make_tensor_value_info("y", 1, ["n", columns])],
        [onnx.numpy_helper.from_array(matrix, "w"), onnx.numpy_helper.from_array(vector, "b")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def export_tensor(array: np.ndarray[Any, Any]) -> Any:
    import onnx_ir as ir

    return ir.tensor(array.astype(np.float32))
