"""The benchmark itself: rounds of fresh processes, gathered into rows."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifacts import Benchmark, LatencyRow, MachineBounds, ModelCost
from compressor.benchmark.inputs import Cell, TokenRows, cells, write_cells
from compressor.benchmark.neighbours import DISTURBING_SHARE, others_share, read_clocks
from compressor.benchmark.plan import (
    COPY_SUFFIX,
    Budget,
    MeasuredModel,
    Provider,
    check_providers,
    contestants,
    schedule,
    thread_budget,
)
from compressor.benchmark.process import run_process
from compressor.benchmark.summary import noise_floor
from compressor.environment import onnxruntime_providers
from compressor.errors import BenchmarkError
from compressor.events import Listener, Progress, Warned, ignore

if TYPE_CHECKING:
    from compressor.recipe import BenchmarkRecipe

Contestant = tuple[MeasuredModel, Provider]
Answer = Mapping[str, Any]

BOUNDS_TIMEOUT = 120.0


def check(recipe: BenchmarkRecipe) -> tuple[tuple[Provider, ...], int]:
    """Find out whether a recipe can be measured here, before hours are spent on what is to be measured.

    Returns:
        Providers and threads of every model.

    Raises:
        ProviderError: CUDA was asked for and is not there.
        RecipeError: More threads were asked for than there are cores.
    """
    from compressor.runtime.machine import available_cores

    providers = check_providers(recipe.provider, onnxruntime_providers() if recipe.provider != "cpu" else ())
    return providers, thread_budget(recipe.threads, available_cores())


def measure(
    models: Sequence[MeasuredModel],
    recipe: BenchmarkRecipe,
    tokens: TokenRows,
    *,
    own_tokens: Mapping[str, TokenRows] | None = None,
    listen: Listener = ignore,
    budget: Budget | None = None,
    seed: int = 0,
) -> Benchmark:
    """Measure models side by side.

    Every model runs in a fresh process per round, alone on the machine as far as this process can
    help it, with the same inputs and the same number of threads. Rounds run forwards and
    backwards in turn.

    Args:
        models: What is compared; names are distinct.
        recipe: Provider, threads, grid and rounds.
        tokens: Texts of the test split.
        own_tokens: The same texts as another tokenizer cuts them, by the name of the model that needs it.
        listen: Told after each process.
        budget: How long each cell may take.
        seed: Chooses the texts.

    Returns:
        One row per model, provider and cell; costs; the noise floor; the machine's bounds.

    Raises:
        ProviderError: CUDA was asked for and is not there; nothing has been measured then.
        RecipeError: More threads were asked for than there are cores.
        BenchmarkError: A process crashed, hung or ran under other conditions than the rest.
    """
    budget = budget or Budget()
    _check_names(models)
    providers, threads = check(recipe)
    field = contestants(models, providers, recipe.noise_pair)
    tokens, own = _same_lengths(tokens, own_tokens or {})
    grid = cells(tokens, recipe.batch_sizes, recipe.sequence_lengths, budget, seed)
    grids = {name: cells(rows, recipe.batch_sizes, recipe.sequence_lengths, budget, seed) for name, rows in own.items()}
    notes = _left_out(models, providers, recipe, tokens)

    with tempfile.TemporaryDirectory(prefix="compressor-benchmark-") as folder:
        paths = {name: Path(folder) / f"cells-{index}.npz" for index, name in enumerate(("", *grids))}
        for name, path in paths.items():
            write_cells(grids.get(name, grid), path)
        bounds = MachineBounds(
            **run_process("compressor.benchmark.machine", {"threads": threads}, threads, "the machine", BOUNDS_TIMEOUT)
        )
        answers, happened = _run(field, recipe.rounds, paths, threads, budget=budget, listen=listen)
    _check_conditions(answers, {one: grids.get(_original(one), grid) for one in answers}, threads)

    rows = [row for one, told in answers.items() for row in _rows(one, told, grids.get(_original(one), grid), threads)]
    by_name = {(row.model, row.batch_size, row.sequence_length, row.provider): row for row in rows}
    pairs = [
        (by_name[row.model.removesuffix(COPY_SUFFIX), row.batch_size, row.sequence_length, row.provider], row)
        for row in rows
        if row.model.endswith(COPY_SUFFIX)
    ]
    return Benchmark(
        latency=tuple(row for row in rows if not row.model.endswith(COPY_SUFFIX)),
        costs=tuple(_cost(one, told) for one, told in answers.items() if not one[0].name.endswith(COPY_SUFFIX)),
        notes=(*notes, *happened, *_unsettled(answers, grid)),
        noise_floor=noise_floor(pairs) if pairs else None,
        bounds=bounds,
    )


def _run(
    field: Sequence[Contestant],
    rounds: int,
    paths: Mapping[str, Path],
    threads: int,
    *,
    budget: Budget,
    listen: Listener,
) -> tuple[dict[Contestant, list[Answer]], list[str]]:
    """Run the processes in their order; give the answers by contestant, and what happened meanwhile."""
    answers: dict[Contestant, list[Answer]] = {one: [] for one in field}
    skipped: dict[Contestant, str] = {}
    shares: list[float] = []
    total = rounds * len(field)
    repeats = round(budget.repeated_share * total)
    left = repeats
    for turn, index in enumerate(position for order in schedule(len(field), rounds) for position in order):
        one = field[index]
        path = paths.get(_original(one), paths[""])
        if one not in skipped:
            share, answer = _run_one(one, path, threads, budget)
            # Chosen by what others did, never by the latency: that would flatter.
            if share > DISTURBING_SHARE and left:
                left -= 1
                share, answer = min((share, answer), _run_one(one, path, threads, budget), key=lambda run: run[0])
            if "skipped" in answer:
                skipped[one] = f"{_label(one)} was not measured: {answer['skipped']}."
            else:
                answers[one].append(answer)
                shares.append(share)
        listen(Progress("benchmark", turn + 1, total, {}))
    disturbances = _disturbances(shares, repeats - left)
    for text in disturbances:
        listen(Warned(text))
    return {one: told for one, told in answers.items() if told}, [*skipped.values(), *disturbances]


def _run_one(one: Contestant, path: Path, threads: int, budget: Budget) -> tuple[float, Answer]:
    """Run one process; give the share of the machine that others took meanwhile, and its answer."""
    model, provider = one
    job = {
        "kind": model.kind,
        "path": str(model.path),
        "provider": provider,
        "threads": threads,
        "cells": str(path),
        "budget": dataclasses.asdict(budget),
    }
    before = read_clocks()
    answer = run_process("compressor.benchmark.worker", job, threads, _label(one), budget.timeout_seconds)
    return others_share(before, read_clocks()), answer


def _original(one: Contestant) -> str:
    return one[0].name.removesuffix(COPY_SUFFIX)


def _label(one: Contestant) -> str:
    return f"{one[0].name} on {one[1]}"


def _rows(one: Contestant, told: Sequence[Answer], grid: Sequence[Cell], threads: int) -> list[LatencyRow]:
    model, provider = one
    rows = []
    for index, cell in enumerate(grid):
        parts = [answer["cells"][index]["samples"] for answer in told]
        rows.append(
            LatencyRow(
                model=model.name,
                provider=provider,
                threads=threads,
                batch_size=cell.batch_size,
                sequence_length=cell.sequence_length,
                samples=tuple(sample for part in parts for sample in part),
                processes=len(parts),
                calls=tuple(len(part) for part in parts),
                tokens=cell.tokens,
            )
        )
    return rows


def _cost(one: Contestant, told: Sequence[Answer]) -> ModelCost:
    model, provider = one
    middle = {
        name: statistics.median(answer[name] for answer in told)
        for name in ("load_ms", "first_ms", "import_ms", "peak_rss_bytes")
    }
    return ModelCost(
        model=model.name,
        provider=provider,
        load_ms=middle["load_ms"],
        first_ms=middle["first_ms"],
        peak_rss_bytes=int(middle["peak_rss_bytes"]),
        import_ms=middle["import_ms"],
        inputs=tuple(told[0]["inputs"]),
    )


# --- conditions -----------------------------------------------------------------------------


def _check_names(models: Sequence[MeasuredModel]) -> None:
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BenchmarkError(f"Two of the measured models are named {twice}.")


def _same_lengths(tokens: TokenRows, own: Mapping[str, TokenRows]) -> tuple[TokenRows, dict[str, TokenRows]]:
    """Let every model be measured at the lengths that all of them take."""
    most = min(rows.max_length for rows in (tokens, *own.values()))
    return dataclasses.replace(tokens, max_length=most), {
        name: dataclasses.replace(rows, max_length=most) for name, rows in own.items()
    }


def _check_conditions(
    answers: Mapping[Contestant, Sequence[Answer]], grids: Mapping[Contestant, Sequence[Cell]], threads: int
) -> None:
    """Make sure of what the comparison rests on, from what the processes say they did."""
    for one, told in answers.items():
        model, provider = one
        digests = [cell.digest for cell in grids[one]]
        for answer in told:
            if answer["threads"] != threads:
                raise BenchmarkError(f"{model.name} ran with {answer['threads']} threads, the others with {threads}.")
            if answer["provider"] != provider:
                raise BenchmarkError(f"{model.name} ran on {answer['provider']} instead of {provider}.")
            if [cell["digest"] for cell in answer["cells"]] != digests:
                raise BenchmarkError(f"{model.name} was fed other inputs than the others.")


def _left_out(
    models: Sequence[MeasuredModel], providers: Sequence[Provider], recipe: BenchmarkRecipe, tokens: TokenRows
) -> list[str]:
    long = [length for length in recipe.sequence_lengths if length > tokens.max_length]
    notes = [f"Length {length} was not measured: the models take {tokens.max_length} tokens." for length in long]
    return notes + [
        f"{model.name} was not measured on {provider}: it has no kernels there."
        for provider in providers
        for model in models
        if provider not in model.providers
    ]


def _unsettled(answers: Mapping[Contestant, Sequence[Answer]], grid: Sequence[Cell]) -> list[str]:
    notes = []
    for (model, provider), told in answers.items():
        restless: dict[str, int] = defaultdict(int)
        for answer in told:
            for cell, timing in zip(grid, answer["cells"], strict=True):
                restless[f"{cell.batch_size} x {cell.sequence_length or 'own lengths'}"] += not timing["steady"]
        places = [f"{place} ({times} of {len(told)})" for place, times in restless.items() if times > len(told) / 2]
        if places:
            notes.append(f"{model.name} on {provider} was still unsteady after the warm-up at {', '.join(places)}.")
    return notes


def _disturbances(shares: Sequence[float], repeated: int) -> list[str]:
    """Say how busy others were during the processes that count."""
    notes = []
    if repeated:
        notes.append(f"Measuring processes run again because others computed meanwhile: {repeated}.")
    busy = sum(share > DISTURBING_SHARE for share in shares)
    if busy:
        mean = 100 * sum(shares) / len(shares)
        notes.append(
            f"Other processes took {mean:.0f}% of the machine during the benchmark, and disturbed {busy} of its "
            f"{len(shares)} measuring processes: the figures are noisy."
        )
    return notes
