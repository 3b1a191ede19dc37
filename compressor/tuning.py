"""Learning rate, temperature and weights of the losses, found by trying.

``optuna`` proposes (a tree-structured Parzen estimator, Bergstra et al. 2011,
https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization) and stops what falls behind the median of
the trials before it (Golovin et al. 2017, https://doi.org/10.1145/3097983.3098043). The first trial has the recipe's
own values, so that they are left only for better ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.artifacts import TunedTrial, Tuning
from compressor.errors import DivergedError, RecipeError
from compressor.events import Listener, Note, Progress, Warned, ignore
from compressor.training.objectives import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial

    from compressor.recipe import DistillRecipe, Recipe
    from compressor.tasks import Kind

Hear = Callable[[float], None]
"""Takes the validation score after an epoch; raises where the trial is not worth going on with."""

Attempt = Callable[["DistillRecipe", Hear], None]
"""Trains a student briefly; ``rehearsal.Rehearsal.attempt`` is one."""

FIRST_WHOLE = 3
"""Trials that are finished before one is stopped early, and proposed at random before anything is learnt from them."""

_WORST = -1.0  # no metric that decides is below it
_SOFTENED: tuple[Kind, ...] = (
    "single-label", "multi-label", "token-classification", "question-answering", "fill-mask"
)  # fmt: skip
_HINTS = ("hidden_weight", "pkd_weight", "attention_weight", "relation_weight", "embedding_weight")


@dataclass(frozen=True)
class Range:
    """Where a parameter is searched; ``log`` for factors rather than differences."""

    low: float
    high: float
    log: bool = True


class _FallenBehind(Exception):
    """Ends a trial."""


def check(recipe: Recipe) -> None:
    """Make sure that the tuning which a recipe asks for can be done.

    Raises:
        RecipeError: optuna is not there, or the training is shorter than any trial.
    """
    if recipe.tune.trials is None:
        return
    if find_spec("optuna") is None:
        raise RecipeError(
            f"--tune {recipe.tune.trials} needs optuna, which is not installed.",
            "Install it: pip install '.[tune]' in a checkout of the project.",
        )
    if recipe.distill.epochs < 1:
        raise RecipeError(
            f"--tune {recipe.tune.trials} compares scores after whole epochs, and --epochs {recipe.distill.epochs:g} "
            "has none.",
            "Give --epochs 1 or more, or drop --tune.",
        )


def space_of(recipe: DistillRecipe, kind: Kind) -> dict[str, Range]:
    """Say what is searched, and where: around the recipe's own values.

    A loss whose weight is 0 stays out. Soft labels and labels share their weight: only the share of the labels is
    searched. What is taught in a stage of its own has no answers beside it that it could be weighed against.

    Args:
        recipe: The values that the search starts from.
        kind: Of the task; some have no labels, or answers that no temperature softens.

    Returns:
        Parameter to its range: fields of the recipe, and ``hard_share``.
    """
    space = {"learning_rate": _around(recipe.peak, 4)}
    if recipe.soft_weight > 0 and kind in _SOFTENED:
        space["temperature"] = Range(min(1.0, recipe.temperature), max(10.0, recipe.temperature))
    if recipe.soft_weight > 0 and recipe.hard_weight > 0 and LOSSES[kind].hard is not None:
        space["hard_share"] = Range(0.0, max(0.8, _hard_share(recipe)), log=False)
    weighed = ("logit_weight", *(() if recipe.intermediate_epochs else _HINTS))
    answered = max(recipe.soft_weight, recipe.hard_weight) > 0
    space |= {name: _around(getattr(recipe, name), 8) for name in weighed if answered and getattr(recipe, name) > 0}
    return space


def values_of(recipe: DistillRecipe, parameters: Mapping[str, float]) -> dict[str, float]:
    """Turn proposed parameters into fields of the recipe, with three digits each."""
    values = {name: value for name, value in parameters.items() if name != "hard_share"}
    if "hard_share" in parameters:
        total = recipe.soft_weight + recipe.hard_weight
        values["soft_weight"] = total * (1 - parameters["hard_share"])
        values["hard_weight"] = total * parameters["hard_share"]
    return {name: float(f"{value:.3g}") for name, value in values.items()}


def tune(
    recipe: DistillRecipe,
    kind: Kind,
    trials: int,
    attempt: Attempt,
    path: Path,
    *,
    metric: str,
    rows: int,
    epochs: float,
    seed: int,
    listen: Listener = ignore,
) -> Tuning:
    """Try parameters one after the other; trials that an interrupted tuning has finished are not repeated.

    What a trial proposes depends on the seed and on the trials finished before it alone, so an interrupted tuning ends
    with what it would have ended with.

    Args:
        recipe: The values that the search starts from.
        kind: Of the task.
        trials: How many, those of earlier runs included.
        attempt: Trains with the recipe that it is given, and tells the validation score after each epoch.
        path: optuna's journal of the trials; named by all that they depend on but their number.
        metric: Name of the score.
        rows: Training rows of a trial, for the report.
        epochs: Of a trial.
        seed: Of the proposals.
        listen: Receives ``Progress``, and a ``Note`` with what was chosen.

    Raises:
        DivergedError: Every trial did.
    """
    space, each = space_of(recipe, kind), math.ceil(epochs)

    def told(done: int, heard: Sequence[float] = ()) -> None:
        best = max((item.value for item in finished if item.value is not None), default=None)
        figures = {"best": best} if best is not None else {}
        figures |= {"now": heard[-1]} if heard else {}
        listen(Progress("tune", done * each + len(heard), trials * each, figures))

    with _sober():
        study = _open(path, listen)
        finished = _finished(study)
        while len(finished) < trials:
            done = len(finished)
            told(done)
            _try(study, space, recipe, attempt, each, seed, partial(told, done))
            finished = _finished(study)
    found = Tuning(tuple(_trial(recipe, space, item) for item in finished[:trials]), metric, rows, epochs)
    if all(trial.pruned for trial in found.trials):
        raise DivergedError(
            f"All {trials} short trainings of --tune diverged: their weights are no numbers any more.",
            f"Lower --learning-rate ({recipe.peak:g} now); in half precision, try --precision fp32.",
        )
    told(trials)
    listen(Note(describe(found)))
    return found


def describe(tuning: Tuning) -> str:
    """Say what was tried, for the report."""
    chosen, count = tuning.trials[tuning.chosen], len(tuning.trials)
    stopped = sum(trial.pruned for trial in tuning.trials)
    early = f", {stopped} of them stopped early" if stopped else ""
    own = tuning.trials[0]
    kept = "the recipe's own values" if chosen is own else in_words(chosen.values)
    compared = "" if chosen is own else f", where the recipe's own values had {own.score:.4f}"
    return (
        f"{count} short training{'' if count == 1 else 's'}, {tuning.epochs:g} epochs of {tuning.rows:,} rows each"
        f"{early}: {kept} had the best validation score ({tuning.metric} {chosen.score:.4f}{compared})."
    )


def in_words(values: Mapping[str, float]) -> str:
    """Name the values of a trial: ``learning rate 0.0004, temperature 3.1``."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


# --- the study ------------------------------------------------------------------------------


def _try(
    study: Study,
    space: Mapping[str, Range],
    recipe: DistillRecipe,
    attempt: Attempt,
    epochs: int,
    seed: int,
    told: Callable[[Sequence[float]], None],
) -> None:
    """Propose one trial, carry it out, and write down how it went."""
    import optuna

    done = len(_finished(study))
    # A sampler for each trial: one for all would begin anew in a tuning that is continued.
    study.sampler = optuna.samplers.TPESampler(seed=seed + done, n_startup_trials=FIRST_WHOLE)
    if done == 0 and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        study.enqueue_trial(_start(recipe, space))
    trial = study.ask()
    parameters = {name: trial.suggest_float(name, each.low, each.high, log=each.log) for name, each in space.items()}
    scores: list[float] = []

    def hear(score: float) -> None:
        scores.append(score if math.isfinite(score) else _WORST)
        trial.report(scores[-1], len(scores))
        told(scores)
        if len(scores) < epochs and trial.should_prune():
            raise _FallenBehind

    try:
        attempt(recipe.model_copy(update=values_of(recipe, parameters)) if done else recipe, hear)
    except _FallenBehind:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except DivergedError:
        # An answer too: of values that were given up nothing would be known, and they would be proposed again.
        trial.report(_WORST, len(scores) + 1)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, max(scores))


def _open(path: Path, listen: Listener) -> Study:
    """Open the journal; what a killed process has left half done there is given up."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.parent.mkdir(parents=True, exist_ok=True)
    # Whoever comes here is alone with the file: see ``aside.one_at_a_time``.
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST_WHOLE)

    def opened() -> Study:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(
            storage=storage, study_name="tune", direction="maximize", pruner=pruner, load_if_exists=True
        )

    if path.is_file():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])  # a kill in the middle of a line
    try:
        study = opened()
    except (ValueError, KeyError, TypeError):
        path.unlink()
        listen(Warned(f"The journal of the tuning {path} is damaged and was begun anew."))
        study = opened()
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _finished(study: Study) -> list[FrozenTrial]:
    """Trials that came to an end, in their order."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


@contextmanager
def _sober() -> Iterator[None]:
    """Keep optuna from printing every trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _trial(recipe: DistillRecipe, space: Mapping[str, Range], found: FrozenTrial) -> TunedTrial:
    started = _start(recipe, space) == found.params
    values = values_of(recipe, found.params)
    return TunedTrial(
        {name: float(getattr(recipe, name)) for name in values} if started else values,
        tuple(score for _, score in sorted(found.intermediate_values.items())),
        found.state.name == "PRUNED",
    )


# --- the parameters -------------------------------------------------------------------------


def _start(recipe: DistillRecipe, space: Mapping[str, Range]) -> dict[str, float]:
    return {name: _hard_share(recipe) if name == "hard_share" else float(getattr(recipe, name)) for name in space}


def _hard_share(recipe: DistillRecipe) -> float:
    return recipe.hard_weight / (recipe.soft_weight + recipe.hard_weight)


def _around(value: float, factor: float) -> Range:
    return Range(value / factor, value * factor)
