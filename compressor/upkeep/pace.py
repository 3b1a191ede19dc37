"""The rules of speed in ``compress check``, each a pure function to one row.

Speed is judged by ratios of models that ran in turn in the same minutes, and fails only where every round misses the
limit by more than the machine's own noise: a busy runner makes such a rule milder, never red.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, Benchmark
from compressor.benchmark import summary
from compressor.upkeep import past
from compressor.upkeep.gates import Gate

Report = Mapping[str, Any]

SLACK = 0.25
"""Share of the recorded int8 gain that may be missing here: clocks and memory of one processor family differ."""


def recorded_speed(report: Report | None, min_speedup: float | None) -> Gate:
    """Hold the report's headline to the speed-up asked for, where the teacher is not at hand."""
    found = report["headline"]["speedup"] if report else None
    if min_speedup is None:
        return Gate("speed-up", "SKIP", "no --min-speedup" + (f"; the report says {found:.2f}x" if found else ""))
    if not found:
        return Gate("speed-up", "FAIL", f"{min_speedup:g}x was asked for, and the report has none: give --teacher")
    said = (
        f"{found:.2f}x over the teacher in the report, {min_speedup:g}x asked; recorded, not measured here (--teacher)"
    )
    return Gate("speed-up", "PASS" if found >= min_speedup else "FAIL", said)


def measured_speed(rounds: npt.NDArray[np.float64], floor: float | None, min_speedup: float | None) -> Gate:
    """Hold the speed-up over the teacher, measured in this run, to the one asked for.

    Args:
        rounds: Ratio of each round.
        floor: Relative difference that a model shows against its own copy.
        min_speedup: What was asked for.
    """
    middle = float(np.median(rounds))
    said = f"{middle:.2f}x over the teacher, measured here in {_rounds(rounds)}"
    if min_speedup is None:
        return Gate("speed-up", "PASS", f"{said}; no --min-speedup")
    if _missed(rounds, floor, min_speedup):
        return Gate("speed-up", "FAIL", f"{said}: {min_speedup:g}x is missed in every one")
    doubt = "" if middle >= min_speedup else "; the noise leaves it open"
    return Gate("speed-up", "PASS", f"{said}, {min_speedup:g}x asked{doubt}")


def latency(
    rounds: npt.NDArray[np.float64], floor: float | None, recorded: float | None, *, same_machine: bool
) -> Gate:
    """Hold the int8 file's gain over the fp32 file beside it, measured in this run, to the recorded one.

    On another instruction set int8 gains another factor, so that there only a loss is held against it.

    Args:
        rounds: Latency of fp32 over that of int8, in each round.
        floor: Relative difference that a model shows against its own copy.
        recorded: The same ratio in the report, on the same lengths.
        same_machine: The instruction set is the recorded one.
    """
    said = f"int8 against the fp32 file: {float(np.median(rounds)):.2f}x, measured here in {_rounds(rounds)}"
    if recorded is None:
        expected, where = 1.0, "no record to compare with"
    elif same_machine:
        expected, where = recorded, f"recorded {recorded:.2f}x"
    else:
        expected, where = min(1.0, recorded), f"recorded {recorded:.2f}x on another instruction set"
    limit = expected * (1 - SLACK)
    if _missed(rounds, floor, limit):
        return Gate("latency", "FAIL", f"{said}, below {limit:.2f}x in every one; {where}")
    if float(np.median(rounds)) < limit:
        return Gate(
            "latency", "SKIP", f"{said}; {where}; this machine is too noisy now to tell (noise {floor or 0:.0%})"
        )
    return Gate("latency", "PASS", f"{said}; {where}")


def against_baseline(report: Report | None, baseline: Report | None) -> Gate | None:
    """Hold the recorded speed-up to that of the baseline, each over its own teacher; ``None`` without a baseline."""
    name = "baseline speed"
    if baseline is None:
        return None
    heads = [found["headline"] if found else {} for found in (report, baseline)]
    if report is None or not all(head.get("speedup") for head in heads):
        return Gate(name, "SKIP", "one of the two reports has no speed-up")
    bases = [head["baseline_size_bytes"] for head in heads]
    if report["teacher"]["layers"] != baseline["teacher"]["layers"] or abs(bases[0] / bases[1] - 1) > 0.01:
        return Gate(name, "SKIP", "the teachers are of different sizes, so the ratios to them do not compare")
    if _machine(report) != _machine(baseline):
        return Gate(name, "SKIP", "recorded on different processors, or with different threads")
    ranges = [_range(found) for found in (report, baseline)]
    said = f"{heads[0]['speedup']:.2f}x over the teacher, the baseline {heads[1]['speedup']:.2f}x, as recorded"
    slower = ranges[0][1] < ranges[1][0]
    return Gate(name, "FAIL" if slower else "PASS", f"{said}: slower beyond both intervals" if slower else said)


def ratios(measured: Benchmark, slow: str, fast: str, lengths: Sequence[int | None]) -> npt.NDArray[np.float64]:
    """Compute how many times faster one model was than another in each round.

    Args:
        measured: One text at a time, on the CPU.
        slow: Name of the one model.
        fast: Name of the other.
        lengths: Cells to average over, by the geometric mean.

    Returns:
        Ratios of process medians of shape (rounds,).
    """
    logs = [
        np.log(summary.process_medians(summary.find(measured, slow, 1, length)))
        - np.log(summary.process_medians(summary.find(measured, fast, 1, length)))
        for length in lengths
    ]
    return np.asarray(np.exp(np.mean(logs, axis=0)), np.float64)


def recorded_ratio(report: Report | None, lengths: Sequence[int | None]) -> float | None:
    """Read the int8 file's gain over the fp32 file from a report; ``None`` where a cell is missing."""
    if report is None:
        return None
    slow, fast = (past.medians(report, name) for name in (STUDENT_ONNX, STUDENT_INT8))
    cells = [("cpu", 1, length) for length in lengths]
    if not cells or not all(cell in slow and cell in fast for cell in cells):
        return None
    return math.exp(sum(math.log(slow[cell] / fast[cell]) for cell in cells) / len(cells))


def instruction_set(report: Report) -> str | None:
    """Read what the recording processor could do."""
    found = (report["environment"].get("cpu") or {}).get("instruction_set")
    return None if found is None else str(found)


def _machine(report: Report) -> tuple[str | None, str | None, int | None]:
    """What the ratio of two models depends on beside them: processor, what it could do, and threads."""
    cpu, latency = report["environment"].get("cpu") or {}, report["latency"]
    return cpu.get("model"), instruction_set(report), latency[0]["threads"] if latency else None


def _missed(rounds: npt.NDArray[np.float64], floor: float | None, limit: float) -> bool:
    return float(rounds.max()) * (1 + (floor or 0.0)) < limit


def _range(report: Report) -> tuple[float, float]:
    head = report["headline"]
    if head["speedup_ci95"]:
        return float(head["speedup_ci95"][0]), float(head["speedup_ci95"][1])
    noise = 1 + (report["machine"]["noise_floor"] or 0.0)
    return head["speedup"] / noise, head["speedup"] * noise


def _rounds(rounds: npt.NDArray[np.float64]) -> str:
    return f"{len(rounds)} round{'s' if len(rounds) > 1 else ''}"
