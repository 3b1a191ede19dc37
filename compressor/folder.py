"""The run folder: what is in it.

::

    exported/reviews/
    ├── README.md  config.json  model.safetensors  tokenizer files     loads in transformers
    ├── onnx/model.onnx  onnx/model_quantized.onnx  ort_config.json    loads in onnxruntime and optimum
    ├── manifest.json                                                  what compressor.runtime reads
    ├── recipe.toml
    └── report/report.html  report.json  report.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifacts import ExportedModel, QuantizedModel, Teacher
from compressor.errors import TeacherError
from compressor.runtime import manifest as contract
from compressor.staging import check_output, staging

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["MODEL", "QUANTIZED", "check_output", "staging", "write_manifest", "write_ort_config", "write_student"]

MODEL, QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"

_PACKAGES = ("compressor", "torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime", "numpy")


def write_student(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Write the Hugging Face student: config, safetensors and tokenizer.

    Args:
        folder: Its root.
        model: The student.
        tokenizer: The teacher's.
        max_length: Longest sequence that the model can take, in tokens; saved as ``model_max_length``.

    Raises:
        TeacherError: The tokenizer has no ``tokenizer.json``, which the runtime needs.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / contract.TOKENIZER
    if not path.is_file():
        raise TeacherError(
            f"The tokenizer {type(tokenizer).__name__} has no fast form, so no {contract.TOKENIZER} can be written.",
            "Convert it with transformers (AutoTokenizer.from_pretrained(..., use_fast=True)) and save it "
            "into the teacher's folder.",
        )
    # Both keep what the last call happened to use; whoever loads the file sets its own.
    _edit(path, {"truncation": None, "padding": None})
    _write_json(folder / "tokenizer_config.json", _portable(folder / "tokenizer_config.json", max_length))


def write_ort_config(folder: Path, exported: ExportedModel, quantized: QuantizedModel | None = None) -> None:
    """Write ``ort_config.json`` as optimum-onnx 0.1.0 reads it.

    Source: ``optimum.onnxruntime.configuration``, ``ORTConfig`` and ``QuantizationConfig``. The graph
    is fused by onnxscript, which their ``OptimizationConfig`` has no words for: it stays empty.
    """
    content = {
        "opset": exported.opset,
        "use_external_data_format": False,
        "one_external_file": True,
        "optimization": {},
        "quantization": {} if quantized is None else _quantization(quantized.weight_type),
    }
    _write_json(folder / "ort_config.json", content)


def write_manifest(
    folder: Path,
    *,
    task: str,
    teacher: Teacher,
    exported: ExportedModel,
    max_length: int,
    quantized: QuantizedModel | None = None,
    temperatures: Mapping[str, float] | None = None,
) -> contract.Manifest:
    """Write ``manifest.json`` over every file that is in the folder: call it last.

    Args:
        folder: With all its files.
        task: Named as transformers pipelines name it.
        teacher: What was compressed; its labels and tokenizer are the student's.
        exported: The fp32 model, for its inputs.
        max_length: Length in tokens that training and evaluation truncated to.
        quantized: The int8 model, for its target.
        temperatures: Calibration temperature of files, by their path in the folder.
    """
    weights: dict[str, tuple[str, str | None]] = {MODEL: ("fp32", None), "model.safetensors": ("fp32", None)}
    if quantized is not None:
        weights[QUANTIZED] = ("int8", quantized.target)
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != contract.MANIFEST:
            precision, target = weights.get(name, (None, None))
            files[name] = contract.describe_file(path, precision, target, (temperatures or {}).get(name))
    content = contract.Manifest(
        task=task,
        labels=teacher.labels,
        inputs=exported.input_names,
        max_length=max_length,
        pad_token_id=teacher.tokenizer.pad_token_id or 0,
        default_model=QUANTIZED if QUANTIZED in files else MODEL,
        files=files,
        teacher=contract.TeacherEntry(teacher.name, teacher.fingerprint),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=_versions(),
        truncation_side=teacher.tokenizer.truncation_side,
    )
    contract.write_manifest(folder, content)
    return content


def _quantization(weight_type: str) -> dict[str, Any]:
    return {
        "is_static": False,
        "format": "QOperator",
        "mode": "IntegerOps",
        "activations_dtype": "QUInt8",
        "activations_symmetric": False,
        "weights_dtype": "QUInt8" if "uint8" in weight_type else "QInt8",
        "weights_symmetric": True,
        "per_channel": "per channel" in weight_type,
        "reduce_range": "7" in weight_type,
        "nodes_to_quantize": [],
        "nodes_to_exclude": [],
        "operators_to_quantize": ["MatMul"],
        "qdq_add_pair_to_weight": False,
        "qdq_dedicated_pair": False,
        "qdq_op_type_per_channel_support_to_axis": {"MatMul": 1},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _portable(tokenizer_config: Path, max_length: int) -> dict[str, Any]:
    """Read a tokenizer's config without what belongs to the machine that saved it."""
    content: dict[str, Any] = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    if content.get("tokenizer_class") == "TokenizersBackend":
        # The same class under the name that transformers 4 knows too.
        content["tokenizer_class"] = "PreTrainedTokenizerFast"
    if "padding_side" in content:
        content["padding_side"] = "right"  # as training and runtime pad
    kept = {name: value for name, value in content.items() if name not in ("is_local", "local_files_only")}
    return kept | {"model_max_length": max_length}


def _edit(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    if any(content.get(key) != value for key, value in changes.items()):
        _write_json(path, {**content, **changes})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
