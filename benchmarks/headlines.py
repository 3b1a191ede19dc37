"""Print the README's table of results from finished run folders.

    python benchmarks/headlines.py exported/demo exported/mpnet-mr

Every figure is read from the runs' own ``report/report.json``; nothing is measured here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from compressor.upkeep.past import read_report

HEADER = (
    "| run | test rows | teacher | student int8 | difference (95%) | file | 1 text, own lengths | speed-up |\n"
    "|---|---|---|---|---|---|---|---|"
)


def line(report: dict[str, Any]) -> str:
    """Lay out one run as a row of the table."""
    models = {row["name"]: row for row in report["models"]}
    teacher, student = models["teacher_onnx"], models[report["verdict"]["model"]]
    own = {
        row["model"]: row["p50_ms"]
        for row in report["latency"]
        if row["batch_size"] == 1 and row["sequence_length"] is None and row["provider"] == "cpu"
    }
    difference = report["verdict"]["difference"]
    before, after = own["teacher_onnx"], own[student["name"]]
    return " | ".join(
        (
            f"| {report['title']}",
            f"{report['verdict']['rows']:,}",
            f"{teacher['score']:.1%}",
            f"{student['score']:.1%}",
            f"{100 * difference['estimate']:+.1f} ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})",
            f"{teacher['size_bytes'] / 1e6:.0f} -> {student['size_bytes'] / 1e6:.0f} MB",
            f"{before:.1f} -> {after:.2f} ms",
            f"{before / after:.1f}x |",
        )
    )


def main() -> None:
    """Read the reports named on the command line and print one row each."""
    print(HEADER)
    for folder in sys.argv[1:]:
        print(line(read_report(Path(folder))))


if __name__ == "__main__":
    main()
