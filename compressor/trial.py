"""A student's files on trial: every model judged on the whole test split, and timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compressor import answers as said
from compressor import benchmark, folder
from compressor.answers import Answers
from compressor.artifacts import STUDENT_INT8, STUDENT_ONNX, TEACHER, TEACHER_ONNX, EncoderShape, ModelFacts
from compressor.benchmark import MeasuredModel, TokenRows
from compressor.evaluation import company, evaluate, metrics
from compressor.graph import files as onnx_files
from compressor.runtime import Predictor
from compressor.runtime.session import open_session

if TYPE_CHECKING:
    from compressor.artifacts import Benchmark, SplitName, Student, Teacher
    from compressor.delivery import Files
    from compressor.evaluation.evaluate import Evaluation
    from compressor.events import Listener
    from compressor.heads import Model
    from compressor.lesson import Material
    from compressor.recipe import Recipe
    from compressor.runtime.session import Session
    from compressor.trimming import Study

_CALIBRATION_ROWS = 2048
_BYTES = {"int8": 1.0, "fp16": 2.0, "int4": 0.5}


def judge(
    recipe: Recipe,
    tutor: Teacher,
    pupil: Student,
    material: Material,
    study: Study,
    files: Files,
    staging: Path,
    answers: Mapping[SplitName, Answers],
) -> tuple[tuple[ModelFacts, ...], Evaluation]:
    """Ask every model about the whole test split and compare the answers.

    The student's files answer by way of the runtime, from text to answer, as they will in production.

    Args:
        recipe: For the margin of the verdict.
        tutor: The teacher.
        pupil: The student.
        material: Validation and test texts.
        study: The same as the student's tokenizer cuts them.
        files: What was exported.
        staging: Holds the student's files and their manifest.
        answers: The teacher's, of validation and test.

    Returns:
        What each model weighs and answers, and the comparison.
    """
    rows, pad_token_id = study.material.tokenized.splits["test"], study.material.collate.pad_token_id
    judging = metrics.METRICS[tutor.task.kind]
    # What is fitted on them is a few numbers: more rows would only take time, and most tasks fit nothing.
    most = _CALIBRATION_ROWS if judging.temperature or judging.thresholds else 0
    fitted = _spread(len(material.tokenized.splits["validation"]), most)
    chosen = [rows[int(index)] for index in company.sample(rows["length"][:])]
    tutor_answers = _ask(open_session(files.tutor.path), material, "test")
    models = [
        _torch_model(TEACHER, tutor, answers["test"]),
        _onnx_model(TEACHER_ONNX, files.tutor.path, tutor.model, tutor_answers),
    ]
    validation = {TEACHER: answers["validation"].select(fitted)} if most else {}
    steadiness = []
    for name in (STUDENT_ONNX, STUDENT_INT8)[: 1 if files.int8 is None else 2]:
        predictor = Predictor(staging, model=folder.FILES[name])
        models.append(
            _onnx_model(name, staging / folder.FILES[name], pupil.model, _predict(predictor, study.material, "test"))
        )
        if most:
            validation[name] = _predict(predictor, study.material, "validation", fitted)
        steadiness.append(company.measure(name, predictor.session, chosen, pad_token_id, tutor.task))
    gold = partial(
        metrics.gold_of,
        material.corpus,
        spell=lambda ids: str(tutor.tokenizer.decode(list(ids))),
        seed=recipe.seed,
    )
    # A tag or span is decided by token, and these are others where the vocabulary was trimmed.
    apart = study.trimmed is not None and tutor.task.unit == "token"
    own = {model.name: gold(study.material.tokenized, "test") for model in models[2:]} if apart else {}
    evaluation = evaluate.evaluate(
        models,
        gold(material.tokenized, "test"),
        max_drop=recipe.evaluate.max_drop,
        validation=gold(material.tokenized, "validation", fitted) if most else None,
        validation_answers=validation,
        own=own,
        seed=recipe.seed,
    )
    return tuple(models), replace(evaluation, company=tuple(steadiness))


def _predict(
    predictor: Predictor, material: Material, split: SplitName, rows: npt.NDArray[np.int64] | None = None
) -> Answers:
    """Ask a file by way of the runtime, from text on; blocks of a masked language model are token ids already.

    Args:
        predictor: The file.
        material: Knows the texts.
        split: Which split.
        rows: Indices of texts, where not all are asked about.
    """
    if material.corpus.task.kind == "fill-mask":
        return _ask(predictor.session, material, split)
    texts, pairs = material.corpus.splits[split].texts, material.corpus.splits[split].pairs
    inputs = list(zip(texts, pairs, strict=True)) if pairs else list(texts)
    return Answers.of(predictor.raw(inputs if rows is None else [inputs[int(row)] for row in rows]))


def _ask(session: Session, material: Material, split: SplitName) -> Answers:
    """Ask a file about token ids."""
    return said.collect(
        lambda feed: session.run_all(feed, material.corpus.task.outputs),
        material.tokenized.splits[split],
        material.corpus.task,
        names=session.inputs,
        pad_token_id=material.collate.pad_token_id,
    )


def shapes(tutor: Teacher, pupil: Student, files: Files) -> dict[str, EncoderShape]:
    """Read what decides the cost of each measured model; quantized weights take fewer bytes."""
    row = tutor.architecture

    def shape(model: Model, bytes_per_weight: float, *, one_token: bool) -> EncoderShape:
        products = [(name, model.get_parameter(f"{name}.weight")) for name in row.products(model)]
        layers, hidden = model.config.num_hidden_layers, model.config.hidden_size
        first = [weight for name, weight in products if name.endswith(row.linears[0])]
        packed = 3 if "qkv" in row.linears[0].lower() else 1
        attention = sum(len(weight) for weight in first) // (packed * len(first))
        per_layer = sum(weight.numel() for _, weight in products) // layers
        # A plain feed-forward net with as many weights: others are gated, stacked, or of other widths in each layer.
        intermediate = (per_layer - 4 * hidden * attention) // (2 * hidden)
        held = sum(weight.numel() for weight in dict(products).values())
        size = int(bytes_per_weight * held)
        return EncoderShape(layers, hidden, max(0, intermediate), attention, size, one_token)

    found = {
        TEACHER: shape(tutor.model, 4, one_token=False),
        TEACHER_ONNX: shape(tutor.model, 4, one_token=files.tutor.one_token),
        STUDENT_ONNX: shape(pupil.model, 4, one_token=files.pupil.one_token),
    }
    if files.int8:
        found[STUDENT_INT8] = shape(pupil.model, _BYTES[files.int8.precision], one_token=files.pupil.one_token)
    return found


def time_models(
    recipe: Recipe,
    tutor: Teacher,
    material: Material,
    study: Study,
    files: Files,
    staging: Path,
    listen: Listener,
) -> Benchmark | None:
    """Measure all models side by side, unless the recipe says not to."""
    if not recipe.benchmark.enabled:
        return None
    task = tutor.task.kind
    models = [
        MeasuredModel(TEACHER, "torch", tutor.path, task=task),
        MeasuredModel(TEACHER_ONNX, "onnx", files.tutor.path, task=task),
        MeasuredModel(STUDENT_ONNX, "onnx", staging / folder.MODEL, task=task),
    ]
    if files.int8 is not None:
        small = files.int8
        models.append(
            MeasuredModel(STUDENT_INT8, "onnx", staging / folder.QUANTIZED, small.providers, small.precision, task)
        )
    own = {}
    if study.trimmed is not None:
        own = dict.fromkeys((model.name for model in models[2:]), _token_rows(study.material))
    return benchmark.measure(
        models, recipe.benchmark, _token_rows(material), own_tokens=own, listen=listen, seed=recipe.seed
    )


def _token_rows(material: Material) -> TokenRows:
    tokenized = material.tokenized
    return TokenRows(
        tokenized.splits["test"], tokenized.input_names, tokenized.max_length, material.collate.pad_token_id
    )


def _spread(rows: int, most: int) -> npt.NDArray[np.int64]:
    """Indices of at most so many rows, evenly over all: a split may be sorted by label."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def _torch_model(name: str, tutor: Teacher, answers: Answers) -> ModelFacts:
    weights = sorted(tutor.path.glob("*.safetensors"))
    parameters = list(tutor.model.parameters())
    return ModelFacts(
        name=name,
        size_bytes=sum(path.stat().st_size for path in weights),
        compressed_bytes=sum(onnx_files.compressed_bytes(path) for path in weights),
        parameters=sum(parameter.numel() for parameter in parameters),
        zeros=sum(int((parameter == 0).sum()) for parameter in parameters if parameter.dim() >= 2),
        answers=answers,
    )


def _onnx_model(name: str, path: Path, model: Model, answers: Answers) -> ModelFacts:
    return ModelFacts(
        name=name,
        size_bytes=onnx_files.file_bytes(path),
        compressed_bytes=onnx_files.compressed_bytes(path),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        zeros=onnx_files.graph_zeros(path)[0],
        answers=answers,
    )
