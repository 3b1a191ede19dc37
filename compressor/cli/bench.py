"""``compress bench``: models of several folders side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from compressor.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

Switch = Annotated[bool, Parameter(negative="")]


def bench(
    *places: Path,
    data: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    tokens_column: str | None = None,
    tags_column: str | None = None,
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    batch_sizes: str = "1,8",
    sequence_lengths: str = "16,64,128",
    clients: str = "1,4",
    rounds: int = 5,
    max_rounds: int = 15,
    torch: Switch = False,
    seed: int = 42,
    output_dir: Path | None = None,
    quiet: Switch = False,
) -> int:
    """Measure models side by side: runs, and folders that other tools made.

    Args:
        places: Run folders, optimum or transformers folders, or ONNX files. The first model is the baseline.
        data: Text with what is right about it, for the scores: a file of test rows, or a folder or hub dataset with
            a test split.
        text_column: Column with the text. Default: text, sentence, ... whichever is there.
        label_column: Column with the label. Default: label, labels, category, ...
        pair_column: Column with the second text of a pair. Default: as compress has it.
        tokens_column: Column with the words of token classification. Default: as compress has it.
        tags_column: Column with their tags. Default: as compress has it.
        provider: cuda measures on the CUDA provider too, and is an error where there is none.
        threads: Threads of every model. Default: the cores this process may use.
        batch_sizes: Batch sizes of the latency grid, as in 1,8,32.
        sequence_lengths: Lengths in tokens of the latency grid, as in 16,128.
        clients: Callers at once in the measurement under load, as in 1,4,16; each sends single texts.
        rounds: Fresh processes per model, at least; models alternate within a round.
        max_rounds: Rounds go on up to this many while a ratio is known less well than to 3.5 per cent.
        torch: Measure the safetensors too where a folder has ONNX files.
        seed: Seed of a test split that has to be carved out.
        output_dir: Write bench.json and bench.md there.
        quiet: Print only the result.
    """
    from compressor.cli import render
    from compressor.cli.flags import section
    from compressor.cli.install import need_training_install

    need_training_install()
    from compressor.recipe import BenchmarkRecipe, DataRecipe
    from compressor.upkeep.bench import BenchRequest
    from compressor.upkeep.bench import bench as measure

    if not places:
        raise RecipeError("Nothing to measure.", "Name one or more folders: compress bench exported/a exported/b.")
    request = BenchRequest(
        places=tuple(places),
        data=section(
            DataRecipe,
            source=data,
            text_column=text_column,
            label_column=label_column,
            pair_column=pair_column,
            tokens_column=tokens_column,
            tags_column=tags_column,
        ),
        benchmark=section(
            BenchmarkRecipe,
            provider=provider,
            threads=threads,
            batch_sizes=batch_sizes,
            sequence_lengths=sequence_lengths,
            clients=clients,
            rounds=rounds,
            max_rounds=max_rounds,
        ),
        torch_too=torch,
        seed=seed,
    )
    with render.listener(quiet=quiet) as listen:
        document = measure(request, listen)
    _show(document)
    if output_dir is not None:
        _write(document, output_dir)
    return 0


def _show(document: Mapping[str, Any]) -> None:
    from compressor.cli.tables import show_lines, show_table
    from compressor.report import side_by_side

    show_table(*side_by_side.table(document))
    show_lines(side_by_side.remarks(document))


def _write(document: Mapping[str, Any], folder: Path) -> None:
    from compressor.cli.output import write_text
    from compressor.cli.tables import show_lines
    from compressor.report import side_by_side

    files = {
        "bench.json": json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n",
        "bench.md": side_by_side.markdown(document),
    }
    for name, text in files.items():
        write_text(folder / name, text)
    show_lines([f"Written: {folder / 'bench.json'}, {folder / 'bench.md'}"])
