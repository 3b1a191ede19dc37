"""What a comparison rests on: checked where it must hold, told where it may not."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compressor.benchmark.gather import Answer, Contestant, log_medians
from compressor.benchmark.inputs import Cell, TokenRows
from compressor.benchmark.intervals import WIDTH, Logs, half_width_of, narrow_enough
from compressor.benchmark.neighbours import DISTURBING_SHARE
from compressor.benchmark.plan import COPY_SUFFIX, MeasuredModel, Provider
from compressor.errors import BenchmarkError

if TYPE_CHECKING:
    from compressor.recipe import BenchmarkRecipe

HEADLINE_CELL = 0
"""One text at a time, at the texts' own lengths: the ratios there decide when to stop."""


def check_names(models: Sequence[MeasuredModel]) -> None:
    """Make sure that the report can tell the models apart."""
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BenchmarkError(f"Two of the measured models are named {twice}.")


def same_lengths(tokens: TokenRows, own: Mapping[str, TokenRows]) -> tuple[TokenRows, dict[str, TokenRows]]:
    """Let every model be measured at the lengths that all of them take."""
    most = min(rows.max_length for rows in (tokens, *own.values()))
    return dataclasses.replace(tokens, max_length=most), {
        name: dataclasses.replace(rows, max_length=most) for name, rows in own.items()
    }


def check_conditions(
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


def well_known(answers: Mapping[Contestant, Sequence[Answer]]) -> bool:
    """Tell whether all ratios in the headline cell are known well enough to stop.

    They are those of any two models on one provider, and that of the copy to its original: a noise floor that
    one disturbed process has raised hides differences.
    """
    return all(narrow_enough(ratio) for ratio in _ratios(answers))


def told_rounds(answers: Mapping[Contestant, Sequence[Answer]], least: int, most: int) -> list[str]:
    """Say how many rounds there were, where they were more than asked for or still too few."""
    done = max((len(told) for told in answers.values()), default=0)
    if most <= least:
        return []
    if not well_known(answers):
        width = half_width_of([ratio for ratio in _ratios(answers) if not narrow_enough(ratio)])
        return [
            f"After {done} rounds a ratio at one text of its own length is known to ±{100 * width:.0f}% only: "
            "measure on a quieter machine, or with more --max-rounds."
        ]
    if done > least:
        return [
            f"{done} rounds in place of {least}, until every ratio at one text of its own length was known to "
            f"±{100 * WIDTH:.1f}%, or a large one to a tenth of its logarithm. Only the width of the intervals decided."
        ]
    return []


def _ratios(answers: Mapping[Contestant, Sequence[Answer]]) -> list[Logs]:
    """Take the logarithm of each ratio in each round of the headline cell."""
    known = {one: log_medians(told, HEADLINE_CELL) for one, told in answers.items() if told}
    return [
        known[first] - known[second]
        for first, second in itertools.combinations(known, 2)
        if first[1] == second[1] and _comparable(first[0].name, second[0].name)
    ]


def _comparable(first: str, second: str) -> bool:
    copies = first.endswith(COPY_SUFFIX) or second.endswith(COPY_SUFFIX)
    return not copies or first.removesuffix(COPY_SUFFIX) == second.removesuffix(COPY_SUFFIX)


def left_out(
    models: Sequence[MeasuredModel], providers: Sequence[Provider], recipe: BenchmarkRecipe, tokens: TokenRows
) -> list[str]:
    """Say which lengths and models were not measured, and why."""
    long = [length for length in recipe.sequence_lengths if length > tokens.max_length]
    notes = [f"Length {length} was not measured: the models take {tokens.max_length} tokens." for length in long]
    return notes + [
        f"{model.name} was not measured on {provider}: it has no kernels there."
        for provider in providers
        for model in models
        if provider not in model.providers
    ]


def unsettled(answers: Mapping[Contestant, Sequence[Answer]], grid: Sequence[Cell]) -> list[str]:
    """Say where the calls had not settled when the timing began."""
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


def disturbances(shares: Sequence[float], repeated: int) -> list[str]:
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
