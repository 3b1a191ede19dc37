"""What earlier runs have left behind: their report.json, read back. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.errors import ManifestError

REPORT = "report/report.json"
SCHEMA_VERSION = 2
_OLDER = 1
"""Before there were other tasks than single-label classification; read as the present version."""

# What every reader of a report relies on; the schema says the rest.
_PARTS = (
    *("headline.speedup", "headline.speedup_ci95", "headline.baseline_size_bytes"),
    *("verdict.model", "verdict.decision", "data.labels", "data.fingerprint", "data.rows", "data.source"),
    *("teacher.name", "teacher.layers", "teacher.fingerprint", "machine.noise_floor"),
    *("metric.name", "metric.title", "metric.share"),
    *(
        "task",
        "kind",
        "models",
        "latency",
        "speedups",
        "parity",
        "fusions",
        "warnings",
        "recipe",
        "environment",
        "layer_map",
    ),
)

Cell = tuple[str, int, int | None]


def read_report(place: Path) -> dict[str, Any]:
    """Read the report of a run.

    Args:
        place: A run folder, or a report.json.

    Raises:
        ManifestError: There is no report, or it is damaged or of another version.
    """
    path = place / REPORT if place.is_dir() else place
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = f"{place} has no {REPORT}" if place.is_dir() else f"{place} does not exist"
        raise ManifestError(f"{what}.", "Name a folder that compress has written, or the report.json of one.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path} cannot be read: {error}.", "Copy the report again.") from None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version == _OLDER:
        found = _upgraded(found)
    elif version != SCHEMA_VERSION:
        raise ManifestError(
            f"{path} has schema_version {version!r}; this compressor reads {SCHEMA_VERSION}.",
            "Name the report.json of a run, or install the compressor that wrote it.",
        )
    missing = [name for name in _PARTS if not _has(found, name.split("."))]
    if missing:
        raise ManifestError(f"{path} is not the report of a run: it has no {', '.join(missing)}.", "Copy it again.")
    return dict(found)


def _upgraded(report: Mapping[str, Any]) -> dict[str, Any]:
    """Read a report of version 1 as one of version 2, where its parts are there."""
    titles = (("accuracy", "accuracy", "ci95"), ("macro_f1", "macro F1", "macro_f1_ci95"))
    models = [
        {
            **row,
            "score": row.get("accuracy"),
            "metrics": [
                {"name": name, "title": title, "estimate": row[name], "low": row[ends][0], "high": row[ends][1],
                 "share": True, "lower_is_better": False}
                for name, title, ends in titles if name in row and ends in row
            ],
        }
        for row in report.get("models") or ()
    ]  # fmt: skip
    metric = {"name": "accuracy", "title": "accuracy", "share": True, "row_word": "test row"}
    return {**report, "kind": "single-label", "metric": metric, "models": models}


def _has(value: Any, names: Sequence[str]) -> bool:
    return not names or (isinstance(value, Mapping) and names[0] in value and _has(value[names[0]], names[1:]))


def model_row(report: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Find a model in the report's table; ``None`` where it has no such row."""
    return next((row for row in report["models"] if row["name"] == name), None)


def shipped(report: Mapping[str, Any]) -> str:
    """Name the model that the verdict is about."""
    return str(report["verdict"]["model"])


def medians(report: Mapping[str, Any], model: str) -> dict[Cell, float]:
    """Read a model's median latency in milliseconds by provider, batch size and length."""
    return {
        (row["provider"], row["batch_size"], row["sequence_length"]): row["p50_ms"]
        for row in report["latency"]
        if row["model"] == model and row["p50_ms"]
    }


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Walk nested values as pairs of a dotted name and what stands there; a list is one value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
