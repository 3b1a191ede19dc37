"""Whole runs of every task, from files to a folder that predicts; and what one run's student is to the next."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import compressor.report
from compressor import Run, compress
from compressor.cli import main
from compressor.recipe import build
from compressor.runtime import Predictor, read_manifest, verify
from compressor.tasks import TASKS, Kind
from tests import tiny, tiny_data

SCHEMA = json.loads((Path(compressor.report.__file__).parent / "schema.json").read_text(encoding="utf-8"))
QUESTIONS = {
    "multi-label": ["a superb film", "dull and flat"],
    "regression": ["a superb film", "dull and flat"],
    "token-classification": ["the actor was superb", "it"],
    "question-answering": [("superb film", "the plot is superb and the film is fine")],
    "fill-mask": ["the [MASK] is superb"],
    "feature-extraction": ["a superb film", "dull and flat"],
}


def run(teacher: Path, data: Path, place: Path, **flags: Any) -> Run:
    given = {
        "teacher": str(teacher), "data": str(data), "layers": 2, "quantize": True, "benchmark": False, "epochs": 1.0,
        "teacher-epochs": 1.0, "learning-rate": 1e-3, "cache-dir": str(place / "cache"),
        "output-dir": str(place / "out"), "device": "cpu",
        **{name.replace("_", "-"): value for name, value in flags.items()},
    }  # fmt: skip
    return compress(build({}, given))


def follow_the_card(folder: Path) -> Any:
    """Run the lines that the README of a run folder shows."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    *lines, shown = card.partition("```python\n")[2].partition("\n```")[0].splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(lines).replace("path/to/this/folder", str(folder)), names)
    return eval(shown, names)


# One from files to predictions; the others wait for the long run, and test_matrix has every kind.
QUICK = ("question-answering",)
KINDS = [
    pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in TASKS if kind != "single-label"
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_task_runs_from_files_to_predictions(kind: Kind, tmp_path: Path) -> None:
    teacher, data = tmp_path / "teacher", tmp_path / "data"
    tiny.teacher_folder(teacher, kind=kind)
    tiny_data.write(kind, data)
    found = run(teacher, data, tmp_path, task=TASKS[kind].name)
    report, folder = found.report, found.output_dir

    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert (report["task"], report["kind"], report["metric"]["name"]) == (TASKS[kind].name, kind, TASKS[kind].metric)
    assert all(row["max_abs_difference"] <= 1e-4 and not row["changed_labels"] for row in report["parity"])
    assert report["quantization"]["quantized"] == report["quantization"]["expected"] > 0
    int8 = next(row for row in report["company"] if row["model"] == "student_int8")
    assert (int8["padded_difference"], int8["batched_difference"]) == (0.0, 0.0)

    manifest = read_manifest(folder)
    verify(folder, manifest)
    assert (manifest.kind, manifest.task) == (kind, TASKS[kind].name)
    predictor = Predictor(folder)
    assert len(predictor(QUESTIONS[kind])) == len(QUESTIONS[kind])
    assert len(follow_the_card(folder)) > 0
    page = (folder / "report/report.html").read_text(encoding="utf-8")
    assert report["verdict"]["sentence"].replace("'", "&#39;") in page
    assert main(["check", str(folder), "--no-timing", "--max-drop", "100"]) == 0


@pytest.mark.slow
def test_what_a_masked_language_student_learnt_serves_a_second_run(tmp_path: Path) -> None:
    """General distillation, then task distillation."""
    general, texts, reviews = tmp_path / "general", tmp_path / "texts", tmp_path / "reviews"
    tiny.teacher_folder(general, kind="fill-mask")
    first = run(general, tiny_data.write("fill-mask", texts), tmp_path / "first", task="fill-mask", preset="distilbert")
    second = run(first.output_dir, tiny_data.write("single-label", reviews), tmp_path / "second", layers=1)
    assert second.report["kind"] == "single-label"
    assert second.report["teacher"]["fine_tuned"]
    assert second.report["layer_map"]["teacher_layers"] == 2


@pytest.mark.slow
def test_pairs_are_read_learnt_and_predicted_as_pairs(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    tiny.teacher_folder(teacher)
    data = tiny_data.write("single-label", tmp_path / "data", pairs=True)
    folder = run(teacher, data, tmp_path, pair_column="sentence2").output_dir
    assert read_manifest(folder).settings["pairs"] is True
    assert len(follow_the_card(folder)) == 1
    one, other = Predictor(folder).logits([("a superb film", "dull"), ("a superb film", "fine")])
    assert not np.array_equal(one, other)


@pytest.mark.slow
def test_chinese_text_goes_from_file_to_report_and_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher, data = tmp_path / "教师", tmp_path / "评论"
    tiny.teacher_folder(teacher, labels=("差评", "好评"))
    tokenizer = json.loads((teacher / "tokenizer.json").read_text(encoding="utf-8"))
    words = dict(
        zip(
            [*tiny.POSITIVE, *tiny.NEGATIVE, *tiny.NEUTRAL],
            "好优美棒妙真暖趣新亮坏差烂弱旧闷冷笨平空这部电影情节演员很都也不了的我看",
            strict=False,
        )
    )
    tokenizer["model"]["vocab"] = {words.get(word, word): index for word, index in tokenizer["model"]["vocab"].items()}
    (teacher / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    data.mkdir()
    for split, rows in (("train", 64), ("validation", 24), ("test", 24)):
        with (data / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            lines = csv.writer(stream)
            lines.writerow(["text", "label"])
            lines.writerows(
                (f"这部电影很{'好优美棒妙'[row % 5]}{row}", "好评")
                if row % 2
                else (f"演员都{'坏差烂弱旧'[row % 5]}了{row}", "差评")
                for row in range(rows)
            )
    folder = run(teacher, data, tmp_path).output_dir
    page = (folder / "report/report.html").read_text(encoding="utf-8")
    assert all(word in page for word in ("差评", "好评", "评论"))
    assert main(["predict", str(folder), "这部电影很好"]) == 0
    label, score, text = capsys.readouterr().out.strip().split("\t")
    assert (label in ("差评", "好评"), text) == (True, "这部电影很好")
    assert 0.5 <= float(score) <= 1
    # Every character is a token of its own: another one gives another answer.
    answers = Predictor(folder).logits(["这部电影很好", "这部电影很坏"])
    assert not np.array_equal(answers[0], answers[1])
