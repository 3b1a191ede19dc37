"""Which teacher layers a student should start from, found by trying.

Users of layer-copying distillation ask which layers to copy, and no rule is best for every teacher and task (Sajjad et
al. 2023, https://arxiv.org/abs/2004.03844, compare the rules tried here). Every candidate is judged on the same texts
by how far its answers are from the teacher's: right after cutting, which costs forward passes alone, and, where asked
for, after a short distillation, which then decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compressor.errors import RecipeError
from compressor.events import Listener, Note, Progress, ignore
from compressor.heads import outputs
from compressor.recipe import DistillRecipe, LayerSelection, StudentRecipe
from compressor.student import plan_layers
from compressor.training.objectives import compare, forward_inputs

if TYPE_CHECKING:
    from compressor.artifacts import Teacher
    from compressor.tasks import Task

Layers = tuple[int, ...]
Batch = Mapping[str, Tensor]
Scores = Mapping[str, float]
"""Means over the texts; ``loss`` decides, lower is better, and the others are told."""

RULES: tuple[LayerSelection, ...] = ("spaced", "alternate", "first", "last")
GREEDY = "greedy"


@dataclass(frozen=True)
class Choice:
    """One candidate.

    Attributes:
        names: The rules that lead to it.
        layers: Teacher layers in ascending order.
        cut: Scores right after cutting.
        trained: Scores after the short distillation, if there was one.
    """

    names: tuple[str, ...]
    layers: Layers
    cut: Scores
    trained: Scores = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """What decides: the loss after the most that was tried."""
        return (self.trained or self.cut)["loss"]


@dataclass(frozen=True)
class Scouting:
    """What was tried.

    Attributes:
        choices: From the best to the worst.
        texts: Texts that the scores are means over.
    """

    choices: tuple[Choice, ...]
    texts: int

    @property
    def chosen(self) -> Choice:
        """The best."""
        return self.choices[0]


def scout(
    teacher: Teacher,
    count: int,
    batches: Sequence[Batch],
    train_briefly: Callable[[Layers], nn.Module] | None = None,
    listen: Listener = ignore,
) -> Scouting:
    """Try the rules and the greedy search, and rank what they lead to.

    Args:
        teacher: Cut for a moment at a time, and whole again afterwards.
        count: Layers of the student.
        batches: Padded, with ``soft_labels`` (``fill-mask``: ``labels``); ``rehearsal.sample`` makes them.
        train_briefly: Distils a student of these layers for some steps; ``rehearsal.rehearse`` makes one. ``None``
            decides by the cut alone.
        listen: Receives ``Progress``, and a ``Note`` with the ranking.

    Raises:
        RecipeError: The teacher has fewer layers than asked for, or one that is run again and again.
    """
    config, row = teacher.model.config, teacher.architecture
    total, first = config.num_hidden_layers, row.first
    if row.shared:
        raise RecipeError(
            f"--layer-selection auto: all layers of {teacher.name} are one and the same.", "Drop --layer-selection."
        )
    names: dict[Layers, list[str]] = {}
    types = tuple(config.layer_types) if row.layer_types else ()
    for rule in RULES:
        _, layers = plan_layers(StudentRecipe(layers=count, layer_selection=rule), total, row, types)
        names.setdefault(layers, []).append(rule)
    work = _Work(listen, len(names) + _passes(count, total, first))
    scored: dict[Layers, Scores] = {}

    def score(layers: Layers) -> Scores:
        if layers not in scored:
            with only_layers(teacher, layers):
                scored[layers] = assess(teacher.model, teacher.task, batches)
        work.step(scored[layers])
        return scored[layers]

    for layers in names:
        score(layers)
    names.setdefault(drop_greedily(score, count, total, first), []).append(GREEDY)
    choices = [Choice(tuple(rules), layers, scored[layers]) for layers, rules in names.items()]
    if train_briefly is not None and len(choices) > 1:
        trained = _Work(listen, len(choices))
        for index, choice in enumerate(choices):
            pupil = train_briefly(choice.layers)
            choices[index] = replace(choice, trained=assess(pupil, teacher.task, batches))
            trained.step(choices[index].trained)
    ranked = Scouting(tuple(sorted(choices, key=lambda choice: choice.loss)), sum(map(_rows, batches)))
    listen(Note(describe(ranked)))
    return ranked


def drop_greedily(score: Callable[[Layers], Scores], count: int, total: int, first: int | None = None) -> Layers:
    """Drop the layer whose loss hurts least, again and again, until ``count`` are left.

    Args:
        score: Scores of a model with these layers alone.
        count: Layers to keep, 1 or more.
        total: Layers to begin with.
        first: A layer that stays.
    """
    kept = tuple(range(total))
    while len(kept) > count:
        rests = [kept[:place] + kept[place + 1 :] for place, layer in enumerate(kept) if layer != first]
        kept = min(rests, key=lambda rest: score(rest)["loss"])
    return kept


def assess(model: nn.Module, task: Task, batches: Iterable[Batch]) -> dict[str, float]:
    """Score a model, in eval mode and where it is, by the loss of its answers: means over the texts.

    The loss is that of the soft labels at T = 1, so KL divergence where answers are distributions. For ``fill-mask``,
    whose soft labels would not fit, it is that of the hidden words.
    """
    soft = float(task.unit != "masked token")
    recipe = DistillRecipe(soft_weight=soft, hard_weight=1 - soft, temperature=1.0)
    device = next(model.parameters()).device
    sums: dict[str, float] = {}
    rows = 0
    training = model.training
    model.eval()
    with torch.inference_mode():
        for given in batches:
            batch = {name: tensor.to(device) for name, tensor in given.items()}
            loss, figures = compare(task.kind, outputs(task, model(**forward_inputs(batch))), batch, recipe)
            for name, value in {"loss": loss.item(), **figures}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * _rows(batch)
            rows += _rows(batch)
    model.train(training)
    return {name: value / rows for name, value in sums.items()}


@contextmanager
def only_layers(teacher: Teacher, layers: Layers) -> Iterator[None]:
    """Leave a teacher only some of its layers while the block runs; nothing is copied."""
    path, _, name = teacher.architecture.layers.rpartition(".")
    parent = teacher.model.get_submodule(path)
    whole = parent.get_submodule(name)
    present = list(whole.children())
    setattr(parent, name, nn.ModuleList(present[layer] for layer in layers))
    try:
        yield
    finally:
        setattr(parent, name, whole)


def describe(scouting: Scouting) -> str:
    """Say what was tried, for the report."""
    parts = [
        f"{','.join(map(str, choice.layers))} ({', '.join(choice.names)}) {choice.loss:.4f}"
        for choice in scouting.choices
    ]
    when = "after a short distillation" if scouting.chosen.trained else "right after cutting"
    return (
        f"Layers {','.join(map(str, scouting.chosen.layers))} were chosen by the loss against the teacher's answers "
        f"on {scouting.texts} validation texts {when}: {'; '.join(parts)}."
    )


def remembered(path: Path, search: Callable[[], Scouting], listen: Listener = ignore) -> Scouting:
    """Read what an earlier run has found, or search and write it down.

    Args:
        path: A JSON file, named by all that the search depends on.
        search: Runs where there is no file that can be read.
        listen: Receives the ranking again as a ``Note`` where it was read.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        choices = tuple(
            Choice(tuple(row["names"]), tuple(row["layers"]), row["cut"], row["trained"]) for row in stored["choices"]
        )
        found = Scouting(choices, stored["texts"])
    except (OSError, ValueError, KeyError, TypeError):
        found = search()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
        partial.replace(path)
    else:
        listen(Note(describe(found)))
    return found


class _Work:
    """Counts the steps of a search whose length is known beforehand."""

    def __init__(self, listen: Listener, total: int) -> None:
        self._listen = listen
        self._done = 0
        self._total = total

    def step(self, scores: Scores) -> None:
        self._done += 1
        self._listen(Progress("scout", self._done, self._total, dict(scores)))


def _passes(count: int, total: int, first: int | None) -> int:
    return sum(left - (first is not None) for left in range(count + 1, total + 1))


def _rows(batch: Batch) -> int:
    return len(batch["input_ids"])
