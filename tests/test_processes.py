"""Several processes make what one process makes: by torchrun, on the CPU, with gloo."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from compressor import launcher, processes
from compressor.errors import RecipeError
from compressor.training.batches import BucketSampler
from tests import processes_script, tiny

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ROOT = Path(__file__).parents[1]


def launch(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*LAUNCH, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


# --- without a launcher ---------------------------------------------------------------------


def test_without_a_launcher_a_process_is_alone_and_shares_with_nobody() -> None:
    assert processes.launched() == processes.here() == launcher.ALONE
    with processes.joined() as me, processes.in_turn():
        assert me == launcher.ALONE
        assert processes.by_first(lambda: 7) == 7
        assert processes.gathered("own") == ["own"]


def test_the_launchers_variables_say_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert processes.launched() == launcher.Processes(5, 8, 1)
    assert not processes.launched().is_first
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.launched() == launcher.ALONE


def test_what_fails_before_the_processes_meet_is_told_once_on_each_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert processes.silenced(2) == 2
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert processes.silenced(2) is None
    assert processes.signature().startswith("process 5 of 8, on ")


@pytest.mark.parametrize("rows", [96, 97, 100, 1])
def test_shares_of_a_batch_are_the_batch_of_one_process(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(3, 20, rows)
    whole = list(BucketSampler(lengths, 12, seed=1))
    shares = []
    for rank in range(3):
        monkeypatch.setattr(processes, "_here", launcher.Processes(rank, 3, rank))
        sampler = BucketSampler(lengths, 12, seed=1)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    for step in range(-(-rows // 12)):
        expected = whole[step * 12 : step * 12 + 12]
        found = [row for share in shares for row in share[step * 4 : step * 4 + 4]]
        assert set(found) == set(expected)
        assert len(found) - len(expected) == -len(expected) % 3


def test_a_batch_that_cannot_be_divided_is_refused_with_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_here", launcher.Processes(0, 3, 0))
    with pytest.raises(RecipeError, match=r"--batch-size 32 cannot be divided among 3 processes") as caught:
        len(BucketSampler([4] * 50, 32, seed=1))
    assert "such as 33" in caught.value.remedy


# --- two processes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    processes_script.all_of_it(folder)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    done = launch(["-m", "tests.processes_script", str(folder)], ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return found


def test_two_processes_end_with_the_same_weights(two: Path) -> None:
    assert told(two)["count"] == 2
    assert all(told(two)["alike"].values()), told(two)["alike"]


def test_their_soft_labels_are_bit_for_bit_those_of_one_process(one: Path, two: Path) -> None:
    names = sorted(path.name for path in (one / "cache/soft_labels").iterdir())
    assert len(names) == 2
    assert names == sorted(path.name for path in (two / "cache/soft_labels").iterdir())
    for name in names:
        np.testing.assert_array_equal(
            np.load(one / "cache/soft_labels" / name), np.load(two / "cache/soft_labels" / name)
        )


def test_what_the_teacher_knows_by_heart_is_the_same_for_all(one: Path, two: Path) -> None:
    mine, other = told(two)["familiarity"]
    assert mine == other == pytest.approx(told(one)["familiarity"][0], rel=1e-6)


@pytest.mark.parametrize("name", ["plain", "accumulated", "hints and pruned heads"])
def test_without_dropout_they_learn_what_one_process_learns(name: str, one: Path, two: Path) -> None:
    np.testing.assert_allclose(told(two)["losses"][name], told(one)["losses"][name], rtol=1e-3)
    first, second = (load_file(folder / f"{name}.safetensors") for folder in (one, two))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, atol=1e-3, rtol=0, msg=key)


def test_in_bf16_their_scores_are_those_of_one_process(one: Path, two: Path) -> None:
    np.testing.assert_allclose(told(two)["losses"]["bf16"], told(one)["losses"]["bf16"], rtol=0.05)
    for mine, other in zip(told(two)["scores"]["bf16"], told(one)["scores"]["bf16"], strict=True):
        assert mine["accuracy"] == pytest.approx(other["accuracy"], abs=0.1)


def test_an_interrupted_training_of_two_ends_with_the_weights_of_a_whole_one(two: Path) -> None:
    whole, resumed = (load_file(two / f"{name}.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


# --- the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    desk = tmp_path_factory.mktemp("desk")
    tiny.headless_folder(desk / "encoder")
    (desk / "reviews").mkdir()
    for split, rows in (("train", 203), ("validation", 60), ("test", 100)):
        with (desk / f"reviews/{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *tiny.reviews(rows, seed=rows)])
    return desk


def command(name: str, more: str = "") -> list[str]:
    return (
        "--teacher encoder --data reviews --layers 2 --quantize --no-benchmark --epochs 4 --teacher-epochs 8 "
        f"--teacher-learning-rate 3e-3 --learning-rate 3e-3 --cache-dir {name}-cache --output-dir {name} {more}"
    ).split()


def test_a_mistake_is_told_once_and_nothing_is_left(desk: Path) -> None:
    done = launch(["-m", "compressor", *command("wrong", "--batch-size 33")], desk)
    assert done.returncode == 1  # the launcher's own
    assert done.stderr.count("error: --batch-size 33 cannot be divided among 2 processes.") == 1
    assert "unexpected" not in done.stderr
    assert "compressor.errors" not in done.stderr  # no traceback of ours
    assert "exitcode  : 2" in done.stderr
    assert not list(desk.glob("*wrong*"))


@pytest.mark.slow
def test_two_processes_leave_the_files_that_one_leaves_and_nothing_else(desk: Path) -> None:
    done = launch(["-m", "compressor", *command("two")], desk)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Report  ") == 1
    alone = subprocess.run(
        [sys.executable, "-m", "compressor", *command("one")], cwd=desk, check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert alone.stdout.count("Report  ") == 1
    files = [sorted(str(path.relative_to(desk / name)) for path in (desk / name).rglob("*")) for name in ("one", "two")]
    assert files[0] == files[1]
    reports = [json.loads((desk / name / "report/report.json").read_text(encoding="utf-8")) for name in ("one", "two")]
    assert "2 processes trained together: each had 16 texts of every batch." in reports[1]["notes"]
    assert not list(desk.rglob("*.partial-*")) + list(desk.rglob("*.lock")) + list(desk.rglob(".seen-by-all-*"))
