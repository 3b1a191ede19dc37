"""From a trained student to files that are proved, judged and timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor import folder
from compressor.evaluation import metrics
from compressor.evaluation.metrics.spans import may_lack
from compressor.events import Note, Warned
from compressor.graph.export import export_onnx
from compressor.graph.ladder import Limits, climb
from compressor.graph.parity import parity_batches, text_batches
from compressor.graph.quantize import read_source
from compressor.recipe import as_toml
from compressor.report import model_card

if TYPE_CHECKING:
    from compressor.answers import Answers
    from compressor.artifacts import Corpus, ExportedModel, Ladder, QuantizedModel, Student, Teacher
    from compressor.evaluation.evaluate import Evaluation
    from compressor.events import Event, Listener
    from compressor.graph.parity import Batch
    from compressor.heads import Model
    from compressor.lesson import Material
    from compressor.recipe import Recipe
    from compressor.tasks import Task
    from compressor.trimming import Study

_BATCH = 32
_CALIBRATION_ROWS, _CALIBRATION_BATCH = 512, 8
_INT8_ROWS = 1024  # enough to see a flip in a thousand; more would only take time


@dataclass(frozen=True)
class Files:
    """The ONNX files of a run.

    Attributes:
        tutor: The teacher's, for comparison only; it does not ship.
        pupil: The student's in fp32.
        int8: The student's smaller one, where one was asked for and kept its accuracy.
        ladder: What was tried for it.
    """

    tutor: ExportedModel
    pupil: ExportedModel
    int8: QuantizedModel | None = None
    ladder: Ladder | None = None


def export(
    recipe: Recipe,
    tutor: Teacher,
    pupil: Student,
    material: Material,
    study: Study,
    staging: Path,
    aside: Path,
    listen: Listener,
) -> Files:
    """Export teacher and student in the same way, and write the student as Hugging Face loads it.

    Args:
        recipe: For the opset.
        tutor: The teacher.
        pupil: The student.
        material: For real texts to compare with torch on.
        study: The same texts as the student's tokenizer cuts them, and that tokenizer.
        staging: The run folder while it is being written.
        aside: Takes the teacher's file.
        listen: Receives warnings.

    Raises:
        ParityError: A graph disagrees with torch.
    """

    def write(who: str, model: Model, learnt: Material, path: Path) -> ExportedModel:
        tokenized, pad_token_id = learnt.tokenized, learnt.collate.pad_token_id
        texts = tokenized.splits["validation"]

        def about(event: Event) -> None:
            listen(replace(event, text=f"{who}: {event.text}") if isinstance(event, (Note, Warned)) else event)

        return export_onnx(
            model,
            tutor.architecture,
            tokenized.input_names,
            path,
            opset=recipe.export.opset,
            batches=parity_batches(texts, tokenized.input_names, pad_token_id, tokenized.max_length, tutor.task),
            task=tutor.task,
            listen=about,
        )

    files = Files(
        write("Teacher", tutor.model, material, aside / "teacher.onnx"),
        write("Student", pupil.model, study.material, staging / folder.MODEL),
    )
    folder.write_student(staging, pupil.model, study.tutor.tokenizer, material.tokenized.max_length)
    return files


def quantize(
    recipe: Recipe, tutor: Teacher, pupil: Student, material: Material, files: Files, staging: Path, listen: Listener
) -> Files:
    """Write the student's smaller file, and measure on validation text what that changes; finer ones where it is much.

    Where none is within the limits, the student ships in fp32, and the nearest file lies beside it.

    Raises:
        QuantizationError: The fp32 file is not one of ours.
    """
    tokenized, task = material.tokenized, tutor.task
    batches = text_batches(
        tokenized.splits["validation"],
        tokenized.input_names,
        material.collate.pad_token_id,
        rows=_INT8_ROWS,
        batch_size=_BATCH,
        task=task,
    )
    source = read_source(
        files.pupil.path,
        expected=len(tutor.architecture.products(pupil.model)),
        batches=batches,
        calibration=partial(calibration, material, task),
        task=task,
    )
    title = metrics.TITLES[task.metric]
    path = staging / folder.QUANTIZED
    found = climb(
        source,
        path,
        mode=recipe.quantize.mode,
        target=recipe.quantize.target,
        limits=Limits.of(task.kind, recipe.evaluate.max_drop, recipe.quantize.max_flips),
        score=_score(material, len(source.answers)),
        metric=(title.text, title.share),
        listen=listen,
    )
    if found.rejected is not None:
        found.rejected.replace(staging / folder.REJECTED)
    return replace(files, int8=found.model, ladder=found.ladder)


def _score(material: Material, rows: int) -> Callable[[Answers], float] | None:
    """The task's metric on the first validation rows; ``None`` where the teacher's embeddings are the only judge."""
    task = material.corpus.task
    if task.kind == "feature-extraction":
        return None
    gold = metrics.gold_of(material.corpus, material.tokenized, "validation", np.arange(rows))
    return lambda answers: metrics.score(task, answers, gold)[task.metric]


def calibration(material: Material, task: Task) -> Iterator[Batch]:
    """Training texts, evenly over the split, in batches small enough for the activations of all products at once."""
    tokenized = material.tokenized
    rows = tokenized.splits["train"]
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _CALIBRATION_ROWS)).astype(np.int64))
    for start in range(0, len(chosen), _CALIBRATION_BATCH):
        part = rows.select(chosen[start : start + _CALIBRATION_BATCH])
        yield from text_batches(
            part, tokenized.input_names, material.collate.pad_token_id, batch_size=_CALIBRATION_BATCH, task=task
        )


def describe(recipe: Recipe, document: Mapping[str, Any], staging: Path, name: str) -> None:
    """Write what tells people of the folder: its README, and the recipe that repeats the run.

    Args:
        recipe: As it was asked for, with what was tuned.
        document: The content of report.json.
        staging: The folder.
        name: Of the run.
    """
    (staging / "recipe.toml").write_text(as_toml(recipe.model_copy(update={"overwrite": False})), encoding="utf-8")
    (staging / "README.md").write_text(model_card(document, name), encoding="utf-8")


def seal(
    recipe: Recipe,
    tutor: Teacher,
    material: Material,
    files: Files,
    staging: Path,
    evaluation: Evaluation | None = None,
) -> None:
    """Write what describes the files: optimum's config, and the manifest with all checksums.

    Args:
        recipe: For the windows of long texts.
        tutor: What was compressed.
        material: For the length that texts were cut to.
        files: Of the run.
        staging: The folder, with all its files.
        evaluation: Knows the files' calibration temperatures, once it is there.
    """
    found = {item.name: item.temperature for item in evaluation.scores} if evaluation else {}
    temperatures = {
        folder.FILES[name]: value for name, value in found.items() if name in folder.FILES and value is not None
    }
    folder.write_ort_config(staging, files.pupil, files.int8)
    folder.write_manifest(
        staging,
        teacher=tutor,
        exported=files.pupil,
        max_length=material.tokenized.max_length,
        quantized=files.int8,
        temperatures=temperatures,
        settings=_settings(recipe, material.corpus, evaluation),
    )


def _settings(recipe: Recipe, corpus: Corpus, evaluation: Evaluation | None) -> dict[str, Any]:
    """What only the data and the evaluation know of how the model is to be used."""
    kind = corpus.task.kind
    if kind == "question-answering":
        return {"doc_stride": recipe.data.doc_stride, "null_score": may_lack(corpus)}
    if kind == "token-classification":
        return {"doc_stride": recipe.data.doc_stride}
    if corpus.task.name != "text-classification":
        return {}
    pairs = {"pairs": any(split.pairs for split in corpus.splits.values())}
    shipped = evaluation and next(item for item in evaluation.scores if item.name == evaluation.shipped)
    return pairs | ({"thresholds": list(shipped.thresholds)} if shipped and shipped.thresholds else {})
