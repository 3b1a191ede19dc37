"""From a trained student to files that are proved, judged and timed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compressor import benchmark, evaluate, folder, onnx_files
from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, TEACHER, TEACHER_ONNX, ModelFacts
from compressor.benchmark import MeasuredModel, TokenRows
from compressor.export import export_onnx
from compressor.parity import parity_batches
from compressor.quantize import quantize_onnx
from compressor.recipe import as_toml
from compressor.runtime import Predictor
from compressor.runtime.session import open_session

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel

    from compressor.artifacts import Benchmark, ExportedModel, QuantizedModel, Student, Teacher
    from compressor.batches import Collator
    from compressor.evaluate import Evaluation
    from compressor.events import Listener
    from compressor.lesson import Material
    from compressor.recipe import Recipe

Logits = npt.NDArray[np.float32]

_BATCH = 32
_INT8_ROWS = 1024  # enough to see a flip in a thousand; more would only take time


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
        staging: The run folder while it is being written.
        aside: Takes the teacher's file.

    Raises:
        ParityError: A graph disagrees with torch.
    """
    tokenized = material.tokenized
    batches = parity_batches(
        tokenized.splits["validation"], tokenized.input_names, material.collate.pad_token_id, tokenized.max_length
    )

    def write(model: PreTrainedModel, path: Path) -> ExportedModel:
        return export_onnx(
            model,
            tutor.architecture,
            tokenized.input_names,
            path,
            opset=recipe.export.opset,
            batches=batches,
            listen=listen,
        )

    files = Files(write(tutor.model, aside / "teacher.onnx"), write(pupil.model, staging / folder.MODEL))
    folder.write_student(staging, pupil.model, tutor.tokenizer, tokenized.max_length)
    (staging / "recipe.toml").write_text(as_toml(recipe), encoding="utf-8")
    return files


def quantize(
    recipe: Recipe, tutor: Teacher, pupil: Student, material: Material, files: Files, staging: Path, listen: Listener
) -> Files:
    """Write the student's int8 file, and measure on validation text what that changes.

    Raises:
        QuantizationError: The file does not load, misses products or does not agree.
    """
    rows = material.tokenized.splits["validation"].select_columns([*material.tokenized.input_names, "length"])
    rows = rows.select(range(min(len(rows), _INT8_ROWS)))
    starts = range(0, len(rows), _BATCH)
    groups = [[rows[index] for index in range(start, min(start + _BATCH, len(rows)))] for start in starts]
    batches = [{name: tensor.numpy() for name, tensor in material.collate(group).items()} for group in groups]
    made = quantize_onnx(
        files.pupil.path,
        staging / folder.QUANTIZED,
        target=recipe.quantize.target,
        expected=pupil.model.config.num_hidden_layers * len(tutor.architecture.linears),
        batches=batches,
        listen=listen,
    )
    return replace(files, int8=made)


def seal(recipe: Recipe, tutor: Teacher, material: Material, files: Files, staging: Path) -> None:
    """Write what describes the files: optimum's config, and the manifest with all checksums."""
    folder.write_ort_config(staging, files.pupil, files.int8)
    folder.write_manifest(
        staging,
        task=recipe.task,
        teacher=tutor,
        exported=files.pupil,
        max_length=material.tokenized.max_length,
        quantized=files.int8,
    )


def judge(
    recipe: Recipe, tutor: Teacher, pupil: Student, material: Material, files: Files, staging: Path, answers: Logits
) -> tuple[tuple[ModelFacts, ...], Evaluation]:
    """Ask every model about the whole test split and compare the answers.

    The student's files answer by way of the runtime, from text to logits, as they will in production.

    Args:
        staging: Holds the student's files and their manifest.
        answers: The teacher's logits of the test split [rows, labels].

    Returns:
        What each model weighs and answers, and the comparison.
    """
    test, rows = material.corpus.splits["test"], material.tokenized.splits["test"]
    tutor_answers = _file_logits(files.tutor.path, rows, material.collate, len(tutor.labels))
    students = [(STUDENT_ONNX, folder.MODEL, "fp32")]
    if files.int8 is not None:
        students.append((STUDENT_INT8, folder.QUANTIZED, "int8"))
    models = (
        _torch_model(TEACHER, tutor, answers),
        _onnx_model(TEACHER_ONNX, files.tutor.path, tutor.model, tutor_answers),
        *(
            _onnx_model(name, staging / file, pupil.model, Predictor(staging, model=precision).logits(test.texts))
            for name, file, precision in students
        ),
    )
    evaluation = evaluate.evaluate(
        models,
        test.labels,
        tutor.labels,
        test.texts,
        max_drop=recipe.evaluate.max_drop,
        lengths=np.asarray(rows["length"]),
        seed=recipe.seed,
    )
    return models, evaluation


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
