"""The same text alone, padded and in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compressor.evaluation import company
from compressor.runtime import open_session
from compressor.tasks import TASKS
from tests import deployed

ROWS = [
    {"input_ids": [2, 1 + index, *[25] * (index % 7), 3], "attention_mask": [1] * (3 + index % 7)}
    for index in range(40)
]


@dataclass(frozen=True)
class OneScale:
    """A model whose logits are rounded by one scale for the whole batch, as per-tensor dynamic int8 is."""

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    def run_all(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        sums = (feeds["input_ids"] * feeds["attention_mask"]).sum(axis=1).astype(np.float32)
        scale = sums.max() / 3
        return [np.stack([np.rint(sums / scale), np.full_like(sums, 1.5)], axis=1).astype(np.float32)]


def test_a_model_that_masks_its_padding_gives_the_same_answer_in_any_company(tmp_path: Path) -> None:
    session = open_session(deployed.save_classifier(tmp_path / "model.onnx"), threads=1)
    found = company.measure("student_onnx", session, ROWS, pad_token_id=0)
    assert (found.rows, found.padded_to, found.batch_size) == (40, 9, 32)
    assert (found.padded_labels, found.batched_labels) == (0, 0)
    assert max(found.padded_difference, found.batched_difference) < 1e-5


def test_a_model_whose_neighbours_change_its_answer_is_found_out() -> None:
    found = company.measure("student_int8", OneScale(), ROWS, pad_token_id=0)
    assert (found.padded_difference, found.padded_labels) == (0.0, 0)
    assert found.batched_difference >= 1
    assert found.batched_labels > 0


def test_a_model_that_reads_its_padding_is_found_out() -> None:
    found = company.measure("student_onnx", _Unmasked(), ROWS, pad_token_id=1)
    assert found.padded_difference == 6.0


class _Unmasked:
    inputs = ("input_ids",)

    def run_all(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        sums = feeds["input_ids"].sum(axis=1, keepdims=True).astype(np.float32)
        return [np.concatenate([sums, -sums], axis=1)]


@pytest.mark.parametrize(("lengths", "rows"), [([5] * 10, 10), ([5] * 9000, 256), ([512] * 9000, 32), ([90_000], 1)])
def test_the_sample_is_bounded_in_rows_and_tokens_and_spread_over_the_split(lengths: list[int], rows: int) -> None:
    found = company.sample(lengths)
    assert len(found) == rows
    assert (found[0], found[-1]) == (0, len(lengths) - 1)


@dataclass(frozen=True)
class Tagger:
    """Says of each token its own id; of padding something else at every width."""

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    outputs: int = 1

    def run_all(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        ids = np.where(feeds["attention_mask"] > 0, feeds["input_ids"], 1000 * feeds["input_ids"].shape[1])
        if self.outputs == 2:
            return [ids.astype(np.float32)] * 2
        return [np.stack([ids, -ids], axis=-1).astype(np.float32)]


@pytest.mark.parametrize(("kind", "outputs"), [("token-classification", 1), ("question-answering", 2)])
def test_what_a_model_says_about_padding_is_no_answer(kind: str, outputs: int) -> None:
    found = company.measure("student_onnx", Tagger(outputs=outputs), ROWS, 0, TASKS[kind])
    assert (found.padded_difference, found.batched_difference) == (0.0, 0.0)
    assert (found.padded_labels, found.batched_labels) == (0, 0)


def test_a_tag_that_changes_in_a_batch_is_a_changed_text() -> None:
    class Unsteady(Tagger):
        def run_all(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            found = super().run_all(feeds)[0]
            if len(found) > 1:
                found[:3, 0] *= -1
            return [found]

    found = company.measure("student_int8", Unsteady(), ROWS, 0, TASKS["token-classification"])
    assert (found.padded_labels, found.batched_labels) == (0, 6)  # of two batches
    assert found.batched_difference == 4.0


def test_blocks_of_a_masked_language_model_go_in_small_batches() -> None:
    class Filler:
        inputs = ("input_ids",)

        def run_all(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            return [np.eye(80, dtype=np.float32)[feeds["input_ids"]] / len(feeds["input_ids"])]

    rows = [{**row, "labels": [-100, row["input_ids"][1]] + [-100] * (len(row["input_ids"]) - 2)} for row in ROWS]
    found = company.measure("student_onnx", Filler(), rows, 0, TASKS["fill-mask"])
    assert (found.batch_size, found.padded_difference, found.batched_labels) == (8, 0.0, 0)
    assert found.batched_difference > 0
