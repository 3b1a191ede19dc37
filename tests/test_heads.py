"""Models for every task are asked in one way, and a head can be shown some tokens only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from compressor import heads
from compressor.answers import IGNORED, collect, pad
from compressor.pooling import Pooling, read_pooling
from compressor.tasks import TASKS, Kind
from tests import tiny

FAMILIES = sorted(tiny.CONFIGS)
TEXTS = ["the film was good", "a dull plot and a very flat story", "fine"]


def encoded(family: str = "bert") -> tuple[list[dict[str, list[int]]], tuple[str, ...]]:
    found = tiny.tokenizer(family)(TEXTS)
    names = tuple(found)
    return [{name: found[name][index] for name in names} for index in range(len(TEXTS))], names


@pytest.mark.parametrize("kind", TASKS)
def test_a_model_is_asked_for_every_row_in_the_form_of_its_task(kind: Kind) -> None:
    rows, names = encoded()
    task, model = TASKS[kind], tiny.model(kind=kind)
    labelled = [{**row, "labels": [IGNORED, *row["input_ids"][1:-1], IGNORED]} for row in rows]

    class Rows(list):  # type: ignore[type-arg] # as a dataset: a column by name, a row by number
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            return [len(row["input_ids"]) for row in self] if key == "length" else super().__getitem__(key)

    found = collect(heads.asking(model, task, "cpu"), Rows(labelled), task, names=names, pad_token_id=0)
    units = {"row": 1, "token": len(rows[1]["input_ids"]), "masked token": len(rows[1]["input_ids"]) - 2}[task.unit]
    with torch.inference_mode():
        alone = heads.outputs(task, model(**{name: torch.tensor([rows[1][name]]) for name in names}))
    width = {"fill-mask": 3, "question-answering": 2}.get(kind, alone[0].shape[-1])
    assert found.row(1).shape == (units, width)
    if kind != "fill-mask":
        expected = torch.stack(alone, dim=-1)[0] if kind == "question-answering" else alone[0].reshape(-1, width)
        assert np.allclose(found.row(1), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_sees_some_tokens_answers_as_one_that_sees_all(family: str) -> None:
    rows, names = encoded(family)
    model = tiny.model(family, kind="fill-mask")
    batch = {name: torch.from_numpy(array) for name, array in pad(rows, names, 0).items()}
    selected = (batch["input_ids"] > 4) & (batch["input_ids"] % 2 == 0)
    with torch.inference_mode():
        whole = model(**batch, output_hidden_states=True)
        with heads.answering_at(model, selected):
            some = model(**batch, output_hidden_states=True)
        again = model(**batch)
    assert some.logits.shape == (1, int(selected.sum()), len(tiny.tokenizer()))
    assert torch.allclose(some.logits[0], whole.logits[selected], atol=1e-5)
    assert torch.equal(again.logits, whole.logits)
    assert all(torch.equal(a, b) for a, b in zip(some.hidden_states, whole.hidden_states, strict=True))


def test_masked_tokens_alone_give_the_same_figures_as_the_whole_text() -> None:
    mask, task = tiny.SPECIAL.index("[MASK]"), TASKS["fill-mask"]
    model = tiny.model(kind="fill-mask")
    ids = np.array([[2, 7, mask, 9, mask, 3], [2, mask, 8, 3, 0, 0]])
    feed = {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}
    whole = heads.asking(model, task, "cpu")(feed)[0]
    some = heads.asking(model, task, "cpu", mask)(feed)[0]
    assert some.shape == whole.shape
    assert np.allclose(some[ids == mask], whole[ids == mask], atol=1e-5)
    assert not some[ids != mask].any()


@pytest.mark.parametrize("mode", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
def test_embeddings_are_pooled_over_the_text_and_not_over_its_padding(mode: str, normalize: bool) -> None:
    rows, names = encoded()
    model = heads.build(TASKS["feature-extraction"], tiny.model().config, Pooling(mode, normalize)).eval()  # type: ignore[arg-type]
    batch = {name: torch.from_numpy(array) for name, array in pad(rows, names, 0, width=20).items()}
    with torch.inference_mode():
        found = model(**batch).sentence_embedding
        for row, embedding in zip(rows, found, strict=True):
            states = model.encoder(**{name: torch.tensor([row[name]]) for name in names}).last_hidden_state[0]
            expected = {"mean": states.mean(0), "cls": states[0], "max": states.amax(0)}[mode]
            expected = functional.normalize(expected, dim=-1) if normalize else expected
            assert torch.allclose(embedding, expected, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["feature-extraction", "fill-mask"])
def test_a_saved_model_is_loaded_with_the_same_answers(kind: Kind, family: str, tmp_path: Path) -> None:
    rows, names = encoded(family)
    task, model = TASKS[kind], tiny.model(family, kind=kind)
    batch = {name: torch.from_numpy(array) for name, array in pad(rows, names, 0).items()}
    model.save_pretrained(tmp_path)
    again, info = heads.load(task, tmp_path)
    assert not info["missing_keys"]
    with torch.inference_mode():
        one, two = (heads.outputs(task, item(**batch))[0] for item in (model, again))
    assert torch.equal(one, two)


def test_a_saved_sentence_encoder_says_how_it_pools_and_how_long_its_texts_are(tmp_path: Path) -> None:
    config = tiny.model("roberta").config
    heads.build(TASKS["feature-extraction"], config, Pooling("cls", False)).save_pretrained(tmp_path)
    assert read_pooling(tmp_path) == Pooling("cls", False, 64)
    heads.build(TASKS["feature-extraction"], config, Pooling("max", True, 30)).save_pretrained(tmp_path)
    assert read_pooling(tmp_path) == Pooling("max", True, 30)
