"""Whole runs, as a user starts them: real processes, tiny models, a hub on 127.0.0.1."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import numpy_helper
from safetensors.numpy import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import compressor.report
from compressor.cli import main
from compressor.errors import ParityError
from compressor.runtime import Predictor
from compressor.runtime.manifest import read_manifest, verify
from tests import tiny
from tests.hub_server import Hub

ROOT = Path(__file__).parents[1]
TEXTS = ["a superb and moving film", "dull", "the plot is very weak and the actor was cold with it", ""]
ROOT_FILES = {
    "README.md", "config.json", "manifest.json", "model.safetensors", "onnx/model.onnx", "ort_config.json", "recipe.toml",
    "report/report.html", "report/report.json", "report/report.md", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip

# The command in a process of its own. It measures one short round: the benchmark has tests of its own.
COMMAND = """
import sys
from compressor.benchmark import rounds
from compressor.benchmark.plan import Budget
from compressor.cli import main
alternate = rounds.schedule
rounds.schedule = lambda count, wanted: alternate(count, 1)
rounds.Budget = lambda: Budget(warmup_seconds=0.02, timed_seconds=0.02, repeated_share=0, load_texts=4)
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def started(command: str, cwd: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start a command line; the process is gone at the end of the block."""
    program, *argv = command.split()
    assert program == "compress"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *argv],
        cwd=cwd, env={**(environment or os.environ), "PYTHONPATH": str(ROOT), "HOME": str(cwd)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(command: str, cwd: Path, environment: dict[str, str] | None = None) -> tuple[str, str]:
    """Run a command line to its good end; return standard output and standard error."""
    with started(command, cwd, environment) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


def interrupt_at(stage: str, command: str, cwd: Path, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Press Ctrl-C when a stage begins; return the exit code and standard error."""
    with started(command, cwd, environment) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if line.startswith(stage):
                process.send_signal(signal.SIGINT)
                break
        _, rest = process.communicate()
    return process.returncode, "".join(told) + rest


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


# --- the literal command --------------------------------------------------------------------


@dataclass(frozen=True)
class Literal:
    """The literal command, and a second one after the hub was gone."""

    folder: Path
    out: str
    err: str
    code_again: int
    err_again: str


def publish_model(folder: Path) -> Path:
    tiny.model("bert", num_hidden_layers=12).base_model.save_pretrained(folder)
    tiny.tokenizer("bert").save_pretrained(folder)
    return folder


def publish_reviews(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    for split, rows in (("train", 64), ("validation", 16), ("test", 16)):
        reviews = tiny.reviews(rows, seed=rows)
        columns = {"text": [text for text, _ in reviews], "label": [int(name == "positive") for _, name in reviews]}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"data/{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def literal(tmp_path_factory: pytest.TempPathFactory) -> Literal:
    root = tmp_path_factory.mktemp("literal")
    desk = root / "desk"
    desk.mkdir()
    with Hub(
        models={"google-bert/bert-base-uncased": publish_model(root / "model")},
        datasets={"cornell-movie-review-data/rotten_tomatoes": publish_reviews(root / "data")},
    ) as hub:
        out, err = run("compress --teacher bert-base --layers 6 --quantize", desk, hub.environment(root / "home"))
    again = "compress --teacher bert-base --layers 6 --output-dir again"
    code, err_again = interrupt_at("export", again, desk, hub.environment(root / "home"))
    return Literal(desk / "exported/bert-base-6l", out, err, code, err_again)


def test_the_literal_command_writes_the_whole_folder_and_nothing_else(literal: Literal) -> None:
    assert content(literal.folder) == ROOT_FILES | {"onnx/model_quantized.onnx"}
    desk = literal.folder.parents[1]
    assert sorted(path.name for path in desk.iterdir()) == [".cache", "exported"]
    assert [path.name for path in (desk / "exported").iterdir()] == ["bert-base-6l"]
    verify(literal.folder, read_manifest(literal.folder))


def test_it_says_what_it_does_and_nothing_of_other_libraries(literal: Literal) -> None:
    stages = [line.split()[0] for line in literal.err.splitlines() if line and line[0] != " "]
    taught = ["teacher", "data", "fine-tune", "soft", "distil"]
    steps = [*taught, "export", "quantize", "evaluate", "benchmark", "report"]
    assert [stage for stage in stages if stage != "warning"] == steps
    assert "it/s" not in literal.err
    assert "Model   exported/bert-base-6l" in literal.out
    assert "Report  exported/bert-base-6l/report/report.html" in literal.out


def test_its_report_keeps_the_public_contract(literal: Literal) -> None:
    report = json.loads((literal.folder / "report/report.json").read_text(encoding="utf-8"))
    schema = json.loads((Path(compressor.report.__file__).parent / "schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, schema)
    names = ["teacher", "teacher_onnx", "student_onnx", "student_int8"]
    assert [row["name"] for row in report["models"]] == names
    assert {row["model"] for row in report["latency"]} == set(names)
    assert report["layer_map"]["copied_from"] == [0, 2, 4, 7, 9, 11]
    assert report["headline"]["speedup"] > 0
    assert any("The data are cornell-movie-review-data/rotten_tomatoes" in note for note in report["notes"])


def test_its_onnx_file_gives_the_predictors_logits_in_plain_onnxruntime(literal: Literal) -> None:
    tokenizer = AutoTokenizer.from_pretrained(literal.folder)
    encoded = tokenizer(TEXTS, padding=True, return_tensors="np")
    for file, precision in (("onnx/model.onnx", "fp32"), ("onnx/model_quantized.onnx", "int8")):
        session = ort.InferenceSession(literal.folder / file, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        (logits,) = session.run(["logits"], {name: encoded[name].astype(np.int64) for name in names})
        found = Predictor(literal.folder, model=precision).logits(TEXTS)
        np.testing.assert_allclose(found, logits, atol=1e-5)


def test_its_student_reloads_in_transformers_with_the_same_logits(literal: Literal) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(literal.folder).eval()
    encoded = AutoTokenizer.from_pretrained(literal.folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**encoded).logits.numpy()
    np.testing.assert_allclose(Predictor(literal.folder, model="fp32").logits(TEXTS), logits, atol=1e-5)
    assert model.config.num_hidden_layers == 6
    assert model.config.id2label == {0: "neg", 1: "pos"}


def test_compress_predict_labels_texts_with_it(literal: Literal, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(literal.folder), *TEXTS]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == TEXTS
    assert [row[0] for row in rows] == [found.label for found in Predictor(literal.folder)(TEXTS)]


def test_afterwards_no_hub_is_needed_and_nothing_is_trained_again(literal: Literal) -> None:
    err = " ".join(literal.err_again.split())
    assert "google-bert/bert-base-uncased is used as downloaded earlier" in err
    assert "the data are cornell-movie-review-data/rotten_tomatoes as downloaded earlier" in err
    assert "the one that an earlier run trained is used" in err
    assert "This student was distilled by an earlier run" in err


def test_ctrl_c_ends_with_130_a_sentence_and_no_half_folder(literal: Literal) -> None:
    assert literal.code_again == 130
    last = literal.err_again.splitlines()[-1]
    assert last == "Interrupted. The same command continues where this one stopped."
    assert "Traceback" not in literal.err_again
    desk = literal.folder.parents[1]
    assert not [path for path in desk.iterdir() if "again" in path.name]
    assert not list((desk / ".cache/compressor").rglob("*.partial-*"))


# --- an own teacher, pruned -----------------------------------------------------------------

OWN = (
    "compress --teacher teacher --data reviews --layers 2 --prune 0.4 --quantize --no-benchmark --epochs 8 --patience 8"
)
LONG = "the film was " * 40 + "superb"
ODD = [
    "caf\u00e9 \u2014 na\u00efve \U0001f600\u200d\U0001f680 film",
    "a line\nbreak and \u2028 another",
    'quotes "inside", commas',
    "\u202eright to left",
    "0",
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned teacher of 4 layers, and reviews of which some are long or odd."""
    desk = tmp_path_factory.mktemp("own")
    tiny.teacher_folder(desk / "teacher")
    (desk / "reviews").mkdir()
    for split, rows in (("train", 64), ("validation", 16), ("test", 16)):
        extra = [(text, "positive") for text in (LONG, *ODD)] if split != "validation" else []
        with (desk / f"reviews/{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *tiny.reviews(rows, seed=rows), *extra])
    return desk


@dataclass(frozen=True)
class Own:
    """A run from beginning to end, without an interruption."""

    desk: Path
    folder: Path
    report: dict[str, Any]


@pytest.fixture(scope="module")
def own(desk: Path) -> Own:
    run(f"{OWN} --cache-dir cache --output-dir exported/reviews", desk)
    folder = desk / "exported/reviews"
    return Own(desk, folder, json.loads((folder / "report/report.json").read_text(encoding="utf-8")))


def linear_zeros(folder: Path) -> tuple[int, int]:
    """Zeros in the encoder's linear weights of the student, and how many weights those are."""
    weights = load_file(folder / "model.safetensors")
    linear = [item for name, item in weights.items() if ".layer." in name and item.ndim == 2]
    return sum(int((item == 0).sum()) for item in linear), sum(item.size for item in linear)


def test_two_fifths_of_the_encoders_weights_are_zero_in_both_files(own: Own) -> None:
    zeros, weights = linear_zeros(own.folder)
    assert weights == 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert zeros == round(0.4 * weights)
    graph = onnx.load(own.folder / "onnx/model.onnx").graph
    exported = [numpy_helper.to_array(item) for item in graph.initializer if ".layer." in item.name]
    assert sum(int((item == 0).sum()) for item in exported if item.ndim == 2) == zeros


def test_the_report_says_that_sparse_weights_do_not_speed_anything_up(own: Own) -> None:
    assert any("they do not speed onnxruntime up" in caveat for caveat in own.report["caveats"])
    for file in ("report/report.html", "report/report.md"):
        assert "do not speed onnxruntime up" in (own.folder / file).read_text(encoding="utf-8")


def test_odd_texts_are_read_and_long_ones_are_cut_with_a_note(own: Own) -> None:
    assert own.report["data"]["rows"] == {"train": 70, "validation": 16, "test": 22}
    assert "Texts of more than 64 tokens were cut: 1 of train, 1 of test." in own.report["notes"]
    assert len(Predictor(own.folder)([LONG, *ODD])) == 6


def test_the_recipe_of_the_run_repeats_it(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.desk)
    monkeypatch.setattr("compressor.delivery.export", fail_parity)
    assert main(["--recipe", str(own.folder / "recipe.toml"), "--output-dir", "repeated"]) == 1
    assert len(list((own.desk / "cache/students").iterdir())) == 1


# --- interruptions --------------------------------------------------------------------------


def test_a_killed_distillation_continues_and_ends_with_the_same_weights(own: Own) -> None:
    command = f"{OWN} --cache-dir other --output-dir killed --checkpoint-minutes 0"
    students = own.desk / "other/students"
    with started(command, own.desk) as process:
        while process.poll() is None and not any(map(is_whole, students.glob("*.training/checkpoint-*"))):
            time.sleep(0.005)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(students.glob("*/model.safetensors")) == []
    assert not (own.desk / "killed").exists()

    code, err = interrupt_at("export", command, own.desk)
    assert code == 130
    assert "Continued distil from step " in err
    weights = only(students, "*/model.safetensors")
    assert weights.read_bytes() == only(own.desk, "cache/students/*/model.safetensors").read_bytes()
    assert list(students.glob("*.training")) == []
    assert not list(own.desk.rglob("*.partial-*"))


def is_whole(checkpoint: Path) -> bool:
    """Whether a restart may continue from it: the state, written last, can be read to its end."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def fail_parity(*_: object, **__: object) -> None:
    raise ParityError("The exported graph disagrees with torch.", "The training is kept.")


def test_a_failed_stage_leaves_no_folder_and_keeps_the_training(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr("compressor.delivery.export", fail_parity)
    argv = f"--teacher teacher --data reviews --layers 2 --epochs 1 --cache-dir {tmp_path / 'cache'}".split()
    argv += ["--output-dir", str(tmp_path / "out")]
    assert main(argv) == 1
    err = capsys.readouterr().err
    assert "error: The exported graph disagrees with torch.\n       The training is kept.\n" in err
    assert "distilled by an earlier run" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]

    monkeypatch.setattr("compressor.training.distill.distill", lambda *_, **__: pytest.fail("trained again"))
    assert main(argv) == 1
    assert "This student was distilled by an earlier run" in capsys.readouterr().err


def test_a_kept_training_that_was_damaged_is_made_anew(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setattr("compressor.delivery.export", fail_parity)
    argv = f"--teacher teacher --data reviews --layers 1 --epochs 1 --cache-dir {tmp_path / 'cache'}".split()
    argv += ["--output-dir", str(tmp_path / "out")]
    assert main(argv) == 1
    weights = only(tmp_path, "cache/students/*/model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert main(argv) == 1
    assert weights.read_bytes() == whole
