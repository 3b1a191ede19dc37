"""How uncertain a teacher is of texts that it knows, and of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from compressor.familiarity import ROWS, Familiarity, familiarity
from tests.processes_script import teacher
from tests.training_script import tokenized


def entropy(rows: Any) -> float:
    model = teacher(0.0).model
    logits = [model(input_ids=torch.tensor([ids])).logits[0].double() for ids in rows["input_ids"]]
    return float(np.mean([torch.distributions.Categorical(logits=row).entropy().item() for row in logits]))


def test_it_is_the_mean_entropy_of_the_answers_about_each_split() -> None:
    data = tokenized(train_rows=98)
    assert ROWS > 98
    found = familiarity(teacher(0.0), data, "cpu")
    expected = [entropy(data.splits[split]) for split in ("train", "validation")]
    assert [found.known, found.unknown] == pytest.approx(expected, rel=1e-5)
    assert found.ratio == found.known / found.unknown


def test_of_many_rows_some_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.familiarity.ROWS", 3)
    data = tokenized(train_rows=98)
    steps: list[int] = []
    found = familiarity(teacher(0.0), data, "cpu", lambda event: steps.append(event.total))
    assert found.known == pytest.approx(entropy(data.splits["train"].select([0, 48, 97])), rel=1e-5)
    assert steps == [3, 3]


def test_who_is_sure_of_everything_knows_nothing_by_heart() -> None:
    assert Familiarity(0.0, 0.0).ratio == 1
