"""What a run would do, without doing it: the student, sizes and estimated FLOPs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compressor.benchmark import encoder_flops
from compressor.enriching import in_words
from compressor.events import Listener, ignore
from compressor.heads import build
from compressor.lesson import default_output, find_teacher, plan_student
from compressor.slimming.widths import NEURON_COUNTS

if TYPE_CHECKING:
    from compressor.recipe import Recipe
    from compressor.recipe.shipping import QuantizeMode

_BYTES: Mapping[QuantizeMode, tuple[str, float]] = {
    **dict.fromkeys(("smooth", "per-token", "dynamic", "static"), ("int8", 1.02)),
    "fp16": ("fp16", 2.01),
}
"""Of a weight, with scales and graph. Where 4 bits are for the products alone, the size depends on the shape."""


@dataclass(frozen=True)
class Plan:
    """A run before it begins.

    Attributes:
        layer_map: Teacher layer of each student layer; empty for a random start.
        teacher_parameters: With its head.
        student_parameters: With its head.
        flops: Length in tokens to the estimated FLOPs of one text, teacher and student.
        chosen_by_trying: ``--layer-selection auto``: ``layer_map`` is not known before.
        trials: Short trainings before the long one; ``None`` for none.
        added: Texts beside the labelled ones, in words.
    """

    teacher: str
    has_head: bool
    data: str
    teacher_layers: int
    student_layers: int
    layer_map: tuple[int, ...]
    teacher_parameters: int
    student_parameters: int
    quantize: QuantizeMode | None
    sparsity: float
    flops: tuple[tuple[int, int, int], ...]
    output_dir: Path
    chosen_by_trying: bool = False
    trials: int | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def lines(self) -> list[tuple[str, str]]:
        """Say it in words: (topic, text) pairs."""
        copied = f"copies {', '.join(map(str, self.layer_map))}" if self.layer_map else "starts at random"
        if self.chosen_by_trying:
            copied = "layers are chosen by trying"
        rows = [
            ("teacher", f"{self.teacher}: {self.teacher_layers} layers, {self.teacher_parameters / 1e6:.1f} M weights"),
            ("", "has a head for the task" if self.has_head else "has no head for the task: it is fine-tuned first"),
            ("data", self.data),
            *(("", f"and {text}") for text in self.added),
            (
                "student",
                f"{self.student_layers} layers ({copied}), {self.student_parameters / 1e6:.1f} M weights",
            ),
            (
                "fp32 file",
                f"{_megabytes(4 * self.student_parameters)} (teacher {_megabytes(4 * self.teacher_parameters)})",
            ),
        ]
        if self.trials:
            rows.append(("tuning", f"{self.trials} short trials of learning rate, temperature and loss weights first"))
        if self.quantize is not None and self.quantize in _BYTES:
            precision, size = _BYTES[self.quantize]
            rows.append((f"{precision} file", f"about {_megabytes(size * self.student_parameters)}"))
        elif self.quantize:
            rows.append(("smaller file", self.quantize))
        if self.sparsity:
            rows.append(("pruning", f"{self.sparsity:.0%} of the encoder's linear weights become zero"))
        rows += [
            (
                "FLOPs",
                f"{length} tokens: {teacher / 1e9:.2f} G -> {student / 1e9:.2f} G ({teacher / student:.1f}x fewer)",
            )
            for length, teacher, student in self.flops
        ]
        if self.removed:
            rows.append(("removed", f"{' and '.join(self.removed)}; sizes and FLOPs are those before that"))
        return [*rows, ("output", str(self.output_dir))]


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def plan(recipe: Recipe, listen: Listener = ignore) -> Plan:
    """Look at the teacher, and say what the run would do; no weights are loaded.

    Raises:
        UserError: The teacher cannot be found, or the student would not fit it.
    """
    candidate = find_teacher(recipe, listen)
    config = candidate.facts.config
    count, layer_map = plan_student(recipe, candidate.facts)
    with torch.device("meta"):
        skeleton = build(candidate.facts.task, config)
    layer = skeleton.get_submodule(candidate.facts.architecture.layers).get_submodule("0")
    left_out = 0 if candidate.facts.architecture.shared else config.num_hidden_layers - count
    removed = left_out * sum(parameter.numel() for parameter in layer.parameters())
    neurons = next(getattr(config, name) for name in NEURON_COUNTS if hasattr(config, name))
    flops = partial(encoder_flops, hidden=config.hidden_size, intermediate=neurons, batch_size=1)
    return Plan(
        teacher=candidate.checkpoint.name,
        has_head=candidate.facts.has_head,
        data=candidate.data_name,
        teacher_layers=config.num_hidden_layers,
        student_layers=count,
        layer_map=layer_map,
        teacher_parameters=candidate.facts.parameters,
        student_parameters=candidate.facts.parameters - removed,
        quantize=recipe.quantize.mode if recipe.quantize.enabled else None,
        sparsity=recipe.prune.sparsity,
        flops=tuple(
            (
                length,
                flops(layers=config.num_hidden_layers, sequence_length=length),
                flops(layers=count, sequence_length=length),
            )
            for length in recipe.benchmark.sequence_lengths
        ),
        output_dir=recipe.output_dir or default_output(candidate, recipe),
        chosen_by_trying=recipe.student.layer_selection == "auto",
        trials=recipe.tune.trials,
        added=tuple(in_words(recipe, candidate.facts.task.kind)),
        removed=tuple(_removed(recipe)),
    )


def _removed(recipe: Recipe) -> Iterator[str]:
    """What makes the student smaller still, by as much as only the training will tell."""
    for share, what in ((recipe.prune.heads, "heads"), (recipe.prune.ffn, "feed-forward neurons")):
        if share:
            yield f"{share:.0%} of the {what}"
    if recipe.prune.target_speedup:
        yield f"heads and neurons until it is {recipe.prune.target_speedup:g} times as fast"
    if recipe.student.trim_vocab:
        yield "pieces that no text needs"
