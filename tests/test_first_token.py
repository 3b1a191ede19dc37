"""The last layer of a classifier: computed for the first token where the head reads no other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compressor.architectures import ARCHITECTURES
from compressor.benchmark import encoder_flops
from compressor.graph import parity
from compressor.graph.passes.walk import origin
from compressor.tasks import Kind
from tests.exported import classifier, folder, run, sample

# DistilBERT's head, like BERT's pooler, reads the first token; ALBERT's layers share weights, which stay packed.
SPLIT = ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "mpnet")
BESIDE = ("mobilebert", "deberta-v2", "modernbert")


def last_nodes(path: Path, model_type: str) -> list[onnx.NodeProto]:
    layer = f"{ARCHITECTURES[model_type].layers}.1."
    return [node for node in onnx.load(path).graph.node if node.name.startswith(layer)]


def with_intermediates(path: Path, names: list[str], batch: parity.Batch) -> list[np.ndarray]:
    import onnxruntime

    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    return session.run(names, {name: array for name, array in batch.items() if name in wanted})


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_family_knows_that_its_classifier_reads_one_token(model_type: str) -> None:
    assert sample(model_type).exported.one_token is True


@pytest.mark.parametrize("model_type", SPLIT)
def test_the_last_feed_forward_net_is_computed_for_one_token_of_each_text(model_type: str) -> None:
    item = sample(model_type)
    products = [node for node in last_nodes(item.exported.path, model_type) if node.op_type == "MatMul"]
    batch = item.batches[-1]
    rows, length = batch["input_ids"].shape
    assert length > 1
    found = with_intermediates(item.exported.path, [node.output[0] for node in products], batch)
    tokens = {node.name: array.shape[:2] for node, array in zip(products, found, strict=True)}
    assert tokens.pop(next(name for name in tokens if name.endswith(".key_value"))) == (rows, length)
    assert len(tokens) == 4
    assert set(tokens.values()) == {(rows, 1)}


@pytest.mark.parametrize("model_type", BESIDE)
def test_an_attention_beside_its_projections_answers_one_query_too(model_type: str) -> None:
    item = sample(model_type)
    products = [node for node in last_nodes(item.exported.path, model_type) if node.op_type == "MatMul"]
    batch = item.batches[-1]
    found = with_intermediates(item.exported.path, [node.output[0] for node in products], batch)
    single = [array.shape[1] == 1 for array in found]
    assert sum(single) >= 3
    assert not all(single)


def test_layers_that_share_weights_keep_them_packed_and_lie_in_the_file_once() -> None:
    path = sample("albert").exported.path
    nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert nodes["Attention"] == 2
    names = [item.name for item in onnx.load(path).graph.initializer]
    assert len([name for name in names if "query" in name and "weight" in name]) == 1


@pytest.mark.parametrize("kind", ["token-classification", "fill-mask"])
def test_a_head_that_reads_all_tokens_has_all_of_them(kind: Kind) -> None:
    item = sample("bert", kind)
    assert item.exported.one_token is False
    assert "key_value" not in {node.name.rpartition(".")[2] for node in last_nodes(item.exported.path, "bert")}


def test_a_mean_over_tokens_has_all_of_them() -> None:
    assert sample("mpnet", "feature-extraction").exported.one_token is False


def test_the_zeros_of_a_packed_weight_stay_and_nothing_lies_in_the_file_twice() -> None:
    model = classifier("bert")
    layer = model.get_submodule("bert.encoder.layer.1.attention.self")
    with torch.no_grad():
        for part in ("query", "key", "value"):
            layer.get_submodule(part).weight[:4] = 0
    path = folder() / "zeros.onnx"
    run("bert", model, sample("bert").batches, path)
    held = {
        item.name: onnx.numpy_helper.to_array(item)
        for item in onnx.load(path).graph.initializer
        if item.name.startswith("bert.encoder.layer.1.attention.self")
    }
    weights = {name.rpartition("self.")[2]: array for name, array in held.items() if array.ndim == 2}
    assert set(weights) == {"query.weight.T", "key_value.weight.T"}
    assert sum(int((array == 0).sum()) for array in weights.values()) == 3 * 4 * 32
    assert {origin(name) for name in held} == set(held)


def test_the_work_of_one_token_in_the_last_layer_is_what_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    hidden, intermediate, rows, length = 32, 64, 2, 16
    x, first = torch.ones(rows, length, hidden), torch.ones(rows, 1, hidden)
    square, wide = torch.ones(hidden, hidden), torch.ones(hidden, intermediate)
    with FlopCounterMode(display=False) as counter:
        key, value = x @ square, x @ square
        scores = (first @ square) @ key.transpose(1, 2)
        _ = ((scores @ value) @ square @ wide) @ wide.T
    whole = encoder_flops(2, hidden, intermediate, rows, length)
    expected = counter.get_total_flops() + whole // 2
    assert encoder_flops(2, hidden, intermediate, rows, length, one_token=True) == expected
