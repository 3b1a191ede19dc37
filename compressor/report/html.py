"""report.html: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from compressor.report import figures, words
from compressor.report.caveats import cell_name
from compressor.report.markdown import company_in_words, fate, ladder_rows

MARKS = {
    "ship": ("yes", "✓", "Ship it"),
    "do not ship": ("no", "✕", "Do not ship"),
    "cannot tell": ("open", "?", "Cannot tell yet"),
}
MOST_CONFUSIONS = 20
MATRIX_LABELS = 12
"""More labels than this make a matrix that nobody reads: a ranked list then says more."""
TEXT_SHOWN = 1000
MOST_CHOICES = 200


def html(document: Mapping[str, Any]) -> str:
    """Draw report.html from the content of report.json.

    Every text is escaped by the template engine; the page's policy forbids all requests and every
    script but the page's own, by its hash.
    """
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(words, name) for name in _WORDS})
    script, style = ((folder / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    shipped = document["verdict"]["model"]
    comparison = _comparison(document, shipped)
    labels = sorted({flip["label"] for flip in comparison["flips"]})
    return environment.get_template("report.html").render(
        doc=document,
        head=document["headline"],
        verdict=document["verdict"],
        mark=MARKS[document["verdict"]["decision"]],
        titles={row["name"]: row["title"] for row in document["models"]},
        shipped=next(row for row in document["models"] if row["name"] == shipped),
        comparison=comparison,
        metric=document["metric"],
        has_agreement=any(row["agreement_with_teacher"] is not None for row in document["models"]),
        has_ece=any(row["ece"] is not None for row in document["models"]),
        has_p_values=any(row["p_value"] is not None for row in (*comparison["slices"], *comparison["labels"])),
        # Answers to questions are all different: a list to choose from helps only where there are few.
        true_labels=labels if len(labels) <= MOST_CHOICES else [],
        grids=grids(document),
        own={row["model"]: row for row in document["latency"] if _is_own(row)},
        own_speedups={row["model"]: row for row in document["speedups"] if _is_own(row)},
        costs=document["costs"],
        slices=slices(document, shipped),
        parity=parity(document),
        environment=list(flat(document["environment"])),
        recipe=list(flat(document["recipe"])),
        matrix=matrix(document, shipped),
        confusions=confusions(document, shipped),
        text_shown=TEXT_SHOWN,
        figures=figures,
        cell_name=cell_name,
        company_in_words=company_in_words,
        fate=fate,
        ladder_rows=ladder_rows,
        # The two files are this package's own; the policy holds the script's hash.
        script=Markup(script),  # noqa: S704
        style=Markup(style),  # noqa: S704
        policy=f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    )


_WORDS = (
    "addition",
    "percent",
    "percents",
    "vocabulary",
    "score",
    "scores",
    "signed",
    "changed",
    "count_change",
    "megabytes",
    "millis",
    "times",
    "times_between",
    "seconds",
    "p_value",
    "p_is",
)


def grids(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The latency grid as tables: one per student and provider, rows of batch sizes, columns of lengths."""
    p50 = {_cell(row): row["p50_ms"] for row in document["latency"]}
    found = []
    for model, provider in dict.fromkeys((row["model"], row["provider"]) for row in document["speedups"]):
        cells = {
            (row["batch_size"], row["sequence_length"]): {
                **row,
                "p50_ms": p50[_cell(row)],
                "baseline_ms": p50[("teacher_onnx", *_cell(row)[1:])],
                "heat": heat(row),
            }
            for row in document["speedups"]
            if (row["model"], row["provider"]) == (model, provider)
        }
        lengths = sorted({length for _, length in cells}, key=lambda length: length or 0)
        batches = sorted({batch for batch, _ in cells})
        found.append({"model": model, "provider": provider, "lengths": lengths, "batches": batches, "cells": cells})
    # The model that ships comes first.
    return sorted(found, key=lambda grid: grid["model"] != document["verdict"]["model"])


def slices(document: Mapping[str, Any], model: str) -> dict[str, list[Any]]:
    """The slices of a model by column: classes, lengths, the user's.

    In the order in which they were cut; where there are many of a column, the largest loss first.
    """
    found: dict[str, list[Any]] = {}
    for row in _comparison(document, model)["slices"]:
        found.setdefault(row["column"], []).append(row)
    for rows in found.values():
        if len(rows) > MATRIX_LABELS:
            rows.sort(key=lambda row: ((row["score"] or 0) - (row["teacher_score"] or 0)) * row["rows"])
    return found


def confusions(document: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """The confusions that changed most, with what each change means and its length as a bar.

    The diagonal of the matrix is left out: the slices by class show it.
    """
    cells = [cell for cell in _comparison(document, model)["confusion"] if cell["label"] != cell["predicted"]]
    # Single rows come and go by chance.
    cells = ([cell for cell in cells if abs(cell["student"] - cell["teacher"]) > 1] or cells)[:MOST_CONFUSIONS]
    largest = max((abs(cell["student"] - cell["teacher"]) for cell in cells), default=1)
    return [{**cell, **_change(cell), "width": abs(_change(cell)["change"]) / largest} for cell in cells]


def matrix(document: Mapping[str, Any], model: str) -> list[dict[str, Any]] | None:
    """The whole confusion matrix as changes, student minus teacher; ``None`` for many labels or no change.

    Returns:
        One row for each true label, with a cell for each predicted one; cells without a change are ``None``.
    """
    labels, cells = document["data"]["labels"], _comparison(document, model)["confusion"]
    if len(labels) > MATRIX_LABELS or not cells:
        return None
    largest = max(abs(cell["student"] - cell["teacher"]) for cell in cells)
    changed = {(cell["label"], cell["predicted"]): cell for cell in cells}

    def shade(cell: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if cell is None:
            return None
        found = _change(cell)
        return {**cell, **found, "shade": math.ceil(3 * abs(found["change"]) / largest)}

    return [
        {"label": label, "cells": [shade(changed.get((label, predicted))) for predicted in labels]} for label in labels
    ]


def _change(cell: Mapping[str, Any]) -> dict[str, Any]:
    change = cell["student"] - cell["teacher"]
    # More on the diagonal is good, more beside it is bad.
    return {"change": change, "tone": "good" if (change > 0) == (cell["label"] == cell["predicted"]) else "bad"}


def _comparison(document: Mapping[str, Any], model: str) -> Any:
    return next(row for row in document["comparisons"] if row["model"] == model)


def heat(row: Mapping[str, Any]) -> str:
    """The colour class of a cell; its words say the same."""
    if row["verdict"] != "faster":
        return "same" if row["verdict"] == "no difference" else "slower"
    return next(
        name for limit, name in ((1.5, "h1"), (2.5, "h2"), (4.0, "h3"), (float("inf"), "h4")) if row["speedup"] < limit
    )


def parity(document: Mapping[str, Any]) -> dict[str, Any]:
    """Parity in one line: shapes, largest difference, changed labels."""
    rows = document["parity"]
    return {
        "rows": len(rows),
        "largest": max((row["max_abs_difference"] for row in rows), default=0.0),
        "changed": sum(row["changed_labels"] for row in rows),
    }


def flat(value: Any, path: str = "") -> Any:
    """Walk nested values as (dotted name, text) pairs."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield path, "–" if value is None or text in ("", "{}") else text


def _cell(row: Mapping[str, Any]) -> tuple[str, str, int, int | None]:
    return row["model"], row["provider"], row["batch_size"], row["sequence_length"]


def _is_own(row: Mapping[str, Any]) -> bool:
    return row["batch_size"] == 1 and row["sequence_length"] is None and row["provider"] == "cpu"
