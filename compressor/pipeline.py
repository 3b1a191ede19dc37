"""The story of a run, from a teacher's name to a folder that onnxruntime deploys.

``compress`` reads top to bottom as the run itself. What the long stages leave in the cache is keyed by
content, so that the same command continues an interrupted run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor import (
    benchmark,
    delivery,
    enriching,
    environment,
    folder,
    kept,
    lesson,
    practice,
    processes,
    report,
    trial,
    trimming,
)
from compressor.artifacts import STUDENT_ONNX, TEACHER_ONNX, Run
from compressor.aside import beside
from compressor.events import Listener, Note, ignore
from compressor.journal import Journal
from compressor.quiet import quiet
from compressor.slimming.widths import needs_load_student
from compressor.training.batches import share_of
from compressor.training.engine import resolve_device
from compressor.training.on_cpu import point_out_bfloat16

if TYPE_CHECKING:
    from compressor.recipe import Recipe


@processes.joined()
@quiet()
def compress(recipe: Recipe, listen: Listener = ignore) -> Run:
    """Run a recipe from beginning to end.

    Args:
        recipe: Every choice.
        listen: Receives events while the run goes on.

    Returns:
        The folder that was written, and the content of its report. Of several processes (torchrun) the first writes;
        the others return when the student is trained, without a report.

    Raises:
        UserError: The request cannot be carried out as stated.
        StageError: A stage broke its contract; finished training stays in the cache.
    """
    asked, here = recipe, processes.here()
    journal = Journal(listen if here.is_first else ignore)
    with processes.in_turn():
        recipe = recipe.model_copy(update={"device": resolve_device(recipe.device, recipe.distill.precision)})
        if recipe.benchmark.enabled:
            benchmark.check(recipe.benchmark)
    if here.count > 1:
        _bring_together(recipe, journal)

    with journal.stage("teacher", recipe.teacher.model), processes.in_turn():
        candidate = lesson.find_teacher(recipe, journal)
        output_dir = recipe.output_dir or lesson.default_output(candidate, recipe)
        recipe = recipe.model_copy(update={"output_dir": output_dir})
        if here.is_first:
            folder.check_output(output_dir, recipe.overwrite, bytes_needed=8 * candidate.facts.parameters)

    with journal.stage("data", candidate.data_name), processes.in_turn():
        candidate, material = lesson.read_material(recipe, candidate, journal)
        point_out_bfloat16(recipe.device, recipe.distill.precision, journal.listen)

    tutor, tutor_curve = lesson.teach_teacher(recipe, candidate, material, journal)
    recipe = enriching.settle(recipe, tutor, material, journal)

    if enriching.is_wanted(recipe):
        with (
            journal.stage("more texts", " and ".join(enriching.in_words(recipe, tutor.task.kind))),
            processes.in_turn(),
        ):
            material = enriching.extend(recipe, candidate, tutor, material, journal)

    with journal.stage("soft labels", "what the teacher answers to every text"):
        answers = lesson.ask_teacher(recipe, tutor, material, journal)
        heard = {split: found for split, found in answers.items() if found is not None}
        study = trimming.prepare(recipe, tutor, material, answers, journal)

    tuning = None
    if recipe.tune.trials is not None:
        with journal.stage("tune", f"{recipe.tune.trials} short trials of the training's parameters"):
            recipe, tuning = processes.by_first(lambda: practice.tune(recipe, tutor, material, answers, journal))

    with journal.stage("distil", f"the student, {lesson.effort(recipe.distill.epochs, material.rows)}"):
        pupil, pupil_curve = practice.teach_student(recipe, study.tutor, study.material, study.answers, journal)

    processes.part()
    if not here.is_first:
        return Run(output_dir, {})
    with (
        folder.staging(output_dir, recipe.overwrite) as staging,
        beside(recipe.cache_dir.expanduser() / "onnx", "--cache-dir") as aside,
    ):
        with journal.stage("export", "teacher and student, fused, compared with torch"):
            files = delivery.export(recipe, tutor, pupil, material, study, staging, aside, journal)

        if recipe.quantize.enabled:
            with journal.stage("quantize", f"the student, {recipe.quantize.mode}"):
                files = delivery.quantize(recipe, tutor, pupil, study.material, files, staging, journal)
        delivery.seal(recipe, study.shipped(tutor), material, files, staging)

        with journal.stage("evaluate", f"every model on {len(material.corpus.splits['test'].texts):,} test texts"):
            models, evaluation = trial.judge(recipe, tutor, pupil, material, study, files, staging, heard)

        with journal.stage("benchmark", "a fresh process for each model and round"):
            measured = trial.time_models(recipe, tutor, material, study, files, staging, journal)

        with journal.stage("report"):
            written = report.write_report(
                staging / "report",
                report.Findings(
                    recipe=recipe.model_dump(mode="json"),
                    environment=environment.fingerprint(),
                    teacher=tutor.name,
                    teacher_fingerprint=tutor.fingerprint,
                    teacher_layers=tutor.model.config.num_hidden_layers,
                    fine_tuned=tutor.fine_tuned,
                    layer_map=pupil.layer_map,
                    student_layers=pupil.model.config.num_hidden_layers,
                    corpus=material.corpus,
                    max_length=candidate.max_length,
                    truncated=material.tokenized.truncated,
                    models=models,
                    evaluation=evaluation,
                    exported={TEACHER_ONNX: files.tutor, STUDENT_ONNX: files.pupil},
                    quantized=files.int8,
                    ladder=files.ladder,
                    distillation=pupil_curve,
                    fine_tuning=tutor_curve,
                    tuning=tuning,
                    benchmark=measured,
                    shapes=trial.shapes(tutor, pupil, files),
                    stages=journal.seconds,
                    notes=journal.notes,
                    warnings=journal.warnings,
                    teacher_hub_id=candidate.checkpoint.repository,
                    teacher_commit=candidate.checkpoint.commit,
                    trimmed=study.trimmed,
                    mask_token=tutor.tokenizer.mask_token if tutor.task.kind == "fill-mask" else None,
                    uneven=needs_load_student(staging),
                    data_hub_id=None if Path(candidate.source).expanduser().exists() else candidate.source,
                ),
            )
            delivery.describe(enriching.as_asked(recipe, asked), written, staging, output_dir.name)
            delivery.seal(recipe, study.shipped(tutor), material, files, staging, evaluation)
    return Run(output_dir, written)


def _bring_together(recipe: Recipe, journal: Journal) -> None:
    """Make sure that several processes can share this run.

    Raises:
        UserError: A batch cannot be divided among them, or they do not see the same cache.
    """
    here = processes.here()
    if here.is_first:
        share = share_of(recipe.distill.batch_size)
        journal(Note(f"{here.count} processes trained together: each had {share} texts of every batch."))
    kept.check_shared(recipe.cache_dir.expanduser())
