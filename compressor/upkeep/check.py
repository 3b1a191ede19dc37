"""The gate for CI: ``check(request) -> gates``. May this folder go out?

Needs the base install alone; what only torch can tell is skipped where there is no torch. Only the scores of other
tasks than single labels need more.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compressor import data
from compressor.benchmark import Budget
from compressor.errors import ManifestError, RecipeError, UserError
from compressor.events import Listener, ignore
from compressor.recipe import DataRecipe
from compressor.runtime import Manifest, read_manifest
from compressor.tasks import TASKS, Task
from compressor.upkeep import evidence, gates, merit, pace, past
from compressor.upkeep.answers import encode, filler
from compressor.upkeep.gates import Gate
from compressor.upkeep.home import labels_of
from compressor.upkeep.lineup import Entrant, line_up

Report = Mapping[str, Any]


@dataclass(frozen=True)
class CheckRequest:
    """What is checked, and what it must hold.

    Attributes:
        folder: The run.
        max_drop: Largest drop in the task's deciding metric, in points (hundredths of it), against the teacher and
            the baseline.
        min_speedup: Smallest speed-up over the teacher in onnxruntime; ``None`` asks for none.
        max_growth: Largest growth of the shipped file against the baseline, in per cent.
        baseline: The report.json, or the folder, of the run that is out now.
        data: Text with what is right about it, to measure the score on; without a source the report's is taken.
        teacher: The teacher as an ONNX file, or as a Hugging Face folder, which is exported first.
        timing: Measure latency.
        threads: Of every measured model; by default those of the report, as far as they are here.
        rounds: Fresh processes per model.
    """

    folder: Path
    max_drop: float = 1.0
    min_speedup: float | None = None
    max_growth: float = 5.0
    baseline: Path | None = None
    data: DataRecipe = field(default_factory=DataRecipe)
    teacher: Path | None = None
    timing: bool = True
    threads: int | None = None
    rounds: int = 3


def check(request: CheckRequest, listen: Listener = ignore, budget: Budget | None = None) -> tuple[Gate, ...]:
    """Check a run folder.

    Args:
        request: What is checked, and what it must hold.
        listen: Hears progress.
        budget: How long each cell of the benchmark may take.

    Returns:
        One row per rule; the folder passes where none says FAIL.

    Raises:
        UserError: A limit is none, the baseline is of another task, this install cannot measure what was asked for,
            or the folder, the baseline, the data or the teacher cannot be read: nothing was checked.
    """
    for name in ("max_drop", "max_growth", "min_speedup"):
        limit = getattr(request, name)
        if limit is not None and not 0 <= limit < math.inf:  # no limit is ever met by NaN
            raise RecipeError(f"--{name.replace('_', '-')} {limit} is no limit.", "Give a number from 0 up.")
    if not request.folder.is_dir():
        raise ManifestError(f"{request.folder} is not a folder.", "Name a folder that compress has written.")
    baseline = None if request.baseline is None else past.read_report(request.baseline)
    try:
        manifest = read_manifest(request.folder)
    except ManifestError as error:
        return (Gate("manifest", "FAIL", error.message),)
    task = next((row for row in TASKS.values() if row.kind == manifest.kind), None)
    if task is None:
        return (Gate("manifest", "FAIL", f"{request.folder}: {manifest.task} is no task that this compressor knows"),)
    if baseline is not None and baseline["kind"] != task.kind:
        raise RecipeError(
            f"--baseline {request.baseline} is of a model for {baseline['kind']}, {request.folder} for {task.kind}.",
            "Name the report.json of a run for the same task.",
        )
    files = evidence.files(request.folder, manifest)
    found = _read(request, manifest, task, whole=files.status == "PASS")
    config = evidence.json_file(request.folder, "config.json")
    clock = evidence.Clock(request.rounds, request.threads, budget) if request.timing else None
    with tempfile.TemporaryDirectory(prefix="compressor-check-") as aside:
        if request.teacher is not None:
            found = replace(found, teacher=_teacher(request.teacher, task, Path(aside), listen))
        loading = evidence.loads(found)
        tokenizer = evidence.json_file(request.folder, gates.TOKENIZER_CONFIG) or {}
        rows = (
            files,
            gates.labels(manifest, config, labels_of(config or {}), found.report),
            gates.consistent(manifest, found.report, found.why, tokenizer),
            loading,
            evidence.parity(found),
            merit.score(found, baseline, request.max_drop),
            gates.size(gates.shipped_bytes(manifest), baseline, request.max_growth),
            *evidence.speed(found, request.min_speedup, clock, listen, loaded=loading.status != "FAIL"),
        )
    against = pace.against_baseline(found.report, baseline)
    return (*rows, *([against] if against else []))


def _read(request: CheckRequest, manifest: Manifest, task: Task, *, whole: bool) -> evidence.Folder:
    report, why = None, ""
    try:
        report = past.read_report(request.folder)
    except ManifestError as error:
        why = error.message
    found = evidence.Folder(request.folder, manifest, whole, report, why)
    if request.data.source is None:
        return found
    missing = [name for name in ("datasets", "scipy", "transformers") if find_spec(name) is None]
    if missing and task.kind != "single-label":
        raise UserError(
            f"This install cannot measure {task.metric_title}: {', '.join(missing)} not found.",
            "Leave --data out, or install the training part: pip install '.[train]' in a checkout of the project.",
        )
    recipe, seed = _run_recipe(request.data, report)
    known = report["data"]["fingerprint"] if report else None
    try:
        held = data.read_held_out(recipe, request.data.source, manifest.labels, seed, task=task, fingerprint=known)
    except ModuleNotFoundError as error:  # of a hub dataset, or of Parquet
        raise UserError(
            f"This install cannot read {request.data.source}: {error.name} not found.",
            "Give CSV, TSV or JSONL, or install the training part: pip install '.[train]' in a checkout.",
        ) from error
    return replace(found, held=held, seed=seed)


def _run_recipe(asked: DataRecipe, report: Report | None) -> tuple[DataRecipe, int]:
    """Take the columns and shares of the run, so that a test split that it carved out is found again."""
    if report is None:
        return asked, 42
    ours = {name: value for name, value in asked.model_dump().items() if name in asked.model_fields_set and value}
    return DataRecipe.model_validate({**report["recipe"].get("data", {}), **ours}), int(
        report["recipe"].get("seed", 42)
    )


def _teacher(place: Path, task: Task, aside: Path, listen: Listener) -> Entrant:
    """Find the teacher's ONNX file; a Hugging Face folder is exported as a run does it."""
    found, _ = line_up([place])
    entrant, *others = (replace(one, home=replace(one.home, task=task)) for one in found)
    onnx = [other for other in (entrant, *others) if other.kind == "onnx" and other.precision == "fp32"]
    if onnx:
        return replace(onnx[0], name="teacher")
    missing = [name for name in ("torch", "transformers", "datasets", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{place} holds no ONNX file, and this install cannot export one: {', '.join(missing)} not found.",
            "Give --teacher an ONNX file, or install the training part: pip install '.[train]' in a checkout of the "
            "project.",
        )
    from datasets import Dataset

    from compressor import teacher
    from compressor.graph.export import export_onnx
    from compressor.graph.parity import parity_batches
    from compressor.teacher import hub

    checkpoint = hub.open_folder(place, str(place))
    facts = teacher.inspect(checkpoint, task=task.name, problem_type=task.problem_type)
    if not facts.has_head:
        raise UserError(f"{place} has no head for {task.name}: it cannot be the teacher.", "Name the run's teacher.")
    tutor = teacher.load(checkpoint, facts)
    rows = encode(entrant.home, filler((8, 24, 48)))
    texts = Dataset.from_list([{**row, "length": len(row["input_ids"])} for row in rows])
    batches = parity_batches(texts, facts.input_names, entrant.home.pad_token_id, facts.max_length, task)
    path = aside / "teacher.onnx"
    export_onnx(
        tutor.model,
        tutor.architecture,
        facts.input_names,
        path,
        opset=18,
        batches=batches,
        task=task,
        listen=listen,
    )
    return replace(entrant, name="teacher", kind="onnx", path=path)
