"""The benchmark itself: rounds of fresh processes, gathered into rows."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.artifacts import Benchmark, LatencyRow, MachineBounds
from compressor.benchmark.conditions import (
    check_conditions,
    check_names,
    disturbances,
    left_out,
    same_lengths,
    told_rounds,
    unsettled,
    well_known,
)
from compressor.benchmark.gather import Answer, Contestant, cost, latency_rows, load_rows
from compressor.benchmark.inputs import TokenRows, cells, write_cells
from compressor.benchmark.intervals import ADAPTIVE_FROM
from compressor.benchmark.neighbours import DISTURBING_SHARE, others_share, read_clocks
from compressor.benchmark.plan import (
    COPY_SUFFIX,
    Budget,
    MeasuredModel,
    Provider,
    check_providers,
    contestants,
    original_name,
    schedule,
    thread_budget,
)
from compressor.benchmark.process import run_process
from compressor.benchmark.summary import noise_floor
from compressor.environment import onnxruntime_providers
from compressor.events import Listener, Progress, Warned, ignore

if TYPE_CHECKING:
    from compressor.recipe import BenchmarkRecipe

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
    backwards in turn, and go on until the ratios are known well enough, or to the recipe's limit.

    Args:
        models: What is compared; names are distinct.
        recipe: Provider, threads, grid, callers and rounds.
        tokens: Texts of the test split.
        own_tokens: The same texts as another tokenizer cuts them, by the name of the model that needs it.
        listen: Told after each process.
        budget: How long each cell may take.
        seed: Chooses the texts.

    Returns:
        One row per model, provider and cell; one under load per number of callers; costs; the noise
        floor; the machine's bounds.

    Raises:
        ProviderError: CUDA was asked for and is not there (nothing has been measured then), or a model
            computes elsewhere than where it was to.
        RecipeError: More threads were asked for than there are cores.
        BenchmarkError: A process crashed, hung or ran under other conditions than the rest.
    """
    budget = budget or Budget()
    check_names(models)
    providers, threads = check(recipe)
    field = contestants(models, providers, recipe.noise_pair)
    tokens, own = same_lengths(tokens, own_tokens or {})
    grid = cells(tokens, recipe.batch_sizes, recipe.sequence_lengths, budget, seed)
    grids = {name: cells(rows, recipe.batch_sizes, recipe.sequence_lengths, budget, seed) for name, rows in own.items()}
    notes = left_out(models, providers, recipe, tokens)

    with tempfile.TemporaryDirectory(prefix="compressor-benchmark-") as folder:
        paths = {name: Path(folder) / f"cells-{index}.npz" for index, name in enumerate(("", *grids))}
        for name, path in paths.items():
            write_cells(grids.get(name, grid), path)
        bounds = MachineBounds(
            **run_process("compressor.benchmark.machine", {"threads": threads}, threads, "the machine", BOUNDS_TIMEOUT)
        )
        answers, happened = _run(field, recipe, paths, threads, budget=budget, listen=listen)
    fed = {one: grids.get(original_name(one[0].name), grid) for one in answers}
    check_conditions(answers, fed, threads)
    happened += told_rounds(answers, recipe.rounds, _most_rounds(recipe))

    rows = [row for one, told in answers.items() for row in latency_rows(one, told, fed[one], threads)]
    pairs = _pairs(rows)
    kept = {one: told for one, told in answers.items() if not one[0].name.endswith(COPY_SUFFIX)}
    return Benchmark(
        latency=tuple(row for row in rows if not row.model.endswith(COPY_SUFFIX)),
        costs=tuple(cost(one, told) for one, told in kept.items()),
        notes=(*notes, *happened, *unsettled(answers, grid)),
        noise_floor=noise_floor(pairs) if pairs else None,
        bounds=bounds,
        load=tuple(row for one, told in kept.items() for row in load_rows(one, told, threads)),
    )


def _pairs(rows: Sequence[LatencyRow]) -> list[tuple[LatencyRow, LatencyRow]]:
    """Find the rows of the model that was measured twice, each beside its copy's."""
    by_name = {(row.model, row.batch_size, row.sequence_length, row.provider): row for row in rows}
    return [
        (by_name[row.model.removesuffix(COPY_SUFFIX), row.batch_size, row.sequence_length, row.provider], row)
        for row in rows
        if row.model.endswith(COPY_SUFFIX)
    ]


def _most_rounds(recipe: BenchmarkRecipe) -> int:
    return max(recipe.rounds, recipe.max_rounds) if recipe.rounds >= ADAPTIVE_FROM else recipe.rounds


def _run(
    field: Sequence[Contestant],
    recipe: BenchmarkRecipe,
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
    done = repeated = 0
    for turn, order in enumerate(schedule(len(field), _most_rounds(recipe))):
        if turn >= recipe.rounds and well_known(answers):
            break
        total = len(field) * max(recipe.rounds, turn + 1)
        for one in (field[index] for index in order):
            if one not in skipped:
                share, answer = _run_one(one, recipe, paths, threads, budget)
                # Chosen by what others did, never by the latency: that would flatter.
                if share > DISTURBING_SHARE and repeated < round(budget.repeated_share * total):
                    repeated += 1
                    again = _run_one(one, recipe, paths, threads, budget)
                    share, answer = min((share, answer), again, key=lambda run: run[0])
                if "skipped" in answer:
                    skipped[one] = f"{_label(one)} was not measured: {answer['skipped']}."
                else:
                    answers[one].append(answer)
                    shares.append(share)
            done += 1
            listen(Progress("benchmark", done, total, {}))
    disturbed = disturbances(shares, repeated)
    for text in disturbed:
        listen(Warned(text))
    return {one: told for one, told in answers.items() if told}, [*skipped.values(), *disturbed]


def _run_one(
    one: Contestant, recipe: BenchmarkRecipe, paths: Mapping[str, Path], threads: int, budget: Budget
) -> tuple[float, Answer]:
    """Run one process; give the share of the machine that others took meanwhile, and its answer."""
    model, provider = one
    job = {
        "kind": model.kind,
        "path": str(model.path),
        "precision": model.precision,
        "task": model.task,
        "provider": provider,
        "threads": threads,
        "cells": str(paths.get(original_name(model.name), paths[""])),
        # The copy is there for the noise of the latency.
        "clients": [] if model.name.endswith(COPY_SUFFIX) else list(recipe.clients),
        "budget": dataclasses.asdict(budget),
    }
    before = read_clocks()
    answer = run_process("compressor.benchmark.worker", job, threads, _label(one), budget.timeout_seconds)
    return others_share(before, read_clocks()), answer


def _label(one: Contestant) -> str:
    return f"{one[0].name} on {one[1]}"
