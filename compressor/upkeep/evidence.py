"""What a run folder says when it is asked: checksums, answers, parity, speed; a gate for each.

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
from compressor.answers import INPUT_NAMES, pad
from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, Benchmark
from compressor.benchmark import Budget
from compressor.errors import CompressorError, ManifestError, UserError
from compressor.events import Listener
from compressor.graph.parity import compare, torch_logits, units
from compressor.recipe import BenchmarkRecipe
from compressor.runtime import Manifest, Predictor, available_cores, verify
from compressor.runtime.machine import detect_target
from compressor.runtime.manifest import MANIFEST, TOKENIZER
from compressor.runtime.texts import open_tokenizer
from compressor.tasks import TASKS, Task
from compressor.upkeep import gates, pace, past
from compressor.upkeep.answers import encode, filler, load_torch, opened, token_rows
from compressor.upkeep.gates import Gate
from compressor.upkeep.home import Home
from compressor.upkeep.lineup import Entrant

Report = Mapping[str, Any]

_TEXTS = ("a fine film", "it is a very long story about time and a bad end")
_LENGTHS = (16, 64)
_MOST_LENGTHS = 2
DAMAGED = "files are damaged, and are not loaded"


@dataclass(frozen=True)
class Folder:
    """A run folder as read.

    Attributes:
        whole: Every file is there and has its checksum.
        why: Why there is no report.
        held: The rows of --data, where it was given.
        teacher: Where it is at hand.
        seed: Of the run.
    """

    path: Path
    manifest: Manifest
    whole: bool
    report: Report | None
    why: str
    held: data.HeldOut | None = None
    teacher: Entrant | None = None
    seed: int = 42

    @property
    def task(self) -> Task:
        """What its models do."""
        return next(row for row in TASKS.values() if row.kind == self.manifest.kind)

    def entrant(self, name: str) -> Entrant:
        """One of its ONNX files, by its name in the manifest."""
        manifest, entry = self.manifest, self.manifest.files[name]
        lengths = manifest.max_length, manifest.pad_token_id, manifest.truncation_side
        home = Home(self.path, self.task, manifest.labels, *lengths, manifest.settings)
        return Entrant(name, "onnx", self.path / name, home, entry.precision or "fp32", entry.size_bytes)


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


def json_file(folder: Path, name: str) -> Mapping[str, Any] | None:
    """Read a JSON object of the folder; ``None`` where it cannot be read."""
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def loads(found: Folder) -> Gate:
    """Load every ONNX file as production does, and ask it something."""
    if not found.whole:
        return Gate("loads", "SKIP", DAMAGED)
    names = [name for name in found.manifest.files if name.endswith(".onnx")]
    for name in names:
        try:
            predictor = Predictor(found.path, model=name, verify=False)
            answers = predictor.raw(_questions(predictor))
        except CompressorError as error:
            return Gate("loads", "FAIL", error.message)
        if not all(len(values) for values in answers):
            return Gate("loads", "FAIL", f"{name} gives no answer to a text that asks for one")
        if not all(np.isfinite(values).all() for values in answers):
            return Gate("loads", "FAIL", f"{name} answers with numbers that are not finite")
    return Gate("loads", "PASS", f"{', '.join(names)} answer in onnxruntime")


def _questions(predictor: Predictor) -> list[Any]:
    """Two inputs of the kind that a model takes."""
    if predictor.kind == "fill-mask":
        tokenizer = open_tokenizer(predictor.folder / TOKENIZER)
        mask = tokenizer.id_to_token(predictor.manifest.settings["mask_token_id"])
        return [f"{text} {mask}" for text in _TEXTS]
    return list(zip(_TEXTS, reversed(_TEXTS), strict=True)) if len(predictor.takes) == 2 else list(_TEXTS)


def parity(found: Folder) -> Gate:
    """Compare the fp32 file with what torch makes of the safetensors, alone and in padded batches."""
    skip = partial(Gate, "parity", "SKIP")
    fp32 = _file(found.manifest, "fp32")
    if not found.whole:
        return skip(DAMAGED)
    if fp32 is None or "model.safetensors" not in found.manifest.files:
        return skip("the folder has no fp32 ONNX file beside a model.safetensors")
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        return skip(f"{' and '.join(missing)} not installed: pip install '.[train]'")
    entrant, task = found.entrant(fp32), found.task
    texts, pairs = _texts(found, (4, 12, 40, 100))
    rows = sorted(encode(entrant.home, texts[:32], pairs[:32]), key=lambda row: len(row["input_ids"]))
    groups = [rows[:1], rows[-1:], [rows[0], rows[-1]], rows[:: max(1, len(rows) // 8)]]
    batches = [pad(group, INPUT_NAMES, entrant.home.pad_token_id) for group in groups]
    try:
        from compressor import heads

        model, call = load_torch(found.path, task), opened(entrant)
        taken = heads.inputs_of(model)
        expected = torch_logits(model, [{name: batch[name] for name in taken} for batch in batches], task)
        actual = [units(task, call(batch), batch) for batch in batches]
        return gates.parity(compare("fused", batches, expected, actual, task), task)
    except CompressorError as error:
        return Gate("parity", "FAIL", error.message)


def _texts(found: Folder, tokens: Sequence[int]) -> tuple[Sequence[str], Sequence[str]]:
    """Texts of --data and their pairs, else made-up ones of about these lengths."""
    if found.held is not None:
        return found.held.split.texts, found.held.split.pairs
    texts = filler(tokens)
    return texts, texts[::-1] if found.task.kind == "question-answering" else ()


def _file(manifest: Manifest, precision: str) -> str | None:
    """Find the ONNX file of a precision, the one that the manifest runs first."""
    names = [name for name, entry in manifest.files.items() if name.endswith(".onnx") and entry.precision == precision]
    return manifest.default_model if manifest.default_model in names else next(iter(names), None)


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


def speed(
    found: Folder, min_speedup: float | None, clock: Clock | None, listen: Listener, *, loaded: bool = True
) -> list[Gate]:
    """Measure the shipped model beside its own fp32 file, and beside the teacher where it is at hand.

    Args:
        found: The folder.
        min_speedup: Smallest speed-up over the teacher.
        clock: ``None`` measures nothing.
        listen: Hears progress.
        loaded: Every file loads; otherwise nothing is measured.
    """
    recorded = pace.recorded_speed(found.report, min_speedup)
    fp32, int8, shipped = _file(found.manifest, "fp32"), _file(found.manifest, "int8"), found.manifest.default_model
    pair = (fp32, int8) if fp32 and int8 else None
    alone = Gate("latency", "SKIP", "the folder has no int8 file beside an fp32 file to measure it against")
    if clock is None:
        return [recorded, Gate("latency", "SKIP", "not asked for (--no-timing)")]
    if not found.whole or not loaded:
        return [recorded, Gate("latency", "SKIP", "a file does not load" if found.whole else DAMAGED)]
    if pair is None and found.teacher is None:
        return [recorded, alone]
    # The benchmark measures the last model twice, for the noise: best the one that ships.
    names = dict.fromkeys([*(name for name in pair or () if name != shipped), shipped])
    models = [*([found.teacher] if found.teacher else []), *(found.entrant(name) for name in names)]
    lengths = _lengths(found)
    try:
        measured = _measure(found, models, lengths, clock, listen)
    except UserError:
        raise
    except CompressorError as error:  # a process was killed, or the teacher's file does not load
        missed = [Gate("speed-up", "FAIL", "the teacher beside it could not be measured")] if found.teacher else []
        return [*(missed or [recorded]), Gate("latency", "FAIL", error.message)]
    if found.teacher is not None:
        rounds = pace.ratios(measured, found.teacher.name, shipped, (None,) if found.held else lengths)
        recorded = pace.measured_speed(rounds, measured.noise_floor, min_speedup)
    if pair is None:
        return [recorded, alone]
    there = found.report is not None and pace.instruction_set(found.report) == detect_target()
    rounds = pace.ratios(measured, *pair, lengths)
    kept = pace.recorded_ratio(found.report, lengths)
    return [recorded, pace.latency(rounds, measured.noise_floor, kept, same_machine=there)]


def _lengths(found: Folder) -> tuple[int, ...]:
    """Choose lengths that the report has too, the shortest first."""
    most = min([found.manifest.max_length, *([found.teacher.home.max_length] if found.teacher else [])])
    cells = [past.medians(found.report, name) for name in (STUDENT_ONNX, STUDENT_INT8)] if found.report else [{}]
    known = sorted(length for _, size, length in set.intersection(*map(set, cells)) if size == 1 and length is not None)
    fitting = tuple(length for length in known if length <= most)[:_MOST_LENGTHS]
    return fitting or tuple(length for length in _LENGTHS if length <= most) or (most,)


def _measure(
    found: Folder, models: Sequence[Entrant], lengths: tuple[int, ...], clock: Clock, listen: Listener
) -> Benchmark:
    texts, pairs = _texts(found, lengths)
    latency = found.report["latency"] if found.report else []
    threads = clock.threads or (min(latency[0]["threads"], available_cores()) if latency else None)
    tokens = {entrant.name: token_rows(entrant.home, texts, pairs) for entrant in models}
    first = tokens[models[0].name]
    return benchmark.measure(
        [entrant.measured for entrant in models],
        BenchmarkRecipe(
            threads=threads,
            batch_sizes=(1,),
            sequence_lengths=lengths,
            clients=(),
            rounds=clock.rounds,
            max_rounds=clock.rounds,
        ),
        first,
        own_tokens={name: rows for name, rows in tokens.items() if rows.rows != first.rows},
        listen=listen,
        budget=clock.budget,
    )
