"""From a trained student to files that are proved, judged and timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compressor import benchmark, folder
from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, TEACHER, TEACHER_ONNX, EncoderShape, ModelFacts
from compressor.benchmark import MeasuredModel, TokenRows
from compressor.evaluation import company, evaluate
from compressor.events import Note, Warned
from compressor.graph import files as onnx_files
from compressor.graph.export import export_onnx
from compressor.graph.parity import parity_batches, text_batches
from compressor.graph.quantize import quantize_onnx
from compressor.recipe import as_toml
from compressor.runtime import Predictor
from compressor.runtime.session import open_session

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel

    from compressor.artifacts import Benchmark, ExportedModel, QuantizedModel, SplitName, Student, Teacher
    from compressor.evaluation.evaluate import Evaluation
    from compressor.events import Event, Listener
    from compressor.lesson import Material
    from compressor.recipe import Recipe
    from compressor.training.batches import Collator

Logits = npt.NDArray[np.float32]

_BATCH = 32
_INT8_ROWS = 1024  # enough to see a flip in a thousand; more would only take time
_CALIBRATION_ROWS = 2048
_FILES = {STUDENT_ONNX: folder.MODEL, STUDENT_INT8: folder.QUANTIZED}


@dataclass(frozen=True)
class Files:
    """The ONNX files of a run.

    Attributes:
        tutor: The teacher's, for comparison only; it does not ship.
        pupil: The student's in fp32.
        int8: The student's in int8, where one was asked for.
    """

    tutor: ExportedModel
    pupil: ExportedModel
    int8: QuantizedModel | None = None


def export(
    recipe: Recipe, tutor: Teacher, pupil: Student, material: Material, staging: Path, aside: Path, listen: Listener
) -> Files:
    """Export teacher and student in the same way, and write the student as Hugging Face loads it.

    Args:
        recipe: For the opset.
        tutor: The teacher.
        pupil: The student.
        material: For real texts to compare with torch on.
        staging: The run folder while it is being written.
        aside: Takes the teacher's file.
        listen: Receives warnings.

    Raises:
        ParityError: A graph disagrees with torch.
    """
    tokenized = material.tokenized
    batches = parity_batches(
        tokenized.splits["validation"], tokenized.input_names, material.collate.pad_token_id, tokenized.max_length
    )

    def write(who: str, model: PreTrainedModel, path: Path) -> ExportedModel:
        def about(event: Event) -> None:
            listen(replace(event, text=f"{who}: {event.text}") if isinstance(event, (Note, Warned)) else event)

        return export_onnx(
            model,
            tutor.architecture,
            tokenized.input_names,
            path,
            opset=recipe.export.opset,
            batches=batches,
            listen=about,
        )

    files = Files(
        write("Teacher", tutor.model, aside / "teacher.onnx"), write("Student", pupil.model, staging / folder.MODEL)
    )
    folder.write_student(staging, pupil.model, tutor.tokenizer, tokenized.max_length)
    (staging / "recipe.toml").write_text(as_toml(recipe.model_copy(update={"overwrite": False})), encoding="utf-8")
    return files


def quantize(
    recipe: Recipe, tutor: Teacher, pupil: Student, material: Material, files: Files, staging: Path, listen: Listener
) -> Files:
    """Write the student's int8 file, and measure on validation text what that changes.

    Raises:
        QuantizationError: The file does not load, misses products or does not agree.
    """
    tokenized = material.tokenized
    batches = text_batches(
        tokenized.splits["validation"], tokenized.input_names, material.collate.pad_token_id,
        rows=_INT8_ROWS, batch_size=_BATCH,
    )  # fmt: skip
    made = quantize_onnx(
        files.pupil.path,
        staging / folder.QUANTIZED,
        target=recipe.quantize.target,
        mode=recipe.quantize.mode,
        expected=pupil.model.config.num_hidden_layers * len(tutor.architecture.linears),
        batches=batches,
        listen=listen,
    )
    return replace(files, int8=made)


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
        recipe: For the task.
        tutor: What was compressed.
        material: For the length that texts were cut to.
        files: Of the run.
        staging: The folder, with all its files.
        evaluation: Knows the files' calibration temperatures, once it is there.
    """
    found = {item.name: item.temperature for item in evaluation.scores} if evaluation else {}
    temperatures = {_FILES[name]: value for name, value in found.items() if name in _FILES and value is not None}
    folder.write_ort_config(staging, files.pupil, files.int8)
    folder.write_manifest(
        staging,
        task=recipe.task,
        teacher=tutor,
        exported=files.pupil,
        max_length=material.tokenized.max_length,
        quantized=files.int8,
        temperatures=temperatures,
    )


def judge(
    recipe: Recipe,
    tutor: Teacher,
    pupil: Student,
    material: Material,
    files: Files,
    staging: Path,
    answers: Mapping[SplitName, Logits],
) -> tuple[tuple[ModelFacts, ...], Evaluation]:
    """Ask every model about the whole test split and compare the answers.

    The student's files answer by way of the runtime, from text to logits, as they will in production.

    Args:
        recipe: For the margin of the verdict.
        tutor: The teacher.
        pupil: The student.
        material: Validation and test texts.
        files: What was exported.
        staging: Holds the student's files and their manifest.
        answers: The teacher's logits of each split [rows, labels].

    Returns:
        What each model weighs and answers, and the comparison.
    """
    test, rows = material.corpus.splits["test"], material.tokenized.splits["test"]
    tutor_answers = _file_logits(files.tutor.path, rows, material.collate, len(tutor.labels))
    validation = material.corpus.splits["validation"]
    # One number is fitted on them: more rows would only take time.
    fitted = _spread(len(validation.texts), _CALIBRATION_ROWS)
    chosen = [rows[int(index)] for index in company.sample(rows["length"])]
    models = [
        _torch_model(TEACHER, tutor, answers["test"]),
        _onnx_model(TEACHER_ONNX, files.tutor.path, tutor.model, tutor_answers),
    ]
    validation_logits, steadiness = {TEACHER: answers["validation"][fitted]}, []
    for name in (STUDENT_ONNX, STUDENT_INT8)[: 1 if files.int8 is None else 2]:
        predictor = Predictor(staging, model=_FILES[name])
        models.append(_onnx_model(name, staging / _FILES[name], pupil.model, predictor.logits(test.texts)))
        validation_logits[name] = predictor.logits([validation.texts[index] for index in fitted])
        steadiness.append(company.measure(name, predictor.session, chosen, material.collate.pad_token_id))
    evaluation = evaluate.evaluate(
        models,
        test.labels,
        tutor.labels,
        test.texts,
        max_drop=recipe.evaluate.max_drop,
        lengths=np.asarray(rows["length"]),
        columns=test.columns,
        validation_labels=validation.labels[fitted],
        validation_logits=validation_logits,
        seed=recipe.seed,
    )
    return tuple(models), replace(evaluation, company=tuple(steadiness))


def shapes(tutor: Teacher, pupil: Student, files: Files) -> dict[str, EncoderShape]:
    """Read what decides the cost of each measured model; int8 weights take a quarter of the bytes."""
    architecture = tutor.architecture

    def shape(model: PreTrainedModel, bytes_per_weight: int) -> EncoderShape:
        layers = model.get_submodule(architecture.layers).children()
        linears = [[layer.get_parameter(f"{path}.weight") for path in architecture.linears] for layer in layers]
        query, *_, widen, narrow = linears[0]
        weights = sum(weight.numel() for layer in linears for weight in layer)
        return EncoderShape(len(linears), len(narrow), len(widen), len(query), bytes_per_weight * weights)

    found = {
        TEACHER: shape(tutor.model, 4),
        TEACHER_ONNX: shape(tutor.model, 4),
        STUDENT_ONNX: shape(pupil.model, 4),
    }
    return found | ({STUDENT_INT8: shape(pupil.model, 1)} if files.int8 else {})


def time_models(
    recipe: Recipe, tutor: Teacher, material: Material, files: Files, staging: Path, listen: Listener
) -> Benchmark | None:
    """Measure all models side by side, unless the recipe says not to."""
    if not recipe.benchmark.enabled:
        return None
    models = [
        MeasuredModel(TEACHER, "torch", tutor.path),
        MeasuredModel(TEACHER_ONNX, "onnx", files.tutor.path),
        MeasuredModel(STUDENT_ONNX, "onnx", staging / folder.MODEL),
    ]
    if files.int8 is not None:
        models.append(MeasuredModel(STUDENT_INT8, "onnx", staging / folder.QUANTIZED, providers=("cpu",)))
    tokenized = material.tokenized
    tokens = TokenRows(
        tokenized.splits["test"], tokenized.input_names, tokenized.max_length, material.collate.pad_token_id
    )
    return benchmark.measure(models, recipe.benchmark, tokens, listen=listen, seed=recipe.seed)


def _spread(rows: int, most: int) -> npt.NDArray[np.int64]:
    """Indices of at most so many rows, evenly over all: a split may be sorted by label."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def _torch_model(name: str, tutor: Teacher, logits: Logits) -> ModelFacts:
    weights = sorted(tutor.path.glob("*.safetensors"))
    parameters = list(tutor.model.parameters())
    return ModelFacts(
        name=name,
        size_bytes=sum(path.stat().st_size for path in weights),
        compressed_bytes=sum(onnx_files.compressed_bytes(path) for path in weights),
        parameters=sum(parameter.numel() for parameter in parameters),
        zeros=sum(int((parameter == 0).sum()) for parameter in parameters if parameter.dim() >= 2),
        logits=np.asarray(logits),
    )


def _onnx_model(name: str, path: Path, model: PreTrainedModel, logits: Logits) -> ModelFacts:
    return ModelFacts(
        name=name,
        size_bytes=onnx_files.file_bytes(path),
        compressed_bytes=onnx_files.compressed_bytes(path),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        zeros=onnx_files.graph_zeros(path)[0],
        logits=logits,
    )


def _file_logits(path: Path, rows: datasets.Dataset, collate: Collator, labels: int) -> Logits:
    session = open_session(path)
    logits = np.empty((len(rows), labels), dtype=np.float32)
    order = np.argsort(-np.asarray(rows["length"]), kind="stable")  # batches of similar length
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        batch = collate([rows[int(row)] for row in chosen])
        logits[chosen] = session.run({name: batch[name].numpy() for name in session.inputs})
    return logits
