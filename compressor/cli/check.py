"""``compress check``: the gate for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Switch = Annotated[bool, Parameter(negative="")]


def check(
    folder: Path,
    *,
    max_drop: float = 1.0,
    min_speedup: float | None = None,
    max_growth: float = 5.0,
    baseline: Path | None = None,
    data: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    tokens_column: str | None = None,
    tags_column: str | None = None,
    teacher: Path | None = None,
    no_timing: Switch = False,
    threads: int | None = None,
    rounds: int = 3,
    output: Path | None = None,
    quiet: Switch = False,
) -> int:
    """Check a run before it goes out; exit code 1 where a rule fails.

    Args:
        folder: A folder that compress has written.
        max_drop: Largest drop in the deciding metric, in points, against the teacher and the baseline.
        min_speedup: Smallest speed-up over the teacher in onnxruntime.
        max_growth: Largest growth of the shipped file against the baseline, in per cent.
        baseline: The report.json, or the folder, of the run that is out now.
        data: Text to measure the score on: a file of test rows, or what the run was made with.
        text_column: Column with the text. Default: that of the run.
        label_column: Column with the label. Default: that of the run.
        pair_column: Column with the second text of a pair. Default: that of the run.
        tokens_column: Column with the words of token classification. Default: that of the run.
        tags_column: Column with their tags. Default: that of the run.
        teacher: The teacher, an ONNX file or a Hugging Face folder, to measure the speed-up here.
        no_timing: Measure no latency.
        threads: Threads of every measured model. Default: those of the report, as far as they are here.
        rounds: Fresh processes per measured model.
        output: Write the table as Markdown there, as for a job summary.
        quiet: Print only the table.
    """
    from compressor.cli import render
    from compressor.cli.flags import section
    from compressor.cli.output import write_text
    from compressor.cli.tables import show_lines, show_table
    from compressor.recipe import BenchmarkRecipe, DataRecipe
    from compressor.upkeep.check import CheckRequest
    from compressor.upkeep.check import check as run
    from compressor.upkeep.gates import markdown

    section(BenchmarkRecipe, threads=threads, rounds=rounds)
    request = CheckRequest(
        folder=folder,
        max_drop=max_drop,
        min_speedup=min_speedup,
        max_growth=max_growth,
        baseline=baseline,
        data=section(
            DataRecipe,
            source=data,
            text_column=text_column,
            label_column=label_column,
            pair_column=pair_column,
            tokens_column=tokens_column,
            tags_column=tags_column,
        ),
        teacher=teacher,
        timing=not no_timing,
        threads=threads,
        rounds=rounds,
    )
    with render.listener(quiet=quiet) as listen:
        gates = run(request, listen)
    show_table(("check", "", "why"), [(gate.name, gate.status, gate.reason) for gate in gates], numbers=False)
    failed = [gate.name for gate in gates if gate.status == "FAIL"]
    show_lines([f"Failed: {', '.join(failed)}." if failed else "Nothing failed."])
    if output is not None:
        write_text(output, markdown(gates))
    return 1 if failed else 0
