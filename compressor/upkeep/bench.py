"""Measure the models of several folders side by side: ``bench(request) -> document``.

Accuracy is that of the same rows for all, their labels matched by name with each model's own; latency that of
fresh, alternating processes with equal threads. Every ratio is against the first model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor import benchmark, data, environment
from compressor.artifacts import Benchmark
from compressor.benchmark import Budget
from compressor.errors import CompressorError, DataError, ManifestError
from compressor.evaluation import statistics
from compressor.events import Listener, Note, Progress, Warned, ignore
from compressor.recipe import BenchmarkRecipe, DataRecipe
from compressor.report import speed
from compressor.upkeep.answers import encode, filler, logits, token_rows
from compressor.upkeep.lineup import Entrant, line_up

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BenchRequest:
    """What is measured.

    Attributes:
        places: Run folders, other folders or ONNX files; the first model of the first is the baseline.
        data: Labelled text; without a source nothing is said about accuracy.
        benchmark: Provider, threads, grid and rounds.
        torch_too: Measure the safetensors of every folder as well, not only where there is no ONNX file.
        seed: Of a test split that has to be carved out; take that of the run.
    """

    places: tuple[Path, ...]
    data: DataRecipe = field(default_factory=DataRecipe)
    benchmark: BenchmarkRecipe = field(default_factory=BenchmarkRecipe)
    torch_too: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Judged:
    """What a model answered on the test rows.

    Attributes:
        right: Whether it has each row right [n].
        answers: The label names that it gave [n].
    """

    accuracy: statistics.Interval
    macro_f1: statistics.Interval
    right: npt.NDArray[np.bool_]
    answers: npt.NDArray[np.str_]


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
    texts, judged, said = _judge(entrants, request, listen)
    notes += said
    tokens = [token_rows(entrant, texts or filler(request.benchmark.sequence_lengths[:1])) for entrant in entrants]
    own = {entrant.name: rows for entrant, rows in zip(entrants, tokens, strict=True) if rows.rows != tokens[0].rows}
    if own:
        notes.append(f"Cut into tokens in another way than for {entrants[0].name}: the texts of {', '.join(own)}.")
    measured = benchmark.measure(
        [entrant.measured for entrant in entrants],
        request.benchmark,
        tokens[0],
        own_tokens=own,
        listen=listen,
        budget=budget,
        seed=request.seed,
    )
    return _document(request, entrants, judged, measured, notes, has_texts=bool(texts))


# --- accuracy -------------------------------------------------------------------------------


def _judge(
    entrants: Sequence[Entrant], request: BenchRequest, listen: Listener
) -> tuple[tuple[str, ...], dict[str, Judged], list[str]]:
    """Ask every model about the test rows; give the texts, the scores by name, and what could not be judged."""
    source = request.data.source
    if source is None:
        return (), {}, ["No data were given (--data): nothing is said about accuracy."]
    notes: list[str] = []
    judged: dict[str, Judged] = {}
    texts: tuple[str, ...] = ()
    held: dict[tuple[str, ...], data.HeldOut] = {}
    refused: CompressorError | None = None
    for index, entrant in enumerate(entrants):
        listen(Progress("evaluate", index, len(entrants), {}))
        try:
            if entrant.labels not in held:
                held[entrant.labels] = _held_out(entrant, request, source, ignore if held else listen)
            rows = held[entrant.labels]
            judged[entrant.name] = _score(entrant, rows, request.seed)
            texts = texts or rows.split.texts
            notes = notes or [f"Accuracy is that of {rows.which}: {len(rows.split.texts):,} rows."]
        except (DataError, ManifestError) as error:
            refused = error
            notes.append(f"{entrant.name} has no accuracy: {error.message}")
            listen(Warned(notes[-1]))
    listen(Progress("evaluate", len(entrants), len(entrants), {}))
    if not judged and refused is not None:
        raise refused
    return texts, judged, notes


def _held_out(entrant: Entrant, request: BenchRequest, source: str, listen: Listener) -> data.HeldOut:
    if not entrant.labels:
        raise DataError(f"{entrant.home} does not name the labels of its model.", "Put id2label into its config.json.")
    return data.read_held_out(request.data, source, entrant.labels, request.seed, listen)


def _score(entrant: Entrant, rows: data.HeldOut, seed: int) -> Judged:
    labels = rows.split.labels
    predictions = logits(entrant, encode(entrant, rows.split.texts)).argmax(axis=1)
    right = predictions == labels
    return Judged(
        accuracy=statistics.accuracy_interval(int(right.sum()), len(labels)),
        macro_f1=statistics.macro_f1_interval(labels, predictions, seed),
        right=right,
        answers=np.asarray(entrant.labels)[predictions],
    )


# --- the document ---------------------------------------------------------------------------


def _document(
    request: BenchRequest,
    entrants: Sequence[Entrant],
    judged: Mapping[str, Judged],
    measured: Benchmark,
    notes: Sequence[str],
    *,
    has_texts: bool,
) -> dict[str, Any]:
    base = entrants[0]

    def said(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # Filler has no lengths of its own to speak of.
        return [row for row in rows if has_texts or row["sequence_length"] is not None]

    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "bench",
        "baseline": base.name,
        "models": [_model(entrant, base, judged) for entrant in entrants],
        "latency": said(speed.latency_rows(measured)),
        "speedups": said(speed.speedups(measured, base.name)),
        "costs": speed.costs(measured),
        "machine": {"noise_floor": measured.noise_floor},
        "data": {
            "source": request.data.source,
            "rows": len(next(iter(judged.values())).right) if judged else 0,
        },
        "notes": [*notes, *measured.notes],
        "settings": request.benchmark.model_dump(mode="json"),
        "environment": dict(environment.fingerprint()),
    }


def _model(entrant: Entrant, base: Entrant, judged: Mapping[str, Judged]) -> dict[str, Any]:
    found, first = judged.get(entrant.name), judged.get(base.name)
    scores: dict[str, Any] = dict.fromkeys(("accuracy", "ci95", "macro_f1", "agreement", "difference", "mcnemar_p"))
    if found is not None:
        scores["accuracy"], scores["ci95"] = found.accuracy.estimate, [found.accuracy.low, found.accuracy.high]
        scores["macro_f1"] = found.macro_f1.estimate
    if found is not None and first is not None:
        broken, repaired = int((first.right & ~found.right).sum()), int((found.right & ~first.right).sum())
        difference = statistics.paired_difference(broken, repaired, len(found.right))
        scores["agreement"] = float(np.mean(found.answers == first.answers))
        scores["difference"] = {"estimate": difference.estimate, "low": difference.low, "high": difference.high}
        scores["mcnemar_p"] = float(statistics.mcnemar(broken, repaired))
    return {
        "name": entrant.name,
        "path": str(entrant.path),
        "kind": entrant.kind,
        "precision": entrant.precision,
        "size_bytes": entrant.size_bytes,
        "labels": list(entrant.labels),
        **scores,
    }
