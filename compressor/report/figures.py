"""The report's figures as inline SVG. Colours come from the page's style sheet, by class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from compressor.report import words

SERIES = {"teacher": "teacher", "teacher_onnx": "teacher-onnx", "student_onnx": "student", "student_int8": "int8"}


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels.

    Attributes:
        start: Pixel of ``low``.
        end: Pixel of ``high``.
        log: Equal ratios take equal space.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value, held inside the axis."""
        value = min(self.high, max(self.low, value))
        low, high, value = (math.log(item) if self.log else item for item in (self.low, self.high, value))
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Round values inside the axis: 1, 2, 5 and their powers of ten where it is logarithmic."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [step * 10.0**power for power in powers for step in (1, 2, 5) if self.holds(step * 10.0**power)]
        rough = (self.high - self.low) / wanted
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(item * power for item in (1, 2, 2.5, 5, 10) if item * power >= rough)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high


def verdict_strip(verdict: Mapping[str, Any], title: str = "accuracy") -> Markup:
    """The interval of the difference on a line, with no change and the margin marked."""
    found, margin = verdict["difference"], verdict["margin"]
    reach = 1.15 * max(margin, abs(found["low"]), abs(found["high"]))
    axis = Axis(-reach, reach, 20, 540)
    low, high, middle, limit = (axis.at(item) for item in (found["low"], found["high"], found["estimate"], -margin))
    told = (
        f"Difference in {title} {words.signed(found['estimate'])} points, 95% interval {words.signed(found['low'])} "
        f"to {words.signed(found['high'])}; allowed is {words.signed(-margin)}."
    )
    parts = [
        f'<rect class="allowed" x="{limit}" y="26" width="{540 - limit}" height="28" rx="3"/>',
        '<line class="axis" x1="20" x2="540" y1="40" y2="40"/>',
        f'<line class="limit" x1="{limit}" x2="{limit}" y1="20" y2="60"/>',
        f'<line class="zero" x1="{axis.at(0)}" x2="{axis.at(0)}" y1="26" y2="54"/>',
        f'<line class="interval" x1="{low}" x2="{high}" y1="40" y2="40"/>',
        *(f'<line class="interval" x1="{end}" x2="{end}" y1="33" y2="47"/>' for end in (low, high)),
        f'<circle class="estimate" cx="{middle}" cy="40" r="6"/>',
        _text(limit, 14, f"your limit {words.signed(-margin)}", "middle" if limit > 70 else "start"),
        _text(axis.at(0), 75, "no change", "middle"),
        _text(540, 75, "student better →", "end"),
        _text(20, 75, "← worse", "start"),
    ]
    return _svg(560, 84, told, parts, "strip")


def pareto(document: Mapping[str, Any]) -> Markup | None:
    """The deciding metric against the median latency of one text; ``None`` where nothing was timed."""
    own = {
        row["model"]: row
        for row in document["latency"]
        if row["batch_size"] == 1 and row["sequence_length"] is None and row["provider"] == "cpu"
    }
    models = [row for row in document["models"] if row["name"] in own]
    if not models:
        return None
    speeds = [own[row["name"]]["p50_ms"] for row in models]
    bounds = [bound for row in models for bound in row["ci95"]]
    pad = max(0.004, 0.2 * (max(bounds) - min(bounds)))
    x = Axis(min(speeds) / 1.7, max(speeds) * 2.6, 62, 560, log=True)
    y = Axis(min(bounds) - pad, min(1.0, max(bounds) + pad), 300, 24)
    share, title = document["metric"]["share"], document["metric"]["title"]
    parts = [*_grid(x, y, _milliseconds, lambda tick: _share(tick, share))]
    parts += [_text(311, 352, "median latency of one text, ms (logarithmic) – left is faster", "middle", "title")]
    parts += [_text(62, 14, f"{title} on the test split, with 95% intervals – up is better", "start", "title")]
    spots = {row["name"]: (x.at(own[row["name"]]["p50_ms"]), y.at(row["score"])) for row in models}
    # What a label must not cover: (left, top, right, bottom) of the whiskers, then of the labels themselves.
    taken: list[tuple[float, ...]] = [
        (spots[row["name"]][0] - 10, y.at(row["ci95"][1]), spots[row["name"]][0] + 10, y.at(row["ci95"][0]))
        for row in models
    ]
    for row in models:
        across = own[row["name"]]["p50_ci95"]
        if across is not None:
            top = spots[row["name"]][1]
            taken.append((x.at(across[0]), top - 5, x.at(across[1]), top + 5))
    for row in sorted(models, key=lambda row: own[row["name"]]["p50_ms"]):
        left, top = spots[row["name"]]
        low, high = (y.at(bound) for bound in row["ci95"])
        parts += [
            f'<g class="series {SERIES.get(row["name"], "other")}">',
            f'<line class="whisker" x1="{left}" x2="{left}" y1="{low}" y2="{high}"/>',
            *(f'<line class="whisker" x1="{left - 5}" x2="{left + 5}" y1="{end}" y2="{end}"/>' for end in (low, high)),
            _whisker_across(own[row["name"]]["p50_ci95"], x, top),
            _marker(row["name"], left, top),
            *_callout(row, words.score(row["score"], share), left, top, taken),
            "</g>",
        ]
    told = "; ".join(
        f"{row['title']}: {words.score(row['score'], share)} at {words.millis(own[row['name']]['p50_ms'])}"
        for row in models
    )
    return _svg(580, 360, f"Accuracy against latency. {told}.", parts, "pareto")


def training(curve: Mapping[str, Any], metric: Mapping[str, Any]) -> Markup | None:
    """Loss, and the scores on validation rows, over the steps; ``None`` where too little was logged."""
    evaluations = [item for item in curve["evaluations"] if "step" in item]
    if len(curve["steps"]) < 2 and len(evaluations) < 2:
        return None
    last = max([*curve["steps"], *(item["step"] for item in evaluations)])
    x = Axis(0, last, 56, 560)
    parts: list[str] = []
    told = []
    if len(curve["steps"]) > 1:
        y = Axis(0, 1.08 * max(curve["losses"]), 170, 26)
        parts += [*_grid(x, y, lambda tick: "", lambda tick: f"{tick:g}", wanted=3)]
        parts += [
            _text(56, 16, "training loss", "start", "title"),
            _line("loss", curve["steps"], curve["losses"], x, y),
        ]
        told += [f"Training loss from {curve['losses'][0]:.2f} to {curve['losses'][-1]:.2f} in {last:,.0f} steps"]
    titles = {metric["name"]: ("accuracy", metric["title"]), "agreement": ("agreement", "agreement")}
    lines = {name: [(item["step"], item[name]) for item in evaluations if name in item] for name in titles}
    lines = {name: points for name, points in lines.items() if points}
    if lines:
        values = [value for points in lines.values() for _, value in points]
        y = Axis(min(values) - 0.02, min(1.0, max(values) + 0.02), 360, 222)
        parts += [*_grid(x, y, lambda tick: f"{tick:,.0f}", lambda tick: _share(tick, metric["share"]), wanted=5)]
        parts += [_text(56, 206, "on validation rows:", "start", "title")]
        left = 196.0
        for key, points in lines.items():
            name, title = titles[key]
            parts += [
                f'<line class="line {name}" x1="{left}" x2="{left + 18}" y1="202" y2="202"/>',
                _text(left + 24, 206, title, "start"),
                _line(name, [step for step, _ in points], [value for _, value in points], x, y),
                *(f'<circle class="dot {name}" cx="{x.at(a)}" cy="{y.at(b)}" r="4"/>' for a, b in points),
            ]
            left += 44 + 7.2 * len(title)
            first, final = (words.score(points[place][1], metric["share"]) for place in (0, -1))
            told += [f"validation {title} from {first} to {final}"]
    parts += [_text(560, 394 if lines else 196, "optimizer steps", "end", "title")]
    return _svg(580, 402 if lines else 204, "; ".join(told) + ".", parts, "training")


def _grid(x: Axis, y: Axis, name_x: Any, name_y: Any, wanted: int = 5) -> Iterator[str]:
    for tick in y.ticks(wanted):
        yield f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y.at(tick)}" y2="{y.at(tick)}"/>'
        yield _text(x.start - 8, y.at(tick) + 4, name_y(tick), "end")
    for tick in x.ticks():
        yield f'<line class="grid" x1="{x.at(tick)}" x2="{x.at(tick)}" y1="{y.start}" y2="{y.end}"/>'
        yield _text(x.at(tick), y.start + 18, name_x(tick), "middle")


def _milliseconds(tick: float) -> str:
    return f"{tick:g}"


def _share(tick: float, share: bool) -> str:
    return f"{100 * tick:.4g}%" if share else f"{tick:.3g}"


def _line(name: str, steps: Sequence[float], values: Sequence[float], x: Axis, y: Axis) -> str:
    points = " ".join(f"{x.at(step)},{y.at(value)}" for step, value in zip(steps, values, strict=True))
    return f'<polyline class="line {name}" points="{points}"/>'


def _whisker_across(interval: Sequence[float] | None, x: Axis, top: float) -> str:
    if interval is None:
        return ""
    return f'<line class="whisker" x1="{x.at(interval[0])}" x2="{x.at(interval[1])}" y1="{top}" y2="{top}"/>'


def _marker(name: str, left: float, top: float) -> str:
    # Shape as well as colour, for readers who see no difference between the colours.
    if name.startswith("teacher"):
        return f'<rect class="marker" x="{left - 7}" y="{top - 7}" width="14" height="14" rx="2"/>'
    return f'<circle class="marker" cx="{left}" cy="{top}" r="8"/>'


def _callout(
    row: Mapping[str, Any], score: str, left: float, top: float, taken: list[tuple[float, ...]]
) -> Iterator[str]:
    """Name a point at the nearest place that covers least; ``taken`` grows by that place."""
    lines = (row["title"], f"{score}, {words.megabytes(row['size_bytes'])}")
    width = 7.8 * max(len(line) for line in lines)
    places = [
        (start, first)
        for away in range(0, 130, 4)
        for first in (top - 8 - away, top + 4 + away)
        for start in (left + 13, left - 13 - width, min(max(left - width / 2, 62), 576 - width))
        if start >= 62 and start + width <= 576 and 30 <= first <= 280
    ]
    boxes = [(start, first - 12, start + width + 6, first + 18) for start, first in places]
    box = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken))
    taken.append(box)
    yield _text(box[0], box[1] + 12, lines[0], "start", "name")
    yield _text(box[0], box[1] + 27, lines[1], "start")


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """The area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def _text(left: float, top: float, text: str, anchor: str, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{left}" y="{top}" text-anchor="{anchor}">{escape(text)}</text>' if text else ""


def _svg(width: int, height: int, told: str, parts: Sequence[str], kind: str) -> Markup:
    # Every text among the parts went through ``_text``; all else are numbers and class names.
    body = "".join(parts)
    return Markup(  # noqa: S704
        f'<svg class="figure {kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(told)}">{body}</svg>'
    )
