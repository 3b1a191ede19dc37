"""Folders of every kind of task around ONNX models that look their answers up in a table: computable by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from compressor.runtime.manifest import Manifest, TeacherEntry, describe_file, write_manifest
from compressor.tasks import TASKS, Kind

from .deployed import WORDS
from .tiny import NEGATIVE, POSITIVE, tokenizer

EMOTIONS = ("joy", "anger", "surprise")
TAGS = ("O", "B-GOOD", "I-GOOD", "B-BAD", "I-BAD")
LABELS: dict[Kind, tuple[str, ...]] = {
    "single-label": ("no", "yes"),
    "multi-label": EMOTIONS,
    "regression": ("score",),
    "token-classification": TAGS,
}
SETTINGS: dict[Kind, dict[str, Any]] = {"fill-mask": {"mask_token_id": WORDS.index("[MASK]")}}


def word_table(columns: int, seed: int = 0) -> np.ndarray:
    """What each token of the toy vocabulary adds, float32 of shape (vocabulary, columns); padding spoils a mean."""
    table = np.random.default_rng(seed).normal(size=(len(WORDS), columns)).astype(np.float32)
    table[WORDS.index("[PAD]")] = 100
    return table


def tag_table() -> np.ndarray:
    """Praise is GOOD and goes on with "very"; blame is BAD; all else, unknown words too, is nothing."""
    table = np.zeros((len(WORDS), len(TAGS)), np.float32)
    table[:, 0] = 5
    for words, tag in ((POSITIVE, 1), (["very"], 2), (NEGATIVE, 3), (["quite"], 4)):
        for word in words:
            table[WORDS.index(word), tag] = 10
    return table


def table_of(kind: Kind) -> np.ndarray:
    """The table of a kind of task: one column for each number that it answers with."""
    if kind == "token-classification":
        return tag_table()
    columns = {"question-answering": 2, "fill-mask": len(WORDS), "feature-extraction": 8}
    return word_table(columns.get(kind) or len(LABELS[kind]))


def save_model(path: Path, kind: Kind, table: np.ndarray, outputs: tuple[str, ...] = ()) -> Path:
    """Save a model that answers with its table's rows, or with their mean where the task is about whole texts."""
    names = outputs or TASKS[kind].outputs
    node = helper.make_node
    nodes = [node("Gather", ["table", "input_ids"], ["rows"])]  # [b, s, k]
    if TASKS[kind].unit == "row":
        nodes += [
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "last"], ["weights"]),
            node("Mul", ["rows", "weights"], ["kept"]),
            node("ReduceSum", ["kept", "sequence"], ["sum"], keepdims=0),
            node("ReduceSum", ["weights", "sequence"], ["count"], keepdims=0),
            node("Div", ["sum", "count"], [names[0]]),
        ]
        shape: list[Any] = ["batch_size", table.shape[1]]
        if len(names) > 1:
            nodes.append(node("Identity", ["rows"], [names[1]]))
    elif len(names) == 2:
        nodes += [node("Split", ["rows"], ["one", "two"], axis=-1, num_outputs=2)]
        nodes += [node("Squeeze", [part, "last"], [name]) for part, name in zip(("one", "two"), names, strict=True)]
        shape = ["batch_size", "sequence_length"]
    else:
        nodes.append(node("Identity", ["rows"], [names[0]]))
        shape = ["batch_size", "sequence_length", table.shape[1]]
    axes = ["batch_size", "sequence_length"]
    shapes = [shape, *([[*axes, table.shape[1]]] if TASKS[kind].unit == "row" else [shape])][: len(names)]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, of) for name, of in zip(names, shapes, strict=True)],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "sequence"),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def write(folder: Path, kind: Kind, *, table: np.ndarray | None = None, outputs: Any = (), **changes: Any) -> Path:
    """Write the folder of one kind: an fp32 model, tokenizer and manifest."""
    save_model(folder / "onnx/model.onnx", kind, table_of(kind) if table is None else table, outputs)
    tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    values: dict[str, Any] = {
        "task": TASKS[kind].name,
        "labels": LABELS.get(kind, ()),
        "inputs": ("input_ids", "attention_mask"),
        "max_length": 16,
        "pad_token_id": 0,
        "default_model": "onnx/model.onnx",
        "files": {
            "onnx/model.onnx": describe_file(folder / "onnx/model.onnx", "fp32"),
            "tokenizer.json": describe_file(folder / "tokenizer.json"),
        },
        "teacher": TeacherEntry("bert", "0" * 64),
        "created": "2026-01-01T00:00:00+00:00",
        "kind": kind,
        "outputs": TASKS[kind].outputs,
        "settings": SETTINGS.get(kind, {}),
    }
    write_manifest(folder, Manifest(**{**values, **changes}))
    return folder
