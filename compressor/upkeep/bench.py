"""Measure the models of several folders side by side: ``bench(request) -> document``.

Scores are those of the same rows for all, their labels matched by name with each model's own; latency is that of
fresh, alternating processes with equal threads. Every ratio and every difference is against the first model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from compressor import benchmark, data, environment
from compressor.artifacts import Benchmark, Split
from compressor.benchmark import Budget
from compressor.errors import CompressorError, DataError, ManifestError
from compressor.evaluation.metrics import METRICS
from compressor.evaluation.statistics import Interval
from compressor.events import Listener, Note, Progress, Warned, ignore
from compressor.recipe import BenchmarkRecipe, DataRecipe
from compressor.report import speed
from compressor.tasks import TASKS, Task
from compressor.upkeep.answers import ask, filler, task_of, token_rows
from compressor.upkeep.exam import mark, prepare
from compressor.upkeep.home import Home
from compressor.upkeep.lineup import Entrant, line_up
from compressor.upkeep.scores import Judged, Sat, comparable, judge, sat, title_of

SCHEMA_VERSION = 2
"""That of ``report/bench.schema.json``, which describes the document."""


@dataclass(frozen=True)
class BenchRequest:
    """What is measured.

    Attributes:
        places: Run folders, other folders or ONNX files; the first model of the first is the baseline.
        data: Text with what is right about it; without a source nothing is said about scores.
        benchmark: Provider, threads, grid, callers and rounds.
        torch_too: Measure the safetensors of every folder as well, not only where there is no ONNX file.
        seed: Of a test split that has to be carved out; take that of the run.
    """

    places: tuple[Path, ...]
    data: DataRecipe = field(default_factory=DataRecipe)
    benchmark: BenchmarkRecipe = field(default_factory=BenchmarkRecipe)
    torch_too: bool = False
    seed: int = 42


@dataclass(frozen=True)
class _Asked:
    """What came of asking every model.

    Attributes:
        task: What is judged; ``None`` where nothing was.
        rows: How many items that were.
        split: The texts, as the first of the models has their labels.
        judged: By name, in the order of the models.
        notes: What could not be judged, and on what the others were.
    """

    task: Task | None = None
    rows: int = 0
    split: Split | None = None
    judged: Mapping[str, Judged] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def bench(request: BenchRequest, listen: Listener = ignore, budget: Budget | None = None) -> dict[str, Any]:
    """Measure models side by side.

    Args:
        request: What is measured.
        listen: Hears progress, notes and warnings.
        budget: How long each cell of the grid may take.

    Returns:
        The content of bench.json.

    Raises:
        ProviderError: CUDA was asked for and is not there; nothing has been measured then.
        RecipeError: More threads were asked for than there are cores.
        ManifestError: A folder is missing, damaged, or holds nothing that can be measured.
        DataError: The data cannot be read, or fit none of the models.
        BenchmarkError: A measuring process failed.
    """
    benchmark.check(request.benchmark)
    entrants, left_out = line_up(request.places, torch_too=request.torch_too)
    notes = list(left_out)
    for text in left_out:
        listen(Note(text))
    asked = _ask(entrants, request, listen)
    notes += asked.notes
    split = asked.split or Split(filler(request.benchmark.sequence_lengths[:1]), ())
    tokens = [token_rows(entrant.home, split.texts, split.pairs) for entrant in entrants]
    own = {entrant.name: rows for entrant, rows in zip(entrants, tokens, strict=True) if rows.rows != tokens[0].rows}
    if own:
        notes.append(f"Cut into tokens in another way than for {entrants[0].name}: the texts of {', '.join(own)}.")
    measured = benchmark.measure(
        [
            entrant.measured if entrant.runs_on_cuda else replace(entrant.measured, providers=("cpu",))
            for entrant in entrants
        ],
        request.benchmark,
        tokens[0],
        own_tokens=own,
        listen=listen,
        budget=budget,
        seed=request.seed,
    )
    return _document(request, entrants, asked, measured, notes)


# --- scores ---------------------------------------------------------------------------------


def _ask(entrants: Sequence[Entrant], request: BenchRequest, listen: Listener) -> _Asked:
    """Ask every model about the test rows."""
    task = entrants[0].home.task or TASKS["single-label"]
    source = request.data.source
    if source is None:
        return _Asked(notes=(f"No data were given (--data): nothing is said about {task.metric_title}.",))
    notes: list[str] = []
    exams: dict[str, Sat] = {}
    held: dict[tuple[str, ...], data.HeldOut] = {}
    asked = _Asked()
    refused: CompressorError | None = None
    for index, entrant in enumerate(entrants):
        listen(Progress("evaluate", index, len(entrants), {}))
        try:
            labels = _labels(entrant, task)
            if labels not in held:
                heard = ignore if held else listen
                held[labels] = data.read_held_out(request.data, source, labels, request.seed, heard, task=task)
            rows, first = held[labels], next(iter(exams.values()), None)
            exams[entrant.name] = _sit(entrant, _common(entrant.home, task, entrants), rows, first, request.seed)
            if first is None:
                title = title_of(task).text
                title = title[0].upper() + title[1:]
                notes = [f"{title} is that of {rows.which}: {len(rows.split.texts):,} rows.", *_judge(task), *notes]
                asked = _Asked(task, len(exams[entrant.name].gold), rows.split)
        except (DataError, ManifestError) as error:
            refused = error
            notes.append(f"{entrant.name} has no {task.metric_title}: {error.message}")
            listen(Warned(notes[-1]))
    listen(Progress("evaluate", len(entrants), len(entrants), {}))
    if not exams and refused is not None:
        raise refused
    return replace(asked, judged=judge(exams, request.seed), notes=tuple(notes))


def _judge(task: Task) -> list[str]:
    if task.kind != "feature-extraction":
        return []
    return ["Nothing is right about an embedding of itself: the first model's are what the others are judged by."]


def _labels(entrant: Entrant, task: Task) -> tuple[str, ...]:
    if task_of(entrant) is not task:
        kind = task_of(entrant).kind
        raise ManifestError(f"It is for {kind}, the first model for {task.kind}.", "Compare models of one task.")
    if task.named and not entrant.home.labels:
        where = entrant.home.path
        raise DataError(f"{where} does not name the labels of its model.", "Put id2label into its config.json.")
    return entrant.home.labels


def _common(home: Home, task: Task, entrants: Sequence[Entrant]) -> Home:
    """Masked language models are asked about the same blocks, so that those are as long as all of them take."""
    if task.unit != "masked token":
        return home
    return replace(home, max_length=min(one.home.max_length for one in entrants if one.home.task is task))


def _sit(entrant: Entrant, home: Home, rows: data.HeldOut, first: Sat | None, seed: int) -> Sat:
    exam = prepare(home, rows, seed)
    if first is not None:
        comparable(entrant.name, exam.gold, first.gold)
    answers = ask(entrant, exam.rows)
    if rows.task is TASKS["feature-extraction"]:  # which only other embeddings can judge
        exam = exam.beside(first.answers if first else answers)
    marks = mark(exam, answers, home.settings.get("thresholds") or ())
    return sat(answers, exam.gold, marks)


# --- the document ---------------------------------------------------------------------------


def _document(
    request: BenchRequest, entrants: Sequence[Entrant], asked: _Asked, measured: Benchmark, notes: Sequence[str]
) -> dict[str, Any]:
    base = entrants[0]

    def said(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # Filler has no lengths of its own to speak of.
        return [row for row in rows if asked.split is not None or row["sequence_length"] is not None]

    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "bench",
        "baseline": base.name,
        "metric": _metric(asked.task),
        "models": [_model(entrant, asked.judged, base) for entrant in entrants],
        "latency": said(speed.latency_rows(measured)),
        "speedups": said(speed.speedups(measured, base.name)),
        "load": speed.load_rows(measured, base.name),
        "costs": speed.costs(measured),
        "machine": {"noise_floor": measured.noise_floor},
        "data": {"source": request.data.source, "rows": asked.rows},
        "notes": [*notes, *measured.notes],
        "settings": request.benchmark.model_dump(mode="json"),
        "environment": dict(environment.fingerprint()),
    }


def _metric(task: Task | None) -> dict[str, Any] | None:
    if task is None:
        return None
    title, row_word = title_of(task), METRICS[task.kind].wording.row
    return {"name": task.metric, "title": title.text, "share": title.share, "row_word": row_word}


def _model(entrant: Entrant, judged: Mapping[str, Judged], base: Entrant) -> dict[str, Any]:
    found = judged.get(entrant.name)
    told: dict[str, Any] = dict.fromkeys(("score", "ci95", "agreement", "difference", "mcnemar_p"))
    told["metrics"] = []
    if found is not None:
        deciding = found.scores.deciding
        told["score"], told["ci95"] = deciding.estimate, [deciding.low, deciding.high]
        told["metrics"] = [
            {**_bounds(item.interval), **{key: value for key, value in asdict(item).items() if key != "interval"}}
            for item in found.scores.metrics
        ]
    if found is not None and base.name in judged:
        told["agreement"] = found.scores.agreement_with_teacher
        told["difference"] = _bounds(found.difference)
        told["mcnemar_p"] = found.mcnemar_p
    return {
        "name": entrant.name,
        "path": str(entrant.path),
        "kind": entrant.kind,
        "task": entrant.home.task.kind if entrant.home.task else None,
        "precision": entrant.precision,
        "size_bytes": entrant.size_bytes,
        "labels": list(entrant.home.labels),
        **told,
    }


def _bounds(found: Interval) -> dict[str, float]:
    return {"estimate": found.estimate, "low": found.low, "high": found.high}
