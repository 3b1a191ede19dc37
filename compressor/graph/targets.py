"""Which weights are right on which instruction set, and what this machine can say about it."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.artifacts import TargetClaim
from compressor.graph.modes import MODES, Plan, Weights
from compressor.runtime.machine import detect_target

# Full range: the products are summed in 32 bits (vpdpbusd on x86 with VNNI, udot/sdot on ARM).
# Bounded: without VNNI, onnxruntime's x86 kernels for unsigned times signed bytes use vpmaddubsw, which adds two
# products in 16 bits and saturates: 255 * (127 + 127) > 32767. onnxruntime's remedy, 7 bits for every weight
# (reduce_range), doubles the rounding of all; only the sum of two neighbours needs a bound: 255 * 128 = 32640.
# https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html ("When to use U8U8")
WEIGHTS: Mapping[str, Weights] = {
    "any": "bounded",
    "avx2": "bounded",
    "avx512": "bounded",
    "avx512_vnni": "full",
    "arm64": "full",
}
SATURATING = ("avx2", "avx512")
INSTRUCTION_SETS = ("avx2", "avx512", "avx512_vnni", "arm64")
_WHY: Mapping[Weights, str] = {
    "full": "its kernels add products in 32 bits, so nothing saturates",
    "bounded": "the weights are chosen so that no kernel's sums saturate",
    "unsigned": "unsigned weights are added without saturation by every kernel",
}


def resolve(target: str) -> str:
    """Name the target that ``auto`` stands for on this machine."""
    return detect_target() if target == "auto" else target


def first_plan(mode: str, target: str) -> Plan:
    """The plan that a mode and a target ask for."""
    return Plan(mode, WEIGHTS[resolve(target)] if MODES[mode].integer else "full")


def can_saturate(plan: Plan, here: str) -> bool:
    """Whether onnxruntime's kernels of an instruction set may lose sums of these weights."""
    return MODES[plan.mode].integer and plan.weights == "full" and here in SATURATING


def claims(plan: Plan, here: str) -> tuple[TargetClaim, ...]:
    """Say for every target whether a file was verified there, or why it is believed or doubted.

    Args:
        plan: How the file was written.
        here: Instruction set that its answers were measured on, as ``detect_target`` names it.
    """
    found = [_claim(plan, target, here) for target in INSTRUCTION_SETS]
    if "cuda" in MODES[plan.mode].providers:
        found.append(TargetClaim("cuda", "believed", "its answers were measured on a CPU only"))
    return tuple(found)


def _claim(plan: Plan, target: str, here: str) -> TargetClaim:
    if target == here:
        return TargetClaim(target, "verified", "its answers were measured on this instruction set")
    if can_saturate(plan, target):
        return TargetClaim(
            target,
            "doubted",
            "full-range weights can saturate in its 16-bit sums: compressor.runtime makes them unsigned while loading, "
            "plain onnxruntime does not",
        )
    if not MODES[plan.mode].integer:
        return TargetClaim(target, "believed", "the arithmetic does not depend on the instruction set's int8 kernels")
    return TargetClaim(target, "believed", _WHY[plan.weights])
