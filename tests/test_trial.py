"""From a trained student to judged files: what the pieces say about each other."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compressor import trial
from compressor.architectures import architecture_of
from compressor.artifacts import EncoderShape, Student
from tests import tiny

PLAIN = ("bert", "camembert", "deberta-v2", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")


@pytest.mark.parametrize("family", PLAIN)
def test_the_sizes_that_bound_the_latency_are_read_from_the_weights_of_every_family(family: str) -> None:
    teacher, student = tiny.model(family), tiny.model(family, **_layers(family, 2))
    tutor: Any = SimpleNamespace(model=teacher, architecture=architecture_of(teacher.config))
    files = _files(int8=SimpleNamespace(precision="int8"))
    found = trial.shapes(tutor, Student(student, (0, 2)), files)
    weights = 4 * 32 * 32 + 2 * 32 * 64
    assert found["teacher"] == found["teacher_onnx"] == EncoderShape(4, 32, 64, 32, 4 * 4 * weights)
    assert found["student_onnx"] == EncoderShape(2, 32, 64, 32, 4 * 2 * weights)
    assert found["student_int8"] == replace(found["student_onnx"], weight_bytes=2 * weights)
    assert "student_int8" not in trial.shapes(tutor, Student(student, (0, 2)), _files())


@pytest.mark.parametrize("family", sorted(set(tiny.CONFIGS) - {"albert"}))
def test_half_the_layers_are_half_the_work_and_half_the_weights(family: str) -> None:
    teacher, student = tiny.model(family), tiny.model(family, **_layers(family, 2))
    tutor: Any = SimpleNamespace(model=teacher, architecture=architecture_of(teacher.config))
    found = trial.shapes(tutor, Student(student, (0, 2)), _files())
    full, half = found["teacher"], found["student_onnx"]
    assert half == replace(full, layers=2, weight_bytes=full.weight_bytes // 2)


def test_shared_layers_are_run_again_and_held_once() -> None:
    model = tiny.model("albert")
    tutor: Any = SimpleNamespace(model=model, architecture=architecture_of(model.config))
    found = trial.shapes(tutor, Student(model, ()), _files())["teacher"]
    assert found == EncoderShape(4, 32, 64, 32, 4 * (4 * 32 * 32 + 2 * 32 * 64))


def test_rows_for_the_temperature_are_spread_over_the_split_and_bounded() -> None:
    assert trial._spread(5, 2048).tolist() == [0, 1, 2, 3, 4]
    found = trial._spread(10_000, 2048)
    assert (len(found), found[0], found[-1]) == (2048, 0, 9999)
    assert np.diff(found).max() <= 5


def _files(int8: Any = None) -> Any:
    exported = SimpleNamespace(one_token=False)
    return SimpleNamespace(tutor=exported, pupil=exported, int8=int8)


def _layers(family: str, count: int) -> dict[str, int]:
    return {"n_layers" if family == "distilbert" else "num_hidden_layers": count}
