"""What was done to the student's layers: copied, pruned, cut, quantized."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from compressor.artifacts import STUDENT_ONNX, TEACHER

if TYPE_CHECKING:
    from compressor.artifacts import Ladder, QuantizedModel
    from compressor.report.document import Findings


def quantization(quantized: QuantizedModel | None) -> dict[str, Any] | None:
    """How much of the encoder is in int8; ``None`` where nothing is."""
    if quantized is None:
        return None
    names = ("target", "weight_type", "quantized", "expected", "agreement", "max_abs_difference", "mode", "precision")
    return {
        **{name: getattr(quantized, name) for name in names},
        "kept_in_fp32": list(quantized.kept),
        "targets": [asdict(claim) for claim in quantized.targets],
    }


def ladder(found: Ladder | None) -> dict[str, Any] | None:
    """What was tried on the way from the asked file to the kept one; ``None`` where nothing was quantized."""
    if found is None:
        return None
    effects = [{"product": module, "effect": effect} for module, effect in found.effects]
    return {**asdict(found), "rungs": [asdict(rung) for rung in found.rungs], "effects": effects}


def pruning(findings: Findings) -> dict[str, Any] | None:
    """How many weights are zero; ``None`` where that was not asked for."""
    requested = findings.recipe.get("prune", {}).get("sparsity", 0.0)
    student = next((facts for facts in findings.models if facts.name == STUDENT_ONNX), None)
    if not requested or student is None:
        return None
    return {
        "requested": requested,
        "zeros": student.zeros,
        "share_of_parameters": student.zeros / student.parameters,
        "size_bytes": student.size_bytes,
        "compressed_bytes": student.compressed_bytes,
    }


def slimming(findings: Findings) -> dict[str, Any] | None:
    """What share of the teacher's widths is left; ``None`` where nothing was cut out."""
    before, after = findings.shapes.get(TEACHER), findings.shapes.get(STUDENT_ONNX)
    if before is None or after is None:
        return None
    kept = {
        "attention": min(1.0, after.attention / before.attention),
        "feed_forward": min(1.0, after.intermediate / max(1, before.intermediate)),
    }
    return {**kept, "uneven": findings.uneven} if findings.uneven or min(kept.values()) < 1 else None


def layer_map(findings: Findings) -> dict[str, Any]:
    """Where the student's layers come from."""
    quantized, student = findings.quantized, findings.recipe.get("student", {})
    named = isinstance(student.get("layers"), list | tuple)  # one by one: no rule chose them
    return {
        "selection": None if named else student.get("layer_selection"),
        "teacher_layers": findings.teacher_layers,
        "student_layers": findings.student_layers,
        "copied_from": list(findings.layer_map),
        "pruned": bool(findings.recipe.get("prune", {}).get("sparsity", 0.0)),
        "quantized": quantized is not None and quantized.quantized == quantized.expected,
    }
