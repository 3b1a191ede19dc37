"""From the file that was asked for up to fp32, until one keeps its accuracy.

Each step of ``STEPS`` proposes files that are finer than the best one so far. What a file changes is measured on
validation texts, against the fp32 student: the drop of the task's metric, and the share of decisions that flip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from compressor.answers import Answers
from compressor.artifacts import Ladder, QuantizedModel, Rung
from compressor.errors import QuantizationError
from compressor.events import Listener, Note, Progress, Warned, ignore
from compressor.graph import files as onnx_files
from compressor.graph import modes, quantize, targets
from compressor.graph.calibration import Calibration
from compressor.graph.modes import MODES, Plan
from compressor.graph.quantize import Made, Source
from compressor.runtime.machine import detect_target
from compressor.tasks import Kind, Task

# The likeliest of many tokens, or pieces, has close rivals: more of these decisions are near-ties.
_MANY = 0.10
MOST_FLIPS: Mapping[Kind, float] = {"question-answering": _MANY, "fill-mask": _MANY}
_MOST_FLIPS = 0.02
_PROBED_TEXTS = 128

Score = Callable[[Answers], float]
"""From answers about the validation texts to the task's metric."""


@dataclass(frozen=True)
class Limits:
    """What a file may change, as shares.

    Attributes:
        drop: Of the metric.
        flips: Of decisions.
    """

    drop: float
    flips: float

    @staticmethod
    def of(kind: Kind, max_drop: float, max_flips: float | None) -> Limits:
        """From points and per cent, as the recipe has them."""
        return Limits(max_drop / 100, MOST_FLIPS.get(kind, _MOST_FLIPS) if max_flips is None else max_flips / 100)


@dataclass(frozen=True)
class Climbed:
    """Where a climb ended.

    Attributes:
        model: The file that was kept; ``None`` where only fp32 is within the limits.
        ladder: All that was tried.
        rejected: The best of the files that were over the limits, where none was kept and one was not broken.
    """

    model: QuantizedModel | None
    ladder: Ladder
    rejected: Path | None = None


def climb(
    source: Source,
    path: Path,
    *,
    mode: str,
    target: str,
    limits: Limits,
    score: Score | None = None,
    metric: tuple[str, bool] = ("accuracy", True),
    listen: Listener = ignore,
) -> Climbed:
    """Try finer and finer files until one is within the limits.

    Args:
        source: The fp32 file, and what it says.
        path: Where the kept file goes; the best one so far is always there, or the best rejected one in the end.
        mode: A key of ``modes.MODES``.
        target: What the weights are chosen for.
        limits: What a file may change.
        score: Judges answers; ``None`` where only flips can.
        metric: What ``score`` computes, in words, and whether it is a share.
        listen: Hears of each rung, and where the climb ended.

    Raises:
        QuantizationError: Never for a file that is broken or refused: those are rungs.
    """
    with tempfile.TemporaryDirectory(prefix="ladder-", dir=path.parent) as place:
        climber = _Climber(source, path, Path(place) / path.name, target, limits, score, listen)
        made = climber.climb(targets.first_plan(mode, target))
    if made is None:
        climber.end_in_fp32()
    ladder = Ladder(
        mode=mode,
        metric=metric[0],
        share=metric[1],
        rows=len(source.answers),
        max_drop=limits.drop,
        max_flips=limits.flips,
        rungs=tuple(climber.rungs),
        effects=tuple(climber.effects),
    )
    if made is None:
        return Climbed(None, ladder, path if climber.best is not None else None)
    return Climbed(quantize.announce(made, source, target, listen), ladder)


@dataclass
class _Climber:
    source: Source
    path: Path
    candidate: Path
    target: str
    limits: Limits
    score: Score | None
    listen: Listener
    best: Made | None = None
    worth: tuple[float, float] = (np.inf, np.inf)
    rungs: list[Rung] = field(default_factory=list)
    effects: list[tuple[str, float]] = field(default_factory=list)
    reference: float | None = None

    def climb(self, plan: Plan) -> Made | None:
        """Try the steps in their order; the first file within the limits ends the climb."""
        self.reference = self.score(self.source.answers) if self.score else None
        for name, step in STEPS:
            for finer in step(self, self.best.plan if self.best is not None else plan):
                if self.try_plan(name, finer):
                    return self.best
        return None

    def try_plan(self, name: str, plan: Plan) -> bool:
        """Write and judge a file; the best one so far stays. Tell whether it is within the limits."""
        try:
            made = quantize.make(self.source, self.candidate, plan)
        except QuantizationError as error:
            self.add(Rung(name, _detail(plan), None, None, None, None, "broken", error.message))
            return False
        # 1 - sense: single decisions, where a row has several; for numbers, what the correlation lacks to 1.
        flips = 1 - made.agreement.sense
        found = self.score(made.answers) if self.score else None
        drop = None if found is None or self.reference is None else self.reference - found
        faults = self.faults(drop, flips)
        size = onnx_files.file_bytes(made.path)
        if not faults or (flips, drop or 0.0) < self.worth:
            self.best, self.worth = replace(made, path=self.path), (flips, drop or 0.0)
            for part in (self.candidate, self.candidate.with_name(f"{self.candidate.name}.data")):
                if part.exists():
                    part.replace(self.path.parent / part.name)
        verdict: Literal["kept", "over the limits"] = "over the limits" if faults else "kept"
        self.add(Rung(name, _detail(plan), size, found, drop, flips, verdict, "; ".join(faults)))
        return not faults

    def faults(self, drop: float | None, flips: float) -> list[str]:
        """Why a file is over the limits. One changed row is never held against it: it says nothing."""
        one = 1 / max(1, len(self.source.answers))
        found = []
        if not flips <= max(self.limits.flips, one) + 1e-9:
            found.append(f"{flips:.2%} of decisions flip, {self.limits.flips:.2%} may")
        if drop is not None and not drop <= max(self.limits.drop, one) + 1e-9:
            found.append(f"{100 * drop:.2f} points lost, {100 * self.limits.drop:g} may be")
        return found

    def add(self, rung: Rung) -> None:
        self.rungs.append(rung)
        if rung.verdict != "kept":
            self.listen(Note(f"Ladder, {rung.name} ({rung.detail}): {rung.reason or rung.verdict}."))
        elif len(self.rungs) > 1:
            self.listen(Note(f"Ladder, {rung.name} ({rung.detail}): within the limits."))

    def end_in_fp32(self) -> None:
        """The last rung, which every folder has anyway."""
        if self.best is None:
            nearest = "Every smaller file was broken."
        else:
            rung = min((item for item in self.rungs if item.flips is not None), key=lambda item: item.flips or 0.0)
            nearest = f"The nearest one, {rung.name} ({rung.detail}): {rung.reason}; it is kept aside."
        size = onnx_files.file_bytes(self.source.path)
        self.rungs.append(Rung("fp32", "as trained", size, self.reference, 0.0, 0.0, "kept"))
        self.listen(
            Warned(
                f"No smaller file is within the limits: the student ships in fp32. {nearest} "
                "Raise --max-drop or --max-flips to accept it, or try another --quantize-mode."
            )
        )

    def measure_effects(self, plan: Plan) -> list[tuple[str, float]]:
        """What rounding one product alone does to the outputs, for each product; the largest first."""
        source, everything = self.source, frozenset(self.source.products)
        batches, rows = [], 0
        for batch in source.batches:
            batches.append(batch)
            rows += len(batch["input_ids"])
            if rows >= _PROBED_TEXTS:
                break
        before, probed = source.answers.select(range(rows)), Calibration(lambda: batches)
        found = {}
        for done, module in enumerate(source.products, 1):
            try:
                alone = replace(plan, keep=everything - {module})
                modes.write(source.path, self.candidate, alone, probed)
                found[module] = _distance(source.task, before, quantize.ask(self.candidate, batches, source.task))
            except QuantizationError:
                found[module] = np.inf
            self.listen(Progress("quantize", done, len(everything), {}))
        self.candidate.unlink(missing_ok=True)
        return sorted(found.items(), key=lambda item: -item[1])


def _distance(task: Task, before: Answers, after: Answers) -> float:
    """Root mean square of the outputs' differences; of a masked token, of the right piece's log-probability."""
    width = 1 if task.kind == "fill-mask" else None
    differences = before.values[:, :width].astype(np.float64) - after.values[:, :width]
    found = float(np.sqrt(np.mean(differences**2)))
    return found if np.isfinite(found) else np.inf


def _as_asked(_: _Climber, plan: Plan) -> Iterator[Plan]:
    yield plan


def _per_token(_: _Climber, plan: Plan) -> Iterator[Plan]:
    """One scale for a whole batch is the coarsest way to round activations; fixed steps come from a few texts."""
    if plan.mode in ("dynamic", "smooth"):
        yield replace(plan, mode="per-token")


def _bounded(_: _Climber, plan: Plan) -> Iterator[Plan]:
    """Where the kernel here loses sums of full-range weights."""
    if targets.can_saturate(plan, detect_target()):
        yield replace(plan, weights="bounded")


def _unsigned(_: _Climber, plan: Plan) -> Iterator[Plan]:
    """What bounded weights gave up for a fast kernel, back in a slower one."""
    if MODES[plan.mode].integer and plan.mode != "static" and plan.weights == "bounded":
        yield replace(plan, weights="unsigned")


def _eight_bits(_: _Climber, plan: Plan) -> Iterator[Plan]:
    if plan.mode == "weight-only-int4" and plan.bits < 8:
        yield replace(plan, bits=8)


def _sensitive(climber: _Climber, plan: Plan) -> Iterator[Plan]:
    """One, two, four, ... of the most sensitive products in fp32, up to half of them."""
    climber.effects += climber.measure_effects(plan)
    order = [module for module, _ in climber.effects]
    count = 1
    while count <= len(order) // 2:
        yield replace(plan, keep=frozenset(order[:count]))
        count *= 2


Step = Callable[[_Climber, Plan], Iterator[Plan]]
STEPS: tuple[tuple[str, Step], ...] = (
    ("as asked", _as_asked),
    ("one scale per token", _per_token),
    ("bounded weights", _bounded),
    ("unsigned weights", _unsigned),
    ("8-bit weights", _eight_bits),
    ("sensitive products in fp32", _sensitive),
)


def _detail(plan: Plan) -> str:
    words = f"{plan.mode}, {MODES[plan.mode].weights(plan)}"
    return f"{words}; in fp32: {', '.join(sorted(plan.keep))}" if plan.keep else words
