"""The student's side of a run: which layers it starts from, what its training is tuned to, and the training itself."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from compressor import kept, processes, rehearsal, scouting, student, tuning
from compressor.aside import one_at_a_time
from compressor.events import Note
from compressor.heads import load as load_model
from compressor.latencies import layer_latencies
from compressor.lesson import score_of
from compressor.recipe import TuneRecipe
from compressor.slimming.plan import choice_for
from compressor.training import distill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compressor.answers import Answers
    from compressor.artifacts import SplitName, Student, Teacher, TrainingCurve, Tuning
    from compressor.events import Listener
    from compressor.lesson import Material
    from compressor.recipe import Recipe, StudentRecipe


def tune(
    recipe: Recipe,
    tutor: Teacher,
    material: Material,
    answers: Mapping[SplitName, Answers | None],
    listen: Listener,
) -> tuple[Recipe, Tuning]:
    """Try parameters of the training in short ones, for the layers that the student will have.

    Returns:
        The recipe with its layers settled and the best parameters, which asks for no trials itself; and all trials.
    """
    layers, task = _choose_layers(recipe, tutor, material, answers, listen), tutor.task
    count = tutor.model.config.num_hidden_layers
    types = student.kinds_of_layers(tutor.model.config, tutor.architecture)
    path = kept.place(
        recipe.cache_dir.expanduser(),
        "tuning",
        {
            "teacher": tutor.fingerprint,
            "data": material.tokenized.fingerprint,
            "layers": student.plan_layers(layers, count, tutor.architecture, types),
            "seed": recipe.seed,
            "distill": recipe.distill.model_dump(exclude={"checkpoint_minutes"}),
            **_by_forms(material),
        },
    ).with_suffix(".log")
    attempt, rows = rehearsal.attempts(
        tutor,
        material.tokenized,
        answers,
        material.collate,
        layers,
        forms=material.forms,
        seed=recipe.seed,
        device=recipe.device,
        score=score_of(material, answers["validation"]),
    )
    with one_at_a_time(path, listen):
        found = tuning.tune(
            recipe.distill,
            task.kind,
            recipe.tune.trials or 1,
            attempt,
            path,
            metric=task.metric,
            rows=rows,
            epochs=rehearsal.trial_epochs(recipe.distill.epochs),
            seed=recipe.seed,
            listen=listen,
        )
    best = recipe.distill.model_copy(update=found.trials[found.chosen].values)
    return recipe.model_copy(update={"student": layers, "distill": best, "tune": TuneRecipe()}), found


def teach_student(
    recipe: Recipe,
    tutor: Teacher,
    material: Material,
    answers: Mapping[SplitName, Answers | None],
    listen: Listener,
) -> tuple[Student, TrainingCurve]:
    """Build the student and distil it; a training that an earlier run has finished is taken up.

    Returns:
        The student, and how its training went.
    """
    pupil = student.build_student(tutor, _choose_layers(recipe, tutor, material, answers, listen), recipe.seed, listen)
    table = None
    if recipe.prune.target_speedup:
        table = processes.by_first(lambda: layer_latencies(recipe, tutor, pupil, material, listen))
    beside = recipe.distill.has_hints or tutor.task.unit == "masked token"
    in_half = beside and recipe.distill.precision != "fp32"
    where = kept.place(
        recipe.cache_dir.expanduser(),
        "students",
        {
            "teacher": tutor.fingerprint,
            "data": material.tokenized.fingerprint,
            "layers": [pupil.model.config.num_hidden_layers, *pupil.layer_map],
            "seed": recipe.seed,
            "distill": recipe.distill.model_dump(exclude={"checkpoint_minutes"}),
            "prune": recipe.prune.model_dump(),
            **({"latencies": asdict(table)} if table else {}),
            **_by_forms(material),
            **({"zeros": "of what is left"} if recipe.prune.sparsity > 0 and recipe.prune.is_slim else {}),
            **({"teacher beside": recipe.distill.precision} if in_half else {}),
        },
    )
    with one_at_a_time(where, listen):
        if kept.is_kept(where):
            listen(Note(f"This student was distilled by an earlier run: {where}"))
            return replace(pupil, model=load_model(tutor.task, where)[0]), kept.read_curve(where)
        curve = distill.distill(
            tutor,
            pupil,
            material.tokenized,
            answers,
            material.collate,
            recipe.distill,
            recipe.prune,
            slim=choice_for(recipe.prune, table),
            forms=material.forms,
            seed=recipe.seed,
            device=recipe.device,
            folder=kept.training_folder(where),
            listen=listen,
            score=score_of(material, answers["validation"]),
        )
        kept.keep(where, pupil.model.save_pretrained, curve)
        return pupil, curve


def _choose_layers(
    recipe: Recipe, tutor: Teacher, material: Material, answers: Mapping[SplitName, Answers | None], listen: Listener
) -> StudentRecipe:
    """Settle which layers the student copies; ``auto`` tries several choices once, and keeps what it found."""
    if recipe.student.layer_selection != "auto":
        return recipe.student
    count, _ = student.plan_layers(recipe.student, tutor.model.config.num_hidden_layers, tutor.architecture)
    path = kept.place(
        recipe.cache_dir.expanduser(),
        "layers",
        {
            "teacher": tutor.fingerprint,
            "data": material.tokenized.fingerprint,
            "count": count,
            "seed": recipe.seed,
            "distill": recipe.distill.model_dump(exclude={"checkpoint_minutes"}),
            **_by_forms(material),
        },
    ).with_suffix(".json")

    def search() -> scouting.Scouting:
        batches = rehearsal.sample(material.tokenized, answers, material.collate, recipe.seed)
        brief = rehearsal.rehearse(
            tutor,
            material.tokenized,
            answers,
            material.collate,
            recipe.distill,
            forms=material.forms,
            seed=recipe.seed,
            device=recipe.device,
        )
        return scouting.scout(tutor, count, batches, brief, listen)

    def found() -> scouting.Scouting:
        with one_at_a_time(path, listen):
            return scouting.remembered(path, search, listen)

    layers = processes.by_first(found).chosen.layers
    return recipe.student.model_copy(update={"layers": layers, "layer_selection": "spaced"})


def _by_forms(material: Material) -> dict[str, str]:
    """What names a training, where an epoch has one of several forms of each text."""
    return {"forms": "one an epoch"} if material.forms is not None else {}
