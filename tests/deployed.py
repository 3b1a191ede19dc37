"""A folder as compress writes it, around an ONNX classifier small enough to compute by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from compressor.runtime.manifest import Manifest, TeacherEntry, describe_file, write_manifest

from .tiny import NEGATIVE, NEUTRAL, POSITIVE, SPECIAL, tokenizer

LABELS = ("negative", "neutral", "positive")
WORDS = [*SPECIAL, *POSITIVE, *NEGATIVE, *NEUTRAL]


def word_logits(scale: float = 1.0) -> np.ndarray:
    """What each token of the toy vocabulary adds, float32 of shape (vocabulary, labels)."""
    table = np.random.default_rng(0).normal(size=(len(WORDS), len(LABELS))).astype(np.float32)
    for words, label in ((NEGATIVE, 0), (NEUTRAL, 1), (POSITIVE, 2)):
        for word in words:
            table[WORDS.index(word), label] += 3
    table[WORDS.index("[PAD]")] = 100  # padding that is not masked spoils the answer
    return scale * table


def save_classifier(path: Path, scale: float = 1.0, extra_input: str | None = None) -> Path:
    """Save a model whose logits are the mean of ``word_logits`` over the tokens that are not padding."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),  # [b, s, labels]
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),  # [b, s, 1]
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "sequence"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "sequence"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["logits"]),
    ]
    names = ["input_ids", "attention_mask", *([extra_input] if extra_input else [])]
    axes = ["batch_size", "sequence_length"]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", len(LABELS)])],
        [
            numpy_helper.from_array(word_logits(scale), "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "sequence"),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def write(folder: Path, **changes: Any) -> Path:
    """Write the folder: an fp32 model, an "int8" one with logits twice as large, tokenizer and manifest."""
    save_classifier(folder / "onnx/model.onnx", extra_input=changes.pop("extra_input", None))
    save_classifier(folder / "onnx/model_quantized.onnx", scale=2)
    tokenizer().backend_tokenizer.save(str(folder / "tokenizer.json"))
    precisions = {"onnx/model.onnx": "fp32", "onnx/model_quantized.onnx": "int8", "tokenizer.json": None}
    values: dict[str, Any] = {
        "task": "text-classification",
        "labels": LABELS,
        "inputs": ("input_ids", "attention_mask"),
        "max_length": 16,
        "pad_token_id": 0,
        "default_model": "onnx/model.onnx",
        "files": {name: describe_file(folder / name, precision) for name, precision in precisions.items()},
        "teacher": TeacherEntry("bert", "0" * 64),
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {"compressor": "0.1.0"},
    }
    write_manifest(folder, Manifest(**{**values, **changes}))
    return folder


def edit(folder: Path, **changes: Any) -> Path:
    """Change keys of a folder's manifest; ``None`` removes one."""
    path = folder / "manifest.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def damage(path: Path) -> None:
    """Flip one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
