"""What layers of every size cost in onnxruntime on this machine, from a handful of measured models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.aside import one_at_a_time, read_seal, seal, write_aside
from compressor.environment import fingerprint
from compressor.errors import RecipeError
from compressor.events import Listener, Note, Warned, ignore

FORMAT = 2
SHARES = (1.0, 0.67, 0.33)
"""Shares of all heads, and of all neurons, that models are measured at, beside the fewest; time is linear between."""

DOUBTFUL = 0.15
"""Share of a measured time that a table may be off by; figures that contradict each other more are doubtful."""


@dataclass(frozen=True, order=True)
class Point:
    """A model to measure: layers that are all alike."""

    layers: int
    heads: int
    neurons: int

    @property
    def name(self) -> str:
        """Unique among points."""
        return f"{self.layers}x{self.heads}x{self.neurons}"


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds by size, of one text at a time.

    A layer costs what its attention and its feed-forward net cost, one after the other; the model costs its layers and
    ``rest_ms``: embeddings, the head, the call itself. Attention's figures hold a layer's fixed cost too.

    Attributes:
        heads: Measured numbers of heads, rising, and ``head_ms`` the milliseconds of one layer's attention there.
        neurons: Measured widths, rising, and ``neuron_ms`` the milliseconds of one layer's feed-forward net there,
            above that of the narrowest.
        teacher_ms: The teacher's fp32 file, by the same measurement.
    """

    heads: tuple[int, ...]
    head_ms: tuple[float, ...]
    neurons: tuple[int, ...]
    neuron_ms: tuple[float, ...]
    rest_ms: float
    layers: int
    teacher_ms: float

    def heads_ms(self, count: int) -> float:
        """Milliseconds of one layer's attention."""
        return float(np.interp(count, self.heads, self.head_ms))

    def neurons_ms(self, count: int) -> float:
        """Milliseconds of one layer's feed-forward net."""
        return float(np.interp(count, self.neurons, self.neuron_ms))

    def total(self, heads: Sequence[int], neurons: Sequence[int]) -> float:
        """Milliseconds of a model with these layers; one entry for each set of weights."""
        runs = self.layers / len(heads)  # of each set of weights
        return self.rest_ms + runs * (sum(map(self.heads_ms, heads)) + sum(map(self.neurons_ms, neurons)))

    def least(self) -> float:
        """Milliseconds of the smallest model in the table."""
        return self.total([self.heads[0]] * self.layers, [self.neurons[0]] * self.layers)


def points(layers: int, heads: int, neurons: int, step: int) -> tuple[Point, ...]:
    """List the models to measure: a cross through the full size, and one of a single smallest layer.

    All but the last have all layers, so that their weights overflow the caches as the student's do.

    Args:
        layers: Layers of the student.
        heads: Heads of a whole layer.
        neurons: Neurons of a whole layer.
        step: Neurons that are removed together.
    """
    few = sorted({max(1, round(share * heads)) for share in SHARES} | {1})
    whole_groups = {max(1, round(share * neurons / step)) * step for share in SHARES}
    narrow = sorted({min(step, neurons), neurons} | {count for count in whole_groups if count < neurons})
    across = {Point(layers, count, neurons) for count in few} | {Point(layers, heads, count) for count in narrow}
    return (*sorted(across), *(() if layers == 1 else (Point(1, few[0], narrow[0]),)))


def table_from(measured: Mapping[Point, float], teacher_ms: float) -> LatencyTable:
    """Split measured totals into what attention, feed-forward net and the rest cost.

    A total is ``rest + layers * (fixed + heads' steps + neurons' steps)``, with a step for each measured size above the
    smallest. All of these are found at once by non-negative least squares on relative errors (Lawson and Hanson 1974),
    so that noise makes no larger layer cheaper than a smaller one, and none cost less than nothing.

    Args:
        measured: Milliseconds of each of ``points``.
        teacher_ms: Milliseconds of the teacher.
    """
    from scipy.optimize import nnls

    heads = tuple(sorted({point.heads for point in measured}))
    neurons = tuple(sorted({point.neurons for point in measured}))

    def row(point: Point) -> list[float]:
        steps = [point.heads >= size for size in heads[1:]] + [point.neurons >= size for size in neurons[1:]]
        # With layers of one number alone, what is fixed cannot be told apart: all of it is the layers'.
        rest = float(len({other.layers for other in measured}) > 1)
        return [rest, *(float(point.layers * taken) for taken in (True, *steps))]

    times = np.array(list(measured.values()))
    found, _ = nnls(np.array([row(point) for point in measured]) / times[:, None], np.ones(len(times)))
    rest_ms, fixed, steps = float(found[0]), float(found[1]), found[2:]
    return LatencyTable(
        heads,
        tuple(fixed + float(ms) for ms in (0.0, *np.cumsum(steps[: len(heads) - 1]))),
        neurons,
        tuple(float(ms) for ms in (0.0, *np.cumsum(steps[len(heads) - 1 :]))),
        rest_ms,
        max(point.layers for point in measured),
        teacher_ms,
    )


def kept_table(
    cache_dir: Path,
    content: Mapping[str, Any],
    wanted: Sequence[Point],
    measure: Callable[[Sequence[Point]], tuple[Mapping[Point, float], float]],
    listen: Listener = ignore,
) -> LatencyTable:
    """Measure a table, or take up the one that an earlier run has measured on this machine.

    Args:
        cache_dir: Root of the cache.
        content: JSON-able; all that the figures depend on beside the machine and the versions: the teacher, shapes,
            length of the texts, threads, how the student is quantized.
        wanted: The ``points`` to measure.
        measure: Milliseconds of each point, and of the teacher. Called only where nothing is kept.
        listen: Told which of the two it was, and where the figures contradict each other. Such are kept all the same:
            other figures are another student, and an interrupted training of this one would be lost.

    Raises:
        OutputError: The cache cannot be written.
    """
    told = {"format": FORMAT, "machine": _machine(), "points": [asdict(point) for point in wanted], **content}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]
    place = cache_dir / "latencies" / digest
    with one_at_a_time(place, listen):
        facts = read_seal(place)
        if facts is None:
            measured, teacher_ms = measure(wanted)
            content = {"points": [[asdict(point), measured[point]] for point in wanted], "teacher_ms": teacher_ms}
            with write_aside(place) as aside:
                seal(aside, content)
    if facts is None:
        listen(Note(f"Latencies of {len(wanted)} layer sizes were measured on this machine, and kept in {place}."))
    else:
        measured, teacher_ms = {Point(**point): ms for point, ms in facts["points"]}, facts["teacher_ms"]
        listen(Note(f"Latencies that an earlier run measured on this machine are used: {place}"))
    table = table_from(measured, teacher_ms)
    off = misfit(table, measured)
    if off > DOUBTFUL:
        listen(
            Warned(
                f"The measured latencies of layers contradict each other by up to {off:.0%}, as where others use the "
                "machine meanwhile: the sizes chosen by them are doubtful. To measure them and train anew, when the "
                f"machine is quiet, remove {place}."
            )
        )
    return table


def misfit(table: LatencyTable, measured: Mapping[Point, float]) -> float:
    """Say by which share of its time the measured model that a table explains worst is off."""

    def told(point: Point) -> float:
        layer = table.heads_ms(point.heads) + table.neurons_ms(point.neurons)
        return table.rest_ms + point.layers * layer

    return max(abs(told(point) - ms) / ms for point, ms in measured.items())


def target_ms(table: LatencyTable, speedup: float) -> float:
    """Turn a speed-up over the teacher into milliseconds.

    Raises:
        RecipeError: Even the smallest layers are not that fast.
    """
    target = table.teacher_ms / speedup
    if target < table.least():
        raise RecipeError(
            f"--target-speedup {speedup:g}: with {table.layers} layers, one head and the narrowest feed-forward net in "
            f"each, a student is {table.teacher_ms / table.least():.1f} times as fast as its teacher here, by the "
            "measured latencies.",
            "Choose fewer layers with --layers, or a smaller target.",
        )
    return target


def _machine() -> Mapping[str, Any]:
    """What of the machine and its software decides a latency."""
    found = fingerprint()
    versions = {name: found["versions"].get(name) for name in ("compressor", "onnxruntime", "onnxruntime-gpu")}
    return {"cpu": found["cpu"], "versions": versions}
