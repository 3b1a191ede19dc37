"""What a run folder says when it is asked: checksums, answers, parity, accuracy, speed; a gate for each.

A damaged file is never loaded: what depends on it is skipped, and the checksums' own row fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from compressor import benchmark, data
from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, TEACHER, Benchmark
from compressor.benchmark import Budget
from compressor.errors import CompressorError, ManifestError
from compressor.events import Listener
from compressor.graph.parity import compare
from compressor.recipe import BenchmarkRecipe
from compressor.runtime import Manifest, Predictor, available_cores, verify
from compressor.runtime.machine import detect_target
from compressor.runtime.manifest import MANIFEST
from compressor.upkeep import gates, past
from compressor.upkeep.answers import encode, filler, logits, opened, padded, token_rows, torch_logits
from compressor.upkeep.gates import Gate
from compressor.upkeep.lineup import Entrant

Report = Mapping[str, Any]

_TEXTS = ("a fine film", "it is a very long story about time and a bad end")
_LENGTHS = (16, 64)
_MOST_LENGTHS = 2
_DAMAGED = "files are damaged, and are not loaded"


@dataclass(frozen=True)
class Folder:
    """A run folder as read.

    Attributes:
        whole: Every file is there and has its checksum.
        why: Why there is no report.
        held: The rows of --data, where it was given.
        teacher: Where it is at hand.
    """

    path: Path
    manifest: Manifest
    whole: bool
    report: Report | None
    why: str
    held: data.HeldOut | None = None
    teacher: Entrant | None = None


def files(folder: Path, manifest: Manifest) -> Gate:
    """Compare every file that the manifest lists with its checksum."""
    broken = []
    for name in manifest.files:
        try:
            verify(folder, manifest, [name])
        except ManifestError as error:
            broken.append(error.message)
    if broken:
        more = f" And {len(broken) - 1} more." if len(broken) > 1 else ""
        return Gate("files", "FAIL", broken[0] + more)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    strange = sorted(there - {*manifest.files, MANIFEST})
    said = f"; not in the manifest: {', '.join(strange[:3])}" if strange else ""
    return Gate("files", "PASS", f"{len(manifest.files)} files have their checksums{said}")


def config(folder: Path) -> Mapping[str, Any] | None:
    """Read config.json; ``None`` where it cannot be read."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def loads(found: Folder) -> Gate:
    """Load every ONNX file as production does, and ask it something."""
    if not found.whole:
        return Gate("loads", "SKIP", _DAMAGED)
    names = [name for name in found.manifest.files if name.endswith(".onnx")]
    for name in names:
        try:
            answers = Predictor(found.path, model=name, verify=False).logits(_TEXTS)
        except CompressorError as error:
            return Gate("loads", "FAIL", error.message)
        if not np.isfinite(answers).all():
            return Gate("loads", "FAIL", f"{name} answers with numbers that are not finite")
    return Gate("loads", "PASS", f"{', '.join(names)} answer in onnxruntime")


def parity(found: Folder) -> Gate:
    """Compare the fp32 file with what torch makes of the safetensors, alone and in padded batches."""
    skip = partial(Gate, "parity", "SKIP")
    fp32 = _file(found.manifest, "fp32")
    if not found.whole:
        return skip(_DAMAGED)
    if fp32 is None or "model.safetensors" not in found.manifest.files:
        return skip("the folder has no fp32 ONNX file beside a model.safetensors")
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        return skip(f"{' and '.join(missing)} not installed: pip install 'compressor[train]'")
    entrant = _entrant(found, fp32)
    texts = found.held.split.texts[:32] if found.held else filler((4, 12, 40, 100))
    rows = sorted(encode(entrant, texts), key=lambda row: len(row["input_ids"]))
    groups = [rows[:1], rows[-1:], [rows[0], rows[-1]], rows[:: max(1, len(rows) // 8)]]
    batches = [padded(group, entrant.pad_token_id) for group in groups]
    try:
        expected = torch_logits(found.path)
        actual = opened(entrant)
        return gates.parity(compare("fused", batches, [expected(x) for x in batches], [actual(x) for x in batches]))
    except CompressorError as error:
        return Gate("parity", "FAIL", error.message)


def _file(manifest: Manifest, precision: str) -> str | None:
    """Find the ONNX file of a precision, the one that the manifest runs first."""
    names = [name for name, entry in manifest.files.items() if name.endswith(".onnx") and entry.precision == precision]
    return manifest.default_model if manifest.default_model in names else next(iter(names), None)


def _entrant(found: Folder, name: str) -> Entrant:
    manifest, entry = found.manifest, found.manifest.files[name]
    return Entrant(
        name=name,
        kind="onnx",
        path=found.path / name,
        home=found.path,
        labels=manifest.labels,
        max_length=manifest.max_length,
        pad_token_id=manifest.pad_token_id,
        precision=entry.precision or "fp32",
        size_bytes=entry.size_bytes,
    )


# --- accuracy -------------------------------------------------------------------------------


def accuracy(found: Folder, baseline: Report | None, max_drop: float) -> Gate:
    """Measure the shipped model's accuracy, or take it from the report, and hold it to the margin.

    Args:
        found: The folder, with the rows to measure on where they were given.
        baseline: Report of the run that is out now.
        max_drop: Largest drop, in percentage points, against the teacher and the baseline.
    """
    references, remark = _references(found, baseline)
    if found.held is None:
        row = past.model_row(found.report, past.shipped(found.report)) if found.report else None
        rows = f"{found.report['data']['rows'].get('test', 0):,} test rows" if found.report else ""
        said = "; recorded in the report, not measured here (--data)"
        return gates.accuracy(row["accuracy"] if row else None, rows, references, max_drop, said + remark)
    if not found.whole:
        return Gate("accuracy", "SKIP", _DAMAGED)
    split = found.held.split
    try:
        answers = Predictor(found.path).logits(split.texts)
        teacher = None if found.teacher is None else _right(found.teacher, found.held, found.manifest)
    except CompressorError as error:
        return Gate("accuracy", "FAIL", error.message)
    if teacher is not None:
        references = [("the teacher on the same rows", teacher), *references[1:]]
    elif found.report and found.held.fingerprint != found.report["data"]["fingerprint"]:
        remark += "; these are other rows than the report's, so the difference may be the rows'"
    right = float(np.mean(answers.argmax(axis=1) == split.labels))
    return gates.accuracy(right, f"{len(split.labels):,} rows ({found.held.which})", references, max_drop, remark)


def _references(found: Folder, baseline: Report | None) -> tuple[list[tuple[str, float]], str]:
    """List what the accuracy must not fall behind, the teacher first, and what limits the comparison."""
    references, remark = [], ""
    teacher = past.model_row(found.report, TEACHER) if found.report else None
    if teacher is not None:
        references.append(("its teacher in the report", float(teacher["accuracy"])))
    row = past.model_row(baseline, past.shipped(baseline)) if baseline else None
    if row is not None and baseline is not None:
        references.append(("the baseline", float(row["accuracy"])))
        if found.report and baseline["data"]["fingerprint"] != found.report["data"]["fingerprint"]:
            remark = "; the baseline was measured on other data"
    return references, remark


def _right(teacher: Entrant, held: data.HeldOut, manifest: Manifest) -> float:
    """Measure the teacher's accuracy; its labels may stand in another order."""
    if set(teacher.labels) != set(manifest.labels):
        raise ManifestError("The teacher has other labels than the student.")
    answers = logits(teacher, encode(teacher, held.split.texts)).argmax(axis=1)
    order = np.array([manifest.labels.index(name) for name in teacher.labels])
    return float(np.mean(order[answers] == held.split.labels))


# --- speed ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """How latency is measured.

    Attributes:
        rounds: Fresh processes per model.
        threads: Of every model; by default those of the report, as far as they are here.
        budget: How long each cell may take.
    """

    rounds: int = 3
    threads: int | None = None
    budget: Budget | None = None


def speed(found: Folder, min_speedup: float | None, clock: Clock | None, listen: Listener) -> list[Gate]:
    """Measure the shipped model beside its own fp32 file, and beside the teacher where it is at hand.

    Args:
        found: The folder.
        min_speedup: Smallest speed-up over the teacher.
        clock: ``None`` measures nothing.
        listen: Hears progress.
    """
    recorded = gates.recorded_speed(found.report, min_speedup)
    fp32, int8, shipped = _file(found.manifest, "fp32"), _file(found.manifest, "int8"), found.manifest.default_model
    pair = (fp32, int8) if fp32 and int8 else None
    alone = Gate("latency", "SKIP", "the folder has no int8 file beside an fp32 file to measure it against")
    if clock is None or not found.whole:
        return [recorded, Gate("latency", "SKIP", "not asked for (--no-timing)" if clock is None else _DAMAGED)]
    if pair is None and found.teacher is None:
        return [recorded, alone]
    # The benchmark measures the last model twice, for the noise: best the one that ships.
    names = dict.fromkeys([*(name for name in pair or () if name != shipped), shipped])
    models = [*([found.teacher] if found.teacher else []), *(_entrant(found, name) for name in names)]
    lengths = _lengths(found)
    measured = _measure(found, models, lengths, clock, listen)
    if found.teacher is not None:
        rounds = gates.ratios(measured, found.teacher.name, shipped, (None,) if found.held else lengths)
        recorded = gates.measured_speed(rounds, measured.noise_floor, min_speedup)
    if pair is None:
        return [recorded, alone]
    there = found.report is not None and gates.instruction_set(found.report) == detect_target()
    rounds = gates.ratios(measured, *pair, lengths)
    kept = gates.recorded_ratio(found.report, lengths)
    return [recorded, gates.latency(rounds, measured.noise_floor, kept, same_machine=there)]


def _lengths(found: Folder) -> tuple[int, ...]:
    """Choose lengths that the report has too, the shortest first."""
    most = min([found.manifest.max_length, *([found.teacher.max_length] if found.teacher else [])])
    cells = [past.medians(found.report, name) for name in (STUDENT_ONNX, STUDENT_INT8)] if found.report else [{}]
    known = sorted(length for _, size, length in set.intersection(*map(set, cells)) if size == 1 and length is not None)
    fitting = tuple(length for length in known if length <= most)[:_MOST_LENGTHS]
    return fitting or tuple(length for length in _LENGTHS if length <= most) or (most,)


def _measure(
    found: Folder, models: Sequence[Entrant], lengths: tuple[int, ...], clock: Clock, listen: Listener
) -> Benchmark:
    texts = found.held.split.texts if found.held else filler(lengths)
    latency = found.report["latency"] if found.report else []
    threads = clock.threads or (min(latency[0]["threads"], available_cores()) if latency else None)
    tokens = {entrant.name: token_rows(entrant, texts) for entrant in models}
    first = tokens[models[0].name]
    return benchmark.measure(
        [entrant.measured for entrant in models],
        BenchmarkRecipe(threads=threads, batch_sizes=(1,), sequence_lengths=lengths, rounds=clock.rounds),
        first,
        own_tokens={name: rows for name, rows in tokens.items() if rows.rows != first.rows},
        listen=listen,
        budget=clock.budget,
    )
