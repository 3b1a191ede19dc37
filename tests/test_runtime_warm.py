"""A warm start answers as a cold one does, and nothing about the folder that keeps the graph can stop a start."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compressor.errors import ManifestError
from compressor.runtime import Predictor, warm
from compressor.runtime.warm import kept_graph

from . import deployed
from .tiny import reviews

TEXTS = [text for text, _ in reviews(40)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployed.write(tmp_path_factory.mktemp("warm") / "run")


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that sessions are made from, in order."""
    found: list[Path] = []
    real = warm._session
    monkeypatch.setattr(warm, "_session", lambda path, *rest: found.append(path) or real(path, *rest))
    return found


def test_the_second_start_loads_the_kept_graph_and_answers_alike(original, tmp_path, loaded):
    first = Predictor(original, warm_start=tmp_path / "kept").logits(TEXTS)
    second = Predictor(original, warm_start=tmp_path / "kept").logits(TEXTS)
    [kept] = (tmp_path / "kept").iterdir()
    assert loaded == [original / "onnx/model.onnx", kept]
    np.testing.assert_array_equal(first, Predictor(original).logits(TEXTS))
    np.testing.assert_array_equal(second, first)


def test_the_model_is_verified_though_its_graph_is_kept(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "run"))
    Predictor(folder, warm_start=tmp_path / "kept")
    model = folder / "onnx/model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(ManifestError, match="damaged"):
        Predictor(folder, warm_start=tmp_path / "kept")


def test_a_damaged_graph_is_written_anew(original, tmp_path, loaded):
    Predictor(original, warm_start=tmp_path)
    [kept] = tmp_path.iterdir()
    whole = kept.stat().st_size
    kept.write_bytes(b"torn")
    answers = Predictor(original, warm_start=tmp_path).logits(TEXTS)
    assert kept.stat().st_size == whole
    np.testing.assert_array_equal(answers, Predictor(original).logits(TEXTS))
    assert loaded[1:3] == [kept, original / "onnx/model.onnx"]


def test_a_folder_that_cannot_be_written_is_a_warning(original, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(RuntimeWarning, match="No warm start"):
        predict = Predictor(original, warm_start=tmp_path / "file")
    np.testing.assert_array_equal(predict.logits(TEXTS), Predictor(original).logits(TEXTS))


def test_a_model_that_does_not_load_is_named_and_nothing_is_kept(original, tmp_path):
    folder = Path(shutil.copytree(original, tmp_path / "run"))
    (folder / "onnx/model.onnx").write_bytes(b"no model")
    with pytest.raises(ManifestError, match="cannot be loaded"), warnings.catch_warnings(action="error"):
        Predictor(folder, warm_start=tmp_path / "kept", verify=False)
    assert list((tmp_path / "kept").iterdir()) == []


def test_another_model_onnxruntime_provider_or_processor_has_a_graph_of_its_own(tmp_path, monkeypatch):
    names = [
        kept_graph(tmp_path, sha256, provider) for sha256 in (["a"], ["b"], ["a", "b"]) for provider in ("cpu", "cuda")
    ]
    monkeypatch.setattr(onnxruntime, "__version__", "0.0.1")
    names.append(kept_graph(tmp_path, ["a"], "cpu"))
    monkeypatch.setattr(warm, "cpu_flags", lambda: frozenset({"avx2"}))
    names.append(kept_graph(tmp_path, ["a"], "cpu"))
    assert len(set(names)) == len(names) == 8
    assert names[-1] == kept_graph(tmp_path, ["a"], "cpu")
