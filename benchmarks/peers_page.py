"""The page and the picture of ``peers.py``: times over ours, accuracy, and shares of the machine's bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import export_cost_page
from benchmarks.peers_build import CELLS, COPY, OURS, PEERS, Peer, Precision
from compressor.artifacts import LatencyRow, MachineBounds
from compressor.benchmark import Ratio, encoder_flops, floor_ms, verdict
from compressor.benchmark.intervals import spread
from compressor.benchmark.summary import median_interval, noise_floor, ratio

DOCS = Path(__file__).resolve().parent.parent / "docs"
# A peer that loses more than this against torch is shown, but is not one to be beaten.
MOST_LOST = 0.01
GOAL = 1.10
TITLES: Mapping[Precision, str] = {"fp32": "fp32", "int8": "int8"}
BYTES: Mapping[Precision, int] = {"fp32": 4, "int8": 1}
INTRODUCTION = """# Peers

Written by `python benchmarks/peers.py --render` from `benchmarks/results/peers.json`: the same model, exported and
quantized by each tool in an environment of its own, run with equal threads on the same token ids. In each round every
tool has a fresh process, and all of them take turns of a few calls, so that what slows the machine slows all. A ratio
is a tool's time over ours at the same precision: **above 1 we are faster**, below 1 the tool is. In brackets the 95%
interval over rounds. `clinc150` and `mr` are test texts at their own lengths, one at a time; `8x32` is a batch of 8
texts with 32 tokens. The mean is geometric over all columns.

torch runs under transformers 4.57, ONNX files of peers in plain onnxruntime with its defaults (what tools wrap around
it only adds time), OpenVINO for latency, ours in `compressor.runtime`. Accuracy is that of clinc150's test texts, one
at a time; *as torch* are the labels that equal those of the fp32 model in torch. A tool that loses more than one point
against torch is shown, but does not count as the best.
"""
BOUNDS = """
### Share of the machine's bound

The least time that the encoder's arithmetic takes at this machine's fp32 matrix-product rate, or that reading its
weights once takes, whichever is longer, over the time measured; both rates are measured at the start of each round
(median: {gflops:.0f} GFLOP/s, {bandwidth:.1f} GB/s). int8 arithmetic has a higher rate and may pass 100%.
"""


@dataclass(frozen=True)
class Table:
    """All rounds of one model, and what its files answer."""

    model: str
    rounds: Sequence[Mapping[str, Any]]
    answers: Mapping[str, Mapping[str, Any]]

    @property
    def cells(self) -> list[str]:
        """Names of what was timed, in the order of its tokens."""
        return list(CELLS)

    @property
    def peers(self) -> list[Peer]:
        """Who took part in every round, the copy left out."""
        return [peer for peer in PEERS if peer.name != COPY and all(peer.name in one["peers"] for one in self.rounds)]

    def row(self, peer: str, cell: str) -> LatencyRow:
        """The medians of a peer's processes."""
        place = self.cells.index(cell)
        medians = tuple(one["peers"][peer]["cells"][cell]["median_ms"] for one in self.rounds)
        count, size = len(medians), self.rounds[0]["batches"][place]
        return LatencyRow(peer, "cpu", 0, size, None, medians, count, (1,) * count, self.rounds[0]["tokens"][place])

    def ratio(self, peer: Peer, cell: str) -> Ratio:
        """A peer's time over ours of the same precision."""
        return ratio(self.row(peer.name, cell), self.row(OURS[peer.precision], cell))

    def mean(self, peer: Peer) -> Ratio:
        """The geometric mean over cells, its interval over rounds."""
        logs = np.mean([np.log(self._medians(peer.name, cell) / self._medians(OURS[peer.precision], cell))
                        for cell in self.cells], axis=0)  # fmt: skip
        found = spread(logs)
        return Ratio(float(np.exp(logs[0])), None, None) if found is None else Ratio(*found.ratio())

    @property
    def floor(self) -> float:
        """What a model differs by from its own copy."""
        return noise_floor([(self.row(OURS["int8"], cell), self.row(COPY, cell)) for cell in self.cells])

    @property
    def bounds(self) -> MachineBounds:
        """Medians over rounds."""
        found = [one["bounds"] for one in self.rounds]
        rates = {name: float(np.median([one[name] for one in found])) for name in ("gflops", "bandwidth")}
        return MachineBounds(found[0]["threads"], **rates)

    def share(self, peer: Peer, cell: str) -> float:
        """The bound over the time of a peer."""
        sizes, row = self.rounds[0]["sizes"], self.row(peer.name, cell)
        layers, hidden, intermediate = (sizes[name] for name in ("layers", "hidden", "intermediate"))
        # Only ours computes the last layer for one token; the bound is that of the work which there has to be.
        flops = encoder_flops(layers, hidden, intermediate, row.batch_size, round(row.tokens), one_token=True)
        weights = layers * (4 * hidden**2 + 2 * hidden * intermediate) * BYTES[peer.precision]
        return floor_ms(flops, weights, self.bounds) / float(np.median(row.samples))

    def accuracy(self, peer: Peer) -> float | None:
        """Share of right labels; ``None`` for a model that knows none."""
        found = self.answers.get(peer.name)
        return found["right"] / found["texts"] if found else None

    def counts(self, peer: Peer) -> bool:
        """Whether a peer keeps its accuracy."""
        mine, torch = self.accuracy(peer), self.answers.get("torch")
        return mine is None or torch is None or mine >= torch["right"] / torch["texts"] - MOST_LOST

    def _medians(self, peer: str, cell: str) -> Any:
        return np.array(self.row(peer, cell).samples)


def tables(results: Mapping[str, Any]) -> list[Table]:
    """One table for each model and set of peers, in the order of the results."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for name, unit in results.items():
        if ": round " in name:
            found.setdefault(name.rpartition(": round ")[0], []).append(unit)
    return [
        Table(name, rounds, {unit.partition(": ")[2]: answer for unit, answer in results.items()
                             if unit.startswith(f"{name.partition(',')[0]}: ")})
        for name, rounds in found.items()
    ]  # fmt: skip


def write(results: Mapping[str, Any]) -> Path:
    """Write the page and its picture.

    Raises:
        SystemExit: matplotlib is missing, or nothing was measured.
    """
    found = tables(results)
    if not found:
        raise SystemExit("benchmarks/results/peers.json holds no finished round.")
    page = DOCS / "peers.md"
    page.write_text(render(found), encoding="utf-8")
    draw(found, DOCS / "peers.png")
    return page


def render(found: Sequence[Table]) -> str:
    """Lay everything out as Markdown."""
    lines = [INTRODUCTION, "![Times of all tools over ours](peers.png)", ""]
    for table in found:
        sizes, cpu = table.rounds[0]["sizes"], table.rounds[0]["environment"]["cpu"]
        lines += [
            f"## {sizes['layers']} layers of {sizes['hidden']} ({table.model})", "",
            f"{cpu['model']}, {cpu['instruction_set']}, {table.bounds.threads} threads, {len(table.rounds)} rounds. "
            f"A model against its own copy differs by {table.floor:.1%}: smaller differences are none.", "",
        ]  # fmt: skip
        for precision in TITLES:
            lines += _comparison(table, precision)
        lines += _bounds(table)
    return "\n".join([*lines, export_cost_page.render()])


def _comparison(table: Table, precision: Precision) -> list[str]:
    peers = [peer for peer in table.peers if peer.precision == precision]
    ranked = sorted(peers, key=lambda peer: table.mean(peer).value)
    known = table.accuracy(peers[0]) is not None
    head = ["tool", *table.cells, "mean", *(["accuracy", "as torch"] if known else [])]
    lines = [f"### {TITLES[precision]}", "", *_header(head)]
    for peer in ranked:
        ours = peer.name == OURS[precision]
        figures = [_ms(table.row(peer.name, cell)) if ours else _told(table.ratio(peer, cell)) for cell in table.cells]
        figures.append("1" if ours else f"**{_told(table.mean(peer))}**")
        if known:
            answer = table.answers[peer.name]
            figures += [f"{table.accuracy(peer):.2%}", f"{answer['as_torch'] / answer['texts']:.2%}"]
        title = f"**{peer.title}**, ms" if ours else peer.title + ("" if table.counts(peer) else " (loses accuracy)")
        lines.append(f"| {title} | {' | '.join(figures)} |")
    return [*lines, "", *_conclusion(table, [peer for peer in ranked if peer.environment != "ours"], precision), ""]


def _conclusion(table: Table, peers: Sequence[Peer], precision: Precision) -> list[str]:
    counted = [peer for peer in peers if table.counts(peer)]
    if not counted:
        return []
    best = counted[0]
    mean = table.mean(best)
    goal = "met" if mean.value >= GOAL else "missed"
    lines = [
        f"Best peer in {precision} over all shapes: {best.title}, {_told(mean)} of our time (goal: {GOAL:.2f}, {goal})."
    ]
    faster = []
    for cell in table.cells:
        first = min(counted, key=lambda peer: table.ratio(peer, cell).value)
        found = table.ratio(first, cell)
        if verdict(found, table.floor) == "slower":
            faster.append(f"{cell}: {first.title}, {_told(found)}")
    lines.append(f"A peer is faster at {'; '.join(faster)}." if faster else "No peer is faster in any column.")
    return lines


def _bounds(table: Table) -> list[str]:
    bounds = table.bounds
    lines = [BOUNDS.format(gflops=bounds.gflops, bandwidth=bounds.bandwidth), *_header(["tool", *table.cells])]
    for peer in sorted(table.peers, key=lambda peer: (peer.precision, -table.share(peer, table.cells[-1]))):
        shares = " | ".join(f"{table.share(peer, cell):.0%}" for cell in table.cells)
        lines.append(f"| {peer.title} | {shares} |")
    return [*lines, ""]


def _header(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|---|{'---:|' * (len(names) - 1)}"]


def _told(found: Ratio) -> str:
    value = f"{found.value:.2f}"
    return value if found.low is None or found.high is None else f"{value} ({found.low:.2f}–{found.high:.2f})"


def _ms(row: LatencyRow) -> str:
    value, interval = float(np.median(row.samples)), median_interval(row)
    digits = 1 if value >= 10 else 2
    return f"{value:.{digits}f}" + (f" ({interval[0]:.{digits}f}–{interval[1]:.{digits}f})" if interval else "")


def draw(found: Sequence[Table], path: Path) -> None:
    """One panel for each model and precision: each tool's mean with its interval, and its columns as dots."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit(f"{path} needs matplotlib: pip install matplotlib. The page itself is written.") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [(table, precision) for table in found for precision in TITLES]
    heights = [sum(peer.precision == precision for peer in table.peers) + 1 for table, precision in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, 0.36 * sum(heights) + 0.7 * len(panels)), layout="constrained", squeeze=False,
        height_ratios=heights,
    )  # fmt: skip
    for (table, precision), axis in zip(panels, axes[:, 0], strict=True):
        peers = [peer for peer in table.peers if peer.precision == precision and peer.name != OURS[precision]]
        ranked = sorted(peers, key=lambda peer: -table.mean(peer).value)
        for place, peer in enumerate(ranked):
            mean = table.mean(peer)
            colour = "#1f6f8b" if table.counts(peer) else "#b0b0b0"
            dots = [table.ratio(peer, cell).value for cell in table.cells]
            axis.scatter(dots, [place] * len(dots), s=12, color="#c9c9c9", zorder=2)
            axis.plot([mean.low or mean.value, mean.high or mean.value], [place, place], color=colour, lw=3, zorder=3)
            axis.scatter([mean.value], [place], s=36, color=colour, zorder=4)
            axis.annotate(f"{mean.value:.2f}", (mean.value, place), (0, 6), textcoords="offset points", ha="center",
                          fontsize=8, color=colour)  # fmt: skip
        axis.set_yticks(range(len(ranked)), [_label(table, peer) for peer in ranked])
        axis.set_ylim(-0.7, len(ranked) - 0.1)
        axis.axvline(1, color="#d1495b", lw=1.2, zorder=1)
        axis.set_xscale("log")
        ends = axis.get_xlim()
        ticks = [tick for tick in (0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 6, 8) if ends[0] <= tick <= ends[1]]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        sizes = table.rounds[0]["sizes"]
        axis.set_title(
            f"{sizes['layers']} layers of {sizes['hidden']}, {precision}: time over ours (right of the line: slower)",
            fontsize=10, loc="left",
        )  # fmt: skip
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def _label(table: Table, peer: Peer) -> str:
    accuracy = table.accuracy(peer)
    return peer.title if accuracy is None else f"{peer.title}, {accuracy:.1%}"
