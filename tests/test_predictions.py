"""``compress predict`` for every kind of task: what it reads from a line and what it prints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compressor.cli import main, predictions
from compressor.runtime import Predictor
from compressor.tasks import TASKS, Kind

from . import deployed_tasks

GIVEN: dict[Kind, str] = {"question-answering": "the plot\tthe film is good", "fill-mask": "a [MASK] film"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: deployed_tasks.write(tmp_path_factory.mktemp(kind) / "run", kind) for kind in TASKS}


def test_the_tables_know_every_kind() -> None:
    assert set(predictions.PLAIN) == set(predictions.JSON) == set(TASKS)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["predict", *argv]) == 0
    return capsys.readouterr().out.rstrip("\n")


@pytest.mark.parametrize("kind", TASKS)
def test_a_line_holds_the_answer_and_ends_with_the_text(
    folders: dict[Kind, Path], kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GIVEN.get(kind, "the fine film")
    line = told(capsys, str(folders[kind]), text)
    answer, _, given = line.rpartition("\t")
    assert given == text.partition("\t")[0]
    (found,) = Predictor(folders[kind])(tuple(text.split("\t")) if "\t" in text else text)
    expected: dict[Kind, Any] = {
        "single-label": lambda: f"{found.label}\t{found.score:.4f}",
        "multi-label": lambda: ", ".join(f"{label} {found.scores[label]:.4f}" for label in found.labels),
        "regression": lambda: f"{found.value:.6g}",
        "token-classification": lambda: "GOOD: fine",
        "question-answering": lambda: f"{found.text}\t{found.score:.4f}",
        "fill-mask": lambda: f"{found[0][0].text} {found[0][0].score:.4f}",
        "feature-extraction": lambda: " ".join(f"{value:.6g}" for value in found),
    }
    assert answer == (expected[kind]() or "-")


KEYS: dict[Kind, list[str]] = {
    "single-label": ["text", "label", "score", "scores"],
    "multi-label": ["text", "labels", "scores"],
    "regression": ["text", "value"],
    "token-classification": ["text", "entities"],
    "question-answering": ["question", "context", "answer", "score", "start", "end"],
    "fill-mask": ["text", "masks"],
    "feature-extraction": ["text", "embedding"],
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_json_object_holds_all_that_is_known(
    folders: dict[Kind, Path], kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(told(capsys, str(folders[kind]), GIVEN.get(kind, "the fine film"), "--json"))
    assert list(found) == KEYS[kind]
    if kind in ("single-label", "multi-label"):
        assert set(found["scores"]) == set(deployed_tasks.LABELS[kind])
    if kind == "token-classification":
        (entity,) = found["entities"]
        assert (entity["label"], entity["text"], entity["start"], entity["end"]) == ("GOOD", "fine", 4, 8)
    if kind == "fill-mask":
        assert [len(mask) for mask in found["masks"]] == [5]


def test_a_line_without_its_second_text_is_counted(
    folders: dict[Kind, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folders["question-answering"]), "why?\tthe plot", "why?"]) == 2
    assert "Text 2 has 0 tabs where this model takes a question and a context." in capsys.readouterr().err


def test_pairs_are_read_with_a_tab_between(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = deployed_tasks.write(tmp_path, "regression", settings={"pairs": True})
    found = json.loads(told(capsys, str(folder), "fine film\tdull", "--json"))
    assert (found["text"], found["pair"]) == ("fine film", "dull")
    assert found["value"] == Predictor(folder)(("fine film", "dull"))[0].value


def test_lines_before_one_that_cannot_be_answered_are_answered_and_it_is_named(
    folders: dict[Kind, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(folders["fill-mask"]), "a [MASK] film", "the [MASK]", "no mask", "a [MASK]"]) == 2
    out, err = capsys.readouterr()
    assert [line.rpartition("\t")[2] for line in out.splitlines()] == ["a [MASK] film", "the [MASK]"]
    assert "Text 3 has no [MASK]." in err


def test_what_stands_behind_two_hyphens_is_text_whatever_it_looks_like(
    folders: dict[Kind, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["--what_is this_is", "fine", "--debug", "--json"]
    lines = told(capsys, str(folders["single-label"]), "--", *texts).splitlines()
    assert [line.rpartition("\t")[2] for line in lines] == texts


def test_a_text_typed_on_a_terminal_is_answered_before_the_next(folders: dict[Kind, Path]) -> None:
    answered: list[int] = []
    with redirect_stdout(StringIO()) as out:

        def typed() -> Iterator[str]:
            for _ in range(3):
                answered.append(out.getvalue().count("\n"))
                yield "fine"

        predictions.show_predictions(Predictor(folders["single-label"]), typed(), as_json=False, at_once=1)
    assert answered == [0, 1, 2]


def test_lines_before_one_that_is_not_utf_8_are_answered(
    folders: dict[Kind, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=BytesIO(b"fine\ndull\n\xff\nfine\n")))
    assert main(["predict", str(folders["single-label"])]) == 2
    out, err = capsys.readouterr()
    assert [line.rpartition("\t")[2] for line in out.splitlines()] == ["fine", "dull"]
    assert "Line 3 of standard input is not UTF-8." in err


def test_what_comes_through_a_pipe_is_not_waited_for_as_long_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("fine")
    with (tmp_path / "texts").open("rb") as file:
        assert predictions.together(file) is None
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb"):
        assert predictions.together(pipe) == predictions.PIPED
