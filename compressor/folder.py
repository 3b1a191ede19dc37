"""The run folder: what is in it.

::

    exported/reviews/
    ├── README.md  config.json  model.safetensors  tokenizer files     loads in transformers
    ├── onnx/model.onnx  onnx/model_quantized.onnx  ort_config.json    loads in onnxruntime and optimum
    ├── manifest.json                                                  what compressor.runtime reads
    ├── recipe.toml
    └── report/report.html  report.json  report.md

That of a sentence encoder has ``modules.json``, ``1_Pooling/`` and ``2_Normalize/`` too, by which sentence-transformers
loads it. Its ONNX backend (5.1 with optimum-onnx 0.1) takes the output ``last_hidden_state`` of ``onnx/model.onnx``
and pools it again; this runtime takes ``sentence_embedding``, which is pooled in the graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, ExportedModel, QuantizedModel, Teacher
from compressor.errors import StageError, TeacherError
from compressor.pooling import write_pooling
from compressor.runtime import manifest as contract
from compressor.runtime.decode import scheme_of
from compressor.runtime.decode.spans import MOST_TOKENS
from compressor.runtime.settings import DOC_STRIDE, SETTINGS, fault
from compressor.staging import check_output, staging

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compressor.heads import Model
    from compressor.tasks import Kind

__all__ = [
    "FILES",
    "MODEL",
    "QUANTIZED",
    "REJECTED",
    "check_output",
    "staging",
    "write_manifest",
    "write_ort_config",
    "write_student",
]

MODEL, QUANTIZED = "onnx/model.onnx", "onnx/model_quantized.onnx"
# Over the limits of the run: no loader takes it unless it is named.
REJECTED = "onnx/model_quantized_rejected.onnx"
FILES = {STUDENT_ONNX: MODEL, STUDENT_INT8: QUANTIZED}

_PACKAGES = ("compressor", "torch", "transformers", "tokenizers", "onnx", "onnxscript", "onnxruntime", "numpy")


def write_student(folder: Path, model: Model, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Write the Hugging Face student: config, safetensors and tokenizer, and what sentence-transformers asks for.

    Args:
        folder: Its root.
        model: The student.
        tokenizer: The teacher's.
        max_length: Longest sequence that the model can take, in tokens; saved as ``model_max_length``.

    Raises:
        TeacherError: The tokenizer has no ``tokenizer.json``, which the runtime needs.
    """
    model.save_pretrained(folder)
    if pooling := getattr(model, "pooling", None):  # of a sentence encoder
        write_pooling(folder, pooling, model.config.hidden_size, max_length)
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
        "quantization": {} if quantized is None or quantized.precision != "int8" else _quantization(quantized),
    }
    _write_json(folder / "ort_config.json", content)


def write_manifest(
    folder: Path,
    *,
    teacher: Teacher,
    exported: ExportedModel,
    max_length: int,
    quantized: QuantizedModel | None = None,
    temperatures: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> contract.Manifest:
    """Write ``manifest.json`` over every file that is in the folder: call it last.

    Args:
        folder: With all its files.
        teacher: What was compressed; its task, labels and tokenizer are the student's.
        exported: The fp32 model, for its inputs.
        max_length: Length in tokens that training and evaluation truncated to.
        quantized: The int8 model, for its target.
        temperatures: Calibration temperature of files, by their path in the folder.
        settings: What only the data or the evaluation know, as in ``compressor.runtime.settings``: ``pairs``,
            ``thresholds``, ``doc_stride``, ``null_score``. The rest is added.

    Raises:
        StageError: A setting is not one of the task, or out of range.
    """
    kind = teacher.task.kind
    content = {**(_FROM_TEACHER[kind](teacher) if kind in _FROM_TEACHER else {}), **(settings or {})}
    unknown = [name for name in content if name not in SETTINGS[kind]]
    if wrong := f"{unknown[0]} is not a setting of {kind}" if unknown else fault(kind, content, teacher.labels):
        raise StageError(f"The manifest cannot be written: {wrong}.")
    weights: dict[str, tuple[str, str | None]] = {MODEL: ("fp32", None), "model.safetensors": ("fp32", None)}
    if quantized is not None:
        weights[QUANTIZED] = (quantized.precision, quantized.target)
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name != contract.MANIFEST:
            precision, target = weights.get(name, (None, None))
            claims = quantized.targets if quantized is not None and name == QUANTIZED else ()
            files[name] = contract.describe_file(
                path,
                precision,
                target,
                (temperatures or {}).get(name),
                {claim.target: f"{claim.status}: {claim.reason}" for claim in claims},
            )
    manifest = contract.Manifest(
        task=teacher.task.name,
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
        kind=kind,
        outputs=teacher.task.outputs,
        settings=content,
    )
    contract.write_manifest(folder, manifest)
    return manifest


def _pooled(teacher: Teacher) -> dict[str, Any]:
    pooling: Any = getattr(teacher.model, "pooling", None)
    found = {"pooling": pooling.mode, "normalize": pooling.normalize} if pooling else {}
    return {**found, "dimension": teacher.model.config.hidden_size}


_FROM_TEACHER: Mapping[Kind, Callable[[Teacher], dict[str, Any]]] = {
    "token-classification": lambda teacher: {"doc_stride": DOC_STRIDE, "scheme": scheme_of(teacher.labels)},
    "question-answering": lambda teacher: {
        "doc_stride": DOC_STRIDE, "max_answer_tokens": MOST_TOKENS, "null_score": False
    },
    "fill-mask": lambda teacher: {"mask_token_id": teacher.tokenizer.mask_token_id},
    "feature-extraction": _pooled,
}  # fmt: skip


def _quantization(quantized: QuantizedModel) -> dict[str, Any]:
    weight_type, static = quantized.weight_type, quantized.mode == "static"
    return {
        "is_static": static,
        "format": "QDQ" if static else "QOperator",
        "mode": "QLinearOps" if static else "IntegerOps",
        "activations_dtype": "QInt8" if static else "QUInt8",
        "activations_symmetric": static,
        "weights_dtype": "QUInt8" if "uint8" in weight_type else "QInt8",
        "weights_symmetric": True,
        "per_channel": "per channel" in weight_type,
        "reduce_range": "7" in weight_type,
        "nodes_to_quantize": [],
        "nodes_to_exclude": list(quantized.kept),
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
