"""One training or two: what lies before the answers first, then the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressor import kept
from compressor.artifacts import TrainingCurve
from compressor.recipe import DistillRecipe


@dataclass(frozen=True)
class Stage:
    """One training of the student.

    Attributes:
        name: Shown while it runs.
        epochs: Its length.
        hints: Whether hidden states, attention, relations and embeddings are taught, as far as the recipe weighs them.
        answers: Whether the answers are taught. Where they are not, no validation score says which weights are best:
            the last ones are.
    """

    name: str
    epochs: float
    hints: bool
    answers: bool


def stages_of(recipe: DistillRecipe) -> tuple[Stage, ...]:
    """Plan the training: two stages as in TinyBERT (Jiao et al. 2020, section 4.2), or one with everything."""
    if recipe.intermediate_epochs == 0:
        return (Stage("distil", recipe.epochs, hints=True, answers=True),)
    return (
        Stage("intermediate", recipe.intermediate_epochs, hints=True, answers=False),
        Stage("distil", recipe.epochs, hints=False, answers=True),
    )


def in_stages(
    model: nn.Module,
    stages: tuple[Stage, ...],
    folder: Path,
    train_stage: Callable[[Stage, Path], TrainingCurve],
) -> TrainingCurve:
    """Run the stages one after the other; one that an interrupted run has finished is not repeated.

    Args:
        model: The student, trained in place.
        stages: In order; the last one is the caller's to keep.
        folder: Of the whole training; a single stage has its checkpoints here.
        train_stage: Runs one stage with its checkpoints in the folder that it is given.

    Returns:
        The curves end to end.
    """
    curve = TrainingCurve()
    for stage in stages[:-1]:
        place = folder / stage.name
        if kept.is_kept(place):
            model.load_state_dict(load_file(place / "model.safetensors"), strict=False)
        else:
            found = train_stage(stage, kept.training_folder(place))
            kept.keep(place, lambda aside: save_file(_own_weights(model), aside / "model.safetensors"), found)
        curve = _joined(curve, kept.read_curve(place))
    last = train_stage(stages[-1], folder if len(stages) == 1 else folder / stages[-1].name)
    return _joined(curve, last)


def _own_weights(model: nn.Module) -> dict[str, Tensor]:
    # Tied weights lie once in named_parameters, and safetensors wants them once.
    return {name: weight.detach().cpu().contiguous() for name, weight in model.named_parameters()}


def _joined(first: TrainingCurve, second: TrainingCurve) -> TrainingCurve:
    past = max([0, *first.steps, *(int(entry["step"]) for entry in first.evaluations)])
    return TrainingCurve(
        steps=(*first.steps, *(past + step for step in second.steps)),
        losses=(*first.losses, *second.losses),
        evaluations=(*first.evaluations, *(_later(entry, past) for entry in second.evaluations)),
    )


def _later(entry: Mapping[str, float], past: int) -> Mapping[str, float]:
    return {**entry, "step": entry["step"] + past}
