"""The verdict: may a student replace its teacher, and if that is open, how many test rows would tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from compressor.evaluation.bootstrap import Resampled
from compressor.evaluation.bootstrap import changed as changed_groups
from compressor.evaluation.bootstrap import difference as resampled_difference
from compressor.evaluation.statistics import (
    FEW_EVENTS,
    LEVEL,
    Floats,
    Interval,
    mcnemar,
    paired_difference,
    points,
    tango_score,
)

Decision = Literal["ship", "do not ship", "cannot tell"]

POWER = 0.8
POWER_DRAWS = 10_000


@dataclass(frozen=True)
class Verdict:
    """Non-inferiority of a student at the user's margin.

    Attributes:
        margin: Largest accepted drop in the deciding metric, as a share: 0.01 is one point.
        difference: The metric of the student minus that of the teacher.
        mcnemar_p: Two-sided exact p-value of "no difference at all" in which rows are right; ``None`` where rows
            are neither right nor wrong, or depend on each other.
        rows: Test rows; questions, or masked tokens, where the task has those.
        needed_rows: Rows for a decision with 80% power if the truth is what was seen here; ``None``
            where a decision was reached, or where the difference sits on the margin.
        sentence: The verdict for a reader.
    """

    decision: Decision
    margin: float
    difference: Interval
    mcnemar_p: float | None
    rows: int
    needed_rows: int | None
    sentence: str


@dataclass(frozen=True)
class Wording:
    """How a verdict speaks of a task.

    Attributes:
        difference: What its difference is one of.
        row: One of what was judged.
        group: What is resampled.
    """

    difference: str = "its accuracy differs from the teacher's by"
    row: str = "test row"
    group: str = "row"


def non_inferiority(broken: int, repaired: int, rows: int, margin: float) -> Verdict:
    """Decide whether a student may replace its teacher.

    Args:
        broken: Rows that only the teacher has right.
        repaired: Rows that only the student has right.
        rows: All rows.
        margin: Largest accepted drop in accuracy, as a share.
    """
    difference = paired_difference(broken, repaired, rows)
    decision = decide(difference, margin)
    needed = needed_rows(broken, repaired, rows, margin) if decision == "cannot tell" else None
    p_value = float(mcnemar(broken, repaired))
    sentence = _sentence(decision, margin, difference, rows, needed, Wording())
    return Verdict(decision, margin, difference, p_value, rows, needed, sentence)


def paired(
    model: Resampled,
    teacher: Resampled,
    rows: int,
    margin: float,
    wording: Wording,
    mcnemar_p: float | None = None,
) -> Verdict:
    """Decide whether a student may replace its teacher, by any metric of which more is better.

    Args:
        model: The student's metric, resampled with the same draws as the teacher's.
        teacher: Of the same rows.
        rows: All rows.
        margin: Largest accepted drop in the metric, as a share.
        wording: Of the task.
        mcnemar_p: Where McNemar's test applies.
    """
    difference = resampled_difference(model, teacher, wording.group)
    decision = decide(difference, margin)
    needed = None
    if decision == "cannot tell":
        unchanged = model.groups if changed_groups(model, teacher) == 0 else None
        needed = scaled_rows(difference, rows, margin, unchanged)
    sentence = _sentence(decision, margin, difference, rows, needed, wording)
    return Verdict(decision, margin, difference, mcnemar_p, rows, needed, sentence)


def scaled_rows(difference: Interval, rows: int, margin: float, unchanged: int | None = None) -> int | None:
    """Rows that decide with 80% power, if the interval's width shrinks with the root of their number.

    Args:
        difference: As seen.
        rows: That it was seen on.
        margin: Largest accepted drop, as a share.
        unchanged: How many independent groups they are, if none of them changed: Wilson's score, that is all there
            is then, shrinks with their number itself.

    Returns:
        ``None`` for "no number helps": the difference sits on the margin.
    """
    distance = abs(difference.estimate + margin)
    if distance < margin / 20 or distance == 0:
        return None
    better = difference.estimate > -margin
    # The half of the interval that looks towards the margin.
    half = difference.estimate - difference.low if better else difference.high - difference.estimate
    z = float(special.ndtri((1 + LEVEL) / 2))
    if unchanged is not None:
        groups = (unchanged + z**2) * half / distance - z**2
        return max(rows + 1, math.ceil(rows / unchanged * groups))
    reach = (z + float(special.ndtri(POWER))) / z
    return max(rows + 1, math.ceil(rows * (reach * half / distance) ** 2))


def decide(difference: Interval, margin: float) -> Decision:
    """Compare an interval with the margin: only one that lies on one side of it decides."""
    if difference.low > -margin:
        return "ship"
    return "do not ship" if difference.high < -margin else "cannot tell"


def _sentence(
    decision: Decision, margin: float, difference: Interval, rows: int, needed: int | None, wording: Wording
) -> str:
    allowed = f"the {100 * margin:.1f} points that you allow"
    seen = (
        f"{wording.difference} {points(difference.estimate)} points "
        f"(95% interval {points(difference.low)} to {points(difference.high)})"
    )
    test = f"{rows:,} {wording.row}{'' if rows == 1 else 's'}"
    if decision == "ship":
        return f"Ship: on {test} {seen}, and a drop beyond {allowed} is ruled out."
    if decision == "do not ship":
        return f"Do not ship: on {test} {seen}, which is beyond {allowed}."
    advice = (
        f"If the difference stays what it is, you need about {round_up(needed):,} {wording.row}s."
        if needed
        else "The difference sits on the margin itself, so more rows alone will hardly decide it."
    )
    return f"Cannot tell with {test}: {seen}, which does not rule out a drop beyond {allowed}. {advice}"


def needed_rows(broken: int, repaired: int, rows: int, margin: float) -> int | None:
    """Rows that decide with 80% power, if rates of change stay as seen; ``None`` for "no number helps".

    Found by bisection over simulated test sets, each judged as ``non_inferiority`` would.
    """
    # Half a row is added so that a small test without any change is not taken for proof.
    lost, won = (broken + 0.25) / (rows + 0.5), (repaired + 0.25) / (rows + 0.5)
    distance = abs((repaired - broken) / rows + margin)
    if distance < margin / 20 or distance == 0:
        return None
    z = float(special.ndtri((1 + LEVEL) / 2) + special.ndtri(POWER))
    # The normal approximation (variance over squared distance) brackets the answer.
    guess = z**2 * (lost + won) / distance**2
    low, high = max(rows, int(guess / 3)), max(rows + 1, math.ceil(3 * guess))
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if _power(lost, won, middle, margin) >= POWER else (middle, high)
    return high


def _power(lost: float, won: float, rows: int, margin: float) -> float:
    """Share of test sets that decide for ship or against it, whichever the rates of change call for."""
    drawn = np.random.default_rng(0).multinomial(rows, [lost, won, max(0.0, 1 - lost - won)], size=POWER_DRAWS)
    broken, repaired = drawn[:, 0].astype(np.float64), drawn[:, 1].astype(np.float64)
    low, high = _bca_of_difference(broken, repaired, rows)
    score = tango_score(broken, repaired, rows, -margin)
    z = float(special.ndtri((1 + LEVEL) / 2))
    few = np.minimum(broken + repaired, rows - np.maximum(broken, repaired)) < FEW_EVENTS
    decided = (
        np.where(few, score > z, low > -margin) if won - lost > -margin else np.where(few, score < -z, high < -margin)
    )
    return float(decided.mean())


def _bca_of_difference(broken: Floats, repaired: Floats, rows: int) -> tuple[Floats, Floats]:
    """Bounds [r] of ``paired_difference`` by Edgeworth expansion (Hall 1988), for many test sets at once."""
    mean, changed = (repaired - broken) / rows, (broken + repaired) / rows
    spread = np.sqrt(np.maximum(changed - mean**2, 1e-12))
    acceleration = (mean - 3 * mean * changed + 2 * mean**3) / (6 * spread**3 * math.sqrt(rows))
    z = float(special.ndtri((1 + LEVEL) / 2))
    ends = []
    for tail in (acceleration - z, acceleration + z):
        place = acceleration + tail / (1 - acceleration * tail)
        ends.append(mean + spread / math.sqrt(rows) * (place + (place**2 - 1) * acceleration))
    return ends[0], ends[1]


def round_up(number: int) -> int:
    """A number rounded up to two significant digits."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return math.ceil(number / step) * step
