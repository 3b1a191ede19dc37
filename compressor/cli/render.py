"""What the terminal shows: progress while a run goes on, and its result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from compressor.events import Event, Listener, Note, StageEnded, StageStarted, Warned, ignore
from compressor.events import Progress as Step

if TYPE_CHECKING:
    from compressor.artifacts import Run

PLAIN_SECONDS = 20.0
"""Where there is no terminal: a line of progress at most this often."""


@contextmanager
def listener(*, quiet: bool) -> Iterator[Listener]:
    """Show events on standard error: a live bar on a terminal, plain lines elsewhere."""
    if quiet:
        yield ignore
        return
    console = Console(stderr=True, highlight=False)
    with Progress(
        TextColumn("  {task.description:<12}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bars:
        yield _Screen(console, bars)


class _Screen:
    """Turns events into lines and bars."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._told = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage, detail):
                self._line((f"{stage:<12}", "bold"), f" {detail}")
            case StageEnded(stage, seconds, detail):
                self._forget(stage)
                self._line((f"{'':<10}ok", "green"), f" {detail + ', ' if detail else ''}{_duration(seconds)}")
            case Note(text):
                self._line((f"{'':<12} {text}", "dim"))
            case Warned(text):
                self._line((f"{'warning':<12} {text}", "yellow"))
            case Step():
                self._step(event)

    def _step(self, event: Step) -> None:
        figures = "  ".join(f"{name} {value:.3f}" for name, value in event.figures.items())
        if self._bars.disable:
            if time.monotonic() - self._told >= PLAIN_SECONDS:
                self._told = time.monotonic()
                self._line(f"{'':<12} {event.stage} {event.step}/{event.total}  {figures}")
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(event.stage, total=event.total, figures="")
        self._bars.update(self._tasks[event.stage], completed=event.step, total=event.total, figures=figures)
        if event.step >= event.total:
            self._forget(event.stage)

    def _forget(self, stage: str) -> None:
        task = self._tasks.pop(stage, None)
        if task is not None:
            self._bars.remove_task(task)

    def _line(self, *parts: str | tuple[str, str]) -> None:
        # Text, not markup: names of labels and folders may hold square brackets.
        self._console.print(Text.assemble(*parts), soft_wrap=True)


def show_result(run: Run) -> None:
    """Print verdict, table of models and where the report is."""
    console = Console(highlight=False)
    report = run.report
    console.print()
    console.print(Text(report["verdict"]["sentence"], "bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("model", "size", report["metric"]["title"], "95% interval", "agrees", "latency", "speed-up"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in report["models"]:
        table.add_row(*_model_cells(row, report))
    console.print(table)
    if report["latency"]:
        caption = "Latency: median of one text at the test split's own lengths; speed-up over teacher_onnx."
        console.print(Text(caption, "dim"))
    console.print()
    console.print(Text(f"Model   {run.output_dir}"), soft_wrap=True)
    console.print(Text(f"Report  {run.output_dir / 'report' / 'report.html'}"), soft_wrap=True)


def _model_cells(row: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    own = {
        item["model"]: item["p50_ms"]
        for item in report["latency"]
        if item["batch_size"] == 1 and item["sequence_length"] is None and item["provider"] == "cpu"
    }
    base, mine = own.get("teacher_onnx"), own.get(row["name"])
    low, high = row["ci95"]
    share, agreement = report["metric"]["share"], row["agreement_with_teacher"]
    return [
        row["name"],
        f"{row['size_bytes'] / 1e6:.1f} MB",
        f"{row['score']:.2%}" if share else f"{row['score']:.4f}",
        f"{low:.1%} - {high:.1%}" if share else f"{low:.3f} - {high:.3f}",
        "-" if agreement is None else f"{agreement:.1%}",
        f"{mine:.2f} ms" if mine else "-",
        f"{base / mine:.2f}x" if base and mine else "-",
    ]


def show_plan(plan: Any) -> None:
    """Print what a run would do."""
    console = Console(highlight=False)
    for name, value in plan.lines():
        console.print(Text(f"{name:<12} {value}"), soft_wrap=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
