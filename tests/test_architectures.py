"""architectures: one row says all that differs, and what is supported is said by the same table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from compressor import architectures
from compressor.architectures import ARCHITECTURES, architecture_of, support_matrix, supported
from compressor.errors import TeacherError
from compressor.tasks import TASKS
from tests import tiny

ROOT = Path(__file__).parent.parent


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("support_matrix", ROOT / "tools/support_matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_a_row_names_every_linear_of_a_layer(model_type: str) -> None:
    row = ARCHITECTURES[model_type]
    model = tiny.model(model_type)
    for layer in model.get_submodule(row.layers).children():
        linears = {name for name, module in layer.named_modules() if isinstance(module, torch.nn.Linear)}
        assert set(row.paths(layer)) == linears


@pytest.mark.parametrize(
    ("model_type", "products"), [("bert", 24), ("albert", 24), ("mobilebert", 44), ("modernbert", 16)]
)
def test_products_are_those_of_a_whole_pass(model_type: str, products: int) -> None:
    model = tiny.model(model_type)
    names = ARCHITECTURES[model_type].products(model)
    assert len(names) == products
    assert all(isinstance(model.get_submodule(name), torch.nn.Linear) for name in names)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_a_family_with_layers_of_several_kinds_says_so(model_type: str) -> None:
    config = tiny.model(model_type).config
    assert ARCHITECTURES[model_type].layer_types == (getattr(config, "layer_types", None) is not None)


def test_every_row_has_a_tiny_config_and_every_config_a_row() -> None:
    assert tiny.CONFIGS.keys() == ARCHITECTURES.keys()


def test_what_is_called_supported_has_a_class_in_transformers() -> None:
    for row in ARCHITECTURES.values():
        config = tiny.model(row.model_type).config
        for task in TASKS.values():
            if not supported(row, task):
                assert type(config) in getattr(transformers, task.auto_class)._model_mapping


def test_the_readme_prints_the_table_as_it_is_now() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool().updated(text) == text


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"README\.md has no <!-- support"):
        tool().updated("# compressor\n")


def test_a_cell_that_does_not_work_is_printed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "UNSUPPORTED", {("bert", "fill-mask"): "too wide"})
    table = support_matrix()
    assert "| BERT (Chinese BERT, MiniLM, BGE, E5) | yes | yes | yes | yes | yes | no [1] | yes |" in table
    assert table.endswith("\n\n[1] too wide\n")


def test_an_unknown_family_is_told_how_to_get_in() -> None:
    with pytest.raises(TeacherError, match="Model type 't5' is not supported") as caught:
        architecture_of(transformers.T5Config())
    assert "CONTRIBUTING.md says how" in caught.value.remedy
