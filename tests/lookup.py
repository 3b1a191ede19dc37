"""Run folders for every kind of task whose models look each token up in a table, and answer ``tiny_data`` by it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from compressor.runtime.manifest import Manifest, TeacherEntry, describe_file, write_manifest
from compressor.tasks import TASKS, Kind
from tests.deployed import WORDS
from tests.tiny import LABELS, NEGATIVE, POSITIVE, tokenizer

MAX_LENGTH = 48
FILE = "onnx/model.onnx"
_CLS, _MASK = WORDS.index("[CLS]"), WORDS.index("[MASK]")
_SETTINGS: dict[Kind, dict[str, Any]] = {
    "token-classification": {"doc_stride": 8, "scheme": "prefixed"},
    "question-answering": {"doc_stride": 8},
    "fill-mask": {"mask_token_id": _MASK},
    "feature-extraction": {"dimension": 8},
}


def _add(table: np.ndarray, words: list[str], column: int, value: float) -> None:
    table[[WORDS.index(word) for word in words], column] += value


def tables(kind: Kind) -> dict[str, np.ndarray]:
    """What each token adds to each output, float32 of shape (vocabulary, ...)."""
    width = {"feature-extraction": 8, "fill-mask": len(WORDS), "question-answering": 2}.get(
        kind, len(LABELS.get(kind, ()))
    )
    table = np.zeros((len(WORDS), width), np.float32)
    if kind == "multi-label":  # of the mean: some words of a mood, or more than 14 tokens
        table -= [0.5, 0.5, -1.0]
        _add(table, NEGATIVE, 0, 30)
        _add(table, POSITIVE, 1, 30)
        table[_CLS, 2] = -14
    elif kind == "regression":
        _add(table, POSITIVE, 0, 1)
        _add(table, NEGATIVE, 0, -1)
    elif kind == "token-classification":
        table[:, 0] = 1
        for column, words in ((1, POSITIVE[:5]), (2, POSITIVE[5:]), (3, NEGATIVE[:5]), (4, NEGATIVE[5:])):
            _add(table, words, column, 5)
    elif kind == "question-answering":
        _add(table, [*POSITIVE[:5], *NEGATIVE[:5]], 0, 5)
        _add(table, [*POSITIVE[:5], *NEGATIVE[:5]], 1, 4)
        _add(table, [*POSITIVE[5:], *NEGATIVE[5:]], 1, 6)
        return {"start_logits": table[:, 0], "end_logits": table[:, 1]}
    elif kind == "fill-mask":
        table[_MASK, WORDS.index("the")] = 5
    else:
        table += np.random.default_rng(0).normal(size=table.shape)
    return {TASKS[kind].outputs[0]: table}


def save_model(path: Path, found: Mapping[str, np.ndarray], pooled: bool, shift: int = 0) -> None:
    """Save a model; one whose table is shifted takes every word for another."""
    nodes, values = [], []
    if pooled:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),  # [b, s, 1]
            helper.make_node("ReduceSum", ["weights", "sequence"], ["count"], keepdims=0),
        ]
    for name, table in found.items():
        rows = f"{name} rows" if pooled else name
        nodes.append(helper.make_node("Gather", [f"{name} table", "input_ids"], [rows]))
        if pooled:
            nodes += [
                helper.make_node("Mul", [rows, "weights"], [f"{name} kept"]),
                helper.make_node("ReduceSum", [f"{name} kept", "sequence"], [f"{name} sum"], keepdims=0),
                helper.make_node("Div", [f"{name} sum", "count"], [name]),
            ]
        axes = ["batch_size", *([] if pooled else ["sequence_length"]), *table.shape[1:]]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, axes))
    constants = [
        numpy_helper.from_array(np.roll(table, shift, axis=0), f"{name} table") for name, table in found.items()
    ]
    constants += [numpy_helper.from_array(np.array([2]), "last"), numpy_helper.from_array(np.array([1]), "sequence")]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(nodes, "lookup", inputs, values, constants if pooled else constants[:-2])
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def write(folder: Path, kind: Kind, shift: int = 0) -> Path:
    """Write a folder as compress does, without a report."""
    task = TASKS[kind]
    save_model(folder / FILE, tables(kind), task.unit == "row", shift)
    tokenizer().save_pretrained(folder)
    names = dict(enumerate(LABELS.get(kind, ())))
    config = {"model_type": "bert", "architectures": [f"Bert{task.head or 'Model'}"], "max_position_embeddings": 64}
    if names:
        config |= {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    if task.problem_type:
        config["problem_type"] = task.problem_type
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    manifest = Manifest(
        task=task.name,
        labels=LABELS.get(kind, ()),
        inputs=("input_ids", "attention_mask"),
        max_length=MAX_LENGTH,
        pad_token_id=0,
        default_model=FILE,
        files={FILE: describe_file(folder / FILE, "fp32")},
        teacher=TeacherEntry("bert", "0" * 64),
        created="2026-01-01T00:00:00+00:00",
        kind=kind,
        outputs=task.outputs,
        settings=_SETTINGS.get(kind, {}),
    )
    write_manifest(folder, manifest)
    return folder
