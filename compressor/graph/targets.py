"""Which weights are right on which instruction set, and what this machine can say about it."""

from __future__ import annotations

from collections.abc import Mapping

from compressor.artifacts import TargetClaim
from compressor.graph.modes import FULL, MODES, NO_SATURATION, Plan
from compressor.runtime.machine import detect_target

# Full range: the products are summed in 32 bits (vpdpbusd on x86 with VNNI, udot/sdot on ARM).
# 7 bits: without VNNI, onnxruntime's x86 kernels for unsigned times signed bytes use vpmaddubsw, which adds two
# products in 16 bits and saturates: 2 * 255 * 127 > 32767, but 2 * 255 * 63 = 32130 never does. The 7-bit range is
# what onnxruntime calls reduce_range; it costs half a bit of a weight and keeps the fast kernel.
# https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html ("When to use U8U8")
WEIGHT_LIMITS: Mapping[str, int] = {
    "any": NO_SATURATION,
    "avx2": NO_SATURATION,
    "avx512": NO_SATURATION,
    "avx512_vnni": FULL,
    "arm64": FULL,
}
SATURATING = ("avx2", "avx512")
INSTRUCTION_SETS = ("avx2", "avx512", "avx512_vnni", "arm64")


def resolve(target: str) -> str:
    """Name the target that ``auto`` stands for on this machine."""
    return detect_target() if target == "auto" else target


def first_plan(mode: str, target: str) -> Plan:
    """The plan that a mode and a target ask for."""
    return Plan(mode, WEIGHT_LIMITS[resolve(target)] if MODES[mode].integer else FULL)


def can_saturate(plan: Plan, here: str) -> bool:
    """Whether onnxruntime's kernels of an instruction set may lose sums of these weights."""
    return MODES[plan.mode].integer and plan.limit == FULL and not plan.unsigned and here in SATURATING


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
    why = "unsigned weights are" if plan.unsigned else "products of 7-bit weights are"
    if plan.limit == FULL and not plan.unsigned:
        return TargetClaim(target, "believed", "its kernels add products in 32 bits, so nothing saturates")
    return TargetClaim(target, "believed", f"{why} added without saturation by every kernel")
