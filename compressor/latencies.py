"""What a student's layers cost at every size, measured as the product measures: exported, quantized, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compressor import benchmark
from compressor.aside import scratch
from compressor.benchmark import MeasuredModel, TokenRows
from compressor.events import Progress
from compressor.graph import modes, targets
from compressor.graph.calibration import Calibration
from compressor.graph.export import export_onnx
from compressor.graph.parity import parity_batches
from compressor.slimming.blocks import blocks
from compressor.slimming.latency import LatencyTable, Point, kept_table, points
from compressor.slimming.plan import NEURON_STEP
from compressor.slimming.specimen import specimen

if TYPE_CHECKING:
    from compressor.artifacts import Student, Teacher
    from compressor.events import Listener
    from compressor.heads import Model
    from compressor.lesson import Material
    from compressor.recipe import Recipe

TEACHER = "teacher"
ROUNDS = 2


def layer_latencies(
    recipe: Recipe, tutor: Teacher, pupil: Student, material: Material, listen: Listener
) -> LatencyTable:
    """Measure, or take from the cache, what layers of the student would cost at every size.

    Args:
        recipe: For quantization, opset, threads and the cache.
        tutor: What the speed-up is measured against, as an fp32 file.
        pupil: Before it is trained.
        material: One text at a time of the test texts' median length is measured.
        listen: Receives progress.
    """
    tokenized, tested = material.tokenized, material.tokenized.splits["test"]
    block = blocks(pupil.model, tutor.architecture)[0]
    wanted = points(pupil.model.config.num_hidden_layers, block.heads, block.neurons, NEURON_STEP)
    batches = parity_batches(
        tokenized.splits["validation"], tokenized.input_names, material.collate.pad_token_id, tokenized.max_length
    )[:2]
    length = int(np.median(tested["length"][:]))
    is_small = recipe.quantize.enabled
    plan = targets.first_plan(recipe.quantize.mode, recipe.quantize.target)

    def write(model: Model, path: Path, quantized: bool) -> None:
        export_onnx(
            model, tutor.architecture, tokenized.input_names, path,
            opset=recipe.export.opset, batches=batches, task=tutor.task,
        )  # fmt: skip
        if quantized:
            small = path.with_suffix(".int8.onnx")
            # Latency does not depend on the ranges of activations.
            modes.write(path, small, plan, Calibration(lambda: batches))
            small.replace(path)

    def measure(asked: Sequence[Point]) -> tuple[Mapping[Point, float], float]:
        with scratch("latencies") as place:
            files = {TEACHER: place / "teacher.onnx"}
            write(tutor.model, files[TEACHER], quantized=False)
            for done, point in enumerate(asked, 1):
                files[point.name] = place / f"{point.name}.onnx"
                write(specimen(pupil.model, tutor.architecture, point), files[point.name], is_small)
                listen(Progress("latencies", done, len(asked), {}))
            timed = benchmark.measure(
                [MeasuredModel(name, "onnx", path, providers=("cpu",)) for name, path in files.items()],
                recipe.benchmark.model_copy(
                    update={"batch_sizes": (1,), "sequence_lengths": (length,), "provider": "cpu", "clients": (),
                            "rounds": ROUNDS, "max_rounds": ROUNDS, "noise_pair": False}
                ),
                TokenRows(tested, tokenized.input_names, tokenized.max_length, material.collate.pad_token_id),
                listen=listen, seed=recipe.seed,
            )  # fmt: skip
        # Almost the fastest call: what else the machine does makes calls slower, never faster.
        found = {
            row.model: float(np.quantile(row.samples, 0.05))
            for row in timed.latency
            if row.batch_size == 1 and row.sequence_length == length
        }
        return {point: found[point.name] for point in asked}, found[TEACHER]

    content = {
        "teacher": tutor.fingerprint,
        "length": length,
        "quantize": recipe.quantize.model_dump(include={"enabled", *(("mode", "target") if is_small else ())}),
        "opset": recipe.export.opset,
        "threads": recipe.benchmark.threads,
    }
    return kept_table(recipe.cache_dir.expanduser(), content, wanted, measure, listen)
