"""The command line: what it accepts, what it prints and how it exits. The run itself is replaced."""

from __future__ import annotations

import errno
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compressor import recipe as recipes
from compressor.architectures import ARCHITECTURES
from compressor.artifacts import Run
from compressor.cli import main
from compressor.errors import ParityError
from compressor.events import Listener, Note, StageStarted, Warned
from compressor.recipe import Recipe
from compressor.runtime import Predictor
from tests import deployed, tiny, tiny_tokenizers

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "onnx", "onnxruntime", "numpy", "compressor.pipeline")
REPORT: dict[str, Any] = {
    "verdict": {"sentence": "Ship it [really]."},
    "metric": {"name": "accuracy", "title": "accuracy", "share": True, "row_word": "test row"},
    "models": [
        {"name": name, "size_bytes": 2e6, "score": 0.5, "ci95": [0.4, 0.6], "agreement_with_teacher": 1.0}
        for name in ("teacher_onnx", "student_onnx")
    ],
    "latency": [
        {"model": name, "p50_ms": ms, "batch_size": 1, "sequence_length": None, "provider": "cpu"}
        for name, ms in (("teacher_onnx", 3.0), ("student_onnx", 1.5))
    ],
}


class Pipeline:
    """Stands in for the run: remembers recipes, tells events, and fails as asked."""

    def __init__(self) -> None:
        self.recipes: list[Recipe] = []
        self.error: BaseException | None = None

    def __call__(self, recipe: Recipe, listen: Listener) -> Run:
        self.recipes.append(recipe)
        listen(StageStarted("data", "reviews"))
        listen(Note("labels are [neg] and [/pos]"))
        listen(Warned("few rows"))
        if self.error is not None:
            raise self.error
        return Run(Path("exported/[x]"), REPORT)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    stand_in = Pipeline()
    monkeypatch.setattr("compressor.pipeline.compress", stand_in)
    return stand_in


# --- help -----------------------------------------------------------------------------------


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from compressor.cli import main; code = main(['--help']); print(code, [*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    told, _, last = done.stdout.rstrip().rpartition("\n")
    assert last.startswith("0 ")
    assert not [name for name in HEAVY if f"'{name}'" in last]
    assert "--teacher" in told


def test_help_shows_every_flag_with_its_text_and_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for flag in recipes.flags():
        assert f"--{flag} " in told, flag
    assert "Softens both distributions" in told
    assert "[default: 2.0]" in told
    assert "compress --teacher bert-base --layers 6 --quantize" in told


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip()


# --- recipe ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["--max-seq-length 64", "--max_seq_length 64", "--max_seq_length=64"])
def test_hyphens_and_underscores_are_the_same(spelling: str, pipeline: Pipeline) -> None:
    assert main(["--teacher", "bert_base", *spelling.split()]) == 0
    assert pipeline.recipes[0].data.max_seq_length == 64
    assert pipeline.recipes[0].teacher.model == "bert_base"


def test_flags_override_the_recipe_file_and_leave_the_rest(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_text(
        '[teacher]\nmodel = "bert-base"\n[distill]\nepochs = 9\ntemperature = 4.0\n[quantize]\nenabled = true\n'
    )
    assert main(["--recipe", str(path), "--epochs", "2", "--no-quantize"]) == 0
    found = pipeline.recipes[0]
    assert (found.distill.epochs, found.distill.temperature, found.quantize.enabled) == (2.0, 4.0, False)
    assert found.teacher.model == "bert-base"


def test_what_is_not_named_has_the_recipes_default(pipeline: Pipeline) -> None:
    assert main(["--teacher", "x", "--layers", "0,2,4", "--prune", "0.4", "--batch-sizes", "1,4"]) == 0
    given = {"layers": (0, 2, 4), "prune": 0.4, "batch-sizes": (1, 4)}
    assert pipeline.recipes[0] == recipes.build({}, {"teacher": "x", **given})


# --- output ---------------------------------------------------------------------------------


def test_a_run_tells_on_standard_error_and_ends_with_its_table(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--teacher", "x"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(maxsplit=1) for line in err.splitlines()] == [
        ["data", "reviews"], ["labels", "are [neg] and [/pos]"], ["warning", "few rows"]
    ]  # fmt: skip
    assert "Ship it [really]." in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["student_onnx"][-2:] == ["ms", "2.00x"]
    assert rows["Report"][1] == "exported/[x]/report/report.html"


def test_quiet_prints_the_result_alone(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--teacher", "x", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Ship it [really]." in out


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pipeline: Pipeline
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.teacher_folder(tmp_path / "teacher")
    (tmp_path / "reviews.csv").write_text("text,label\nfine,positive\ndull,negative\n")
    argv = "--teacher ./teacher --data reviews.csv --layers 2 --prune 0.4 --quantize --cache-dir cache --dry-run"
    assert main(argv.split()) == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "4 layers",
        "2 layers (copies 0, 3)",
        "int8 file",
        "40% of the encoder's linear weights",
        "2.0x fewer",
    ):
        assert part in told
    assert "output exported/teacher-2l" in told
    assert pipeline.recipes == []
    assert {path.name for path in tmp_path.iterdir()} <= {"teacher", "reviews.csv", "cache"}


def test_a_plan_says_what_its_sizes_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_tokenizers.teacher_folder(tmp_path / "teacher", "WordPiece")
    (tmp_path / "reviews.csv").write_text("text,label\nfine,positive\ndull,negative\n")
    usual = "--teacher ./teacher --data reviews.csv --layers 1 --quantize --cache-dir cache --dry-run"
    told = {}
    for name, more in (
        ("int8", ""),
        ("fp16", "--quantize-mode fp16 --prune-ffn 0.75 --prune-heads 0.5"),
        ("int4", "--quantize-mode weight-only-int4 --target-speedup 8 --trim-vocab train"),
    ):
        assert main(f"{usual} {more}".split()) == 0
        told[name] = " ".join(capsys.readouterr().out.split())
    assert "removed" not in told["int8"]
    assert "fp16 file about" in told["fp16"]
    assert (
        "removed 50% of the heads and 75% of the feed-forward neurons; sizes and FLOPs are those before" in told["fp16"]
    )
    assert "smaller file weight-only-int4" in told["int4"]
    assert "removed heads and neurons until it is 8 times as fast and pieces that no text needs;" in told["int4"]
    assert "int8 file" not in told["fp16"] + told["int4"]


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_every_family_has_a_plan(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.teacher_folder(tmp_path / "teacher", model_type)
    (tmp_path / "reviews.csv").write_text("text,label\nfine,positive\ndull,negative\n")
    argv = "--teacher ./teacher --data reviews.csv --layers 1 --cache-dir cache --dry-run"
    assert main(argv.split()) == 0
    assert "FLOPs" in capsys.readouterr().out


# --- exit codes -----------------------------------------------------------------------------


def test_a_failed_stage_exits_with_1_and_what_to_do(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.error = ParityError("The graphs differ by 0.3.", "Try another --opset.")
    assert main(["--teacher", "x"]) == 1
    assert capsys.readouterr().err.endswith("error: The graphs differ by 0.3.\n       Try another --opset.\n")


def test_ctrl_c_exits_with_130_and_says_how_to_go_on(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.error = KeyboardInterrupt()
    assert main(["--teacher", "x"]) == 130
    err = capsys.readouterr().err
    assert err.endswith("\nInterrupted. The same command continues where this one stopped.\n")
    assert "Traceback" not in err


def test_a_bug_is_one_line_without_a_traceback(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.error = ZeroDivisionError("by zero")
    assert main(["--teacher", "x"]) == 1
    err = capsys.readouterr().err
    assert "error: unexpected ZeroDivisionError: by zero\n       This is a bug of compressor." in err
    assert "Traceback" not in err


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), ParityError("The graphs differ.")])
def test_debug_prints_the_traceback(error: Exception, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.error = error
    assert main(["--teacher", "x", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert str(error) in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--temprature 2", "error: Unknown option: --temprature. Did you mean --temperature?"),
        ("predct x", "error: Not understood: predct x.\n       Did you mean compress predict? See compress --help."),
        ("bert-base", "error: Not understood: bert-base.\n       Every choice is a flag, as in --teacher bert-base."),
    ],
)
def test_a_near_miss_brings_the_right_word(
    argv: str, message: str, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv.split()) == 2
    assert capsys.readouterr().err.startswith(message)
    assert pipeline.recipes == []


# --- predict --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployed.write(tmp_path_factory.mktemp("run"))


def test_predict_labels_arguments_one_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "good superb", "bad awful"]) == 0
    best = Predictor(folder)(["good superb", "bad awful"])
    assert capsys.readouterr().out.splitlines() == [
        f"{best[0].label}\t{best[0].score:.4f}\tgood superb",
        f"{best[1].label}\t{best[1].score:.4f}\tbad awful",
    ]


def test_predict_reads_lines_of_standard_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # U+2028 ends no line, a carriage return before the end does not belong to it, and an empty line is a text.
    stream = io.BytesIO("good\u2028film\r\n\nbad".encode())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
    assert main(["predict", str(folder)]) == 0
    told = capsys.readouterr().out.rstrip("\n").split("\n")
    assert [line.split("\t")[2] for line in told] == ["good\u2028film", "", "bad"]


def test_predict_as_json_holds_the_scores_of_all_labels(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "good", "--json", "--model", "int8"]) == 0
    (found,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    (expected,) = Predictor(folder, model="int8")("good", top_k=None)
    assert found == {
        "text": "good", "label": expected.label, "score": expected.score, "scores": dict(expected.scores)
    }  # fmt: skip
    assert set(found["scores"]) == set(deployed.LABELS)


def test_predict_calibrated_divides_by_the_models_temperature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = deployed.write(tmp_path / "run")
    files = json.loads((run / "manifest.json").read_text())["files"]
    deployed.edit(run, files={**files, "onnx/model.onnx": {**files["onnx/model.onnx"], "temperature": 4.0}})
    scores = []
    for flags in ([], ["--calibrated"]):
        assert main(["predict", str(run), "good", "--json", *flags]) == 0
        scores.append(json.loads(capsys.readouterr().out)["scores"])
    softened = {label: score ** (1 / 4.0) for label, score in scores[0].items()}
    assert scores[1] == pytest.approx(
        {label: value / sum(softened.values()) for label, value in softened.items()}, rel=1e-4
    )


def test_predict_calibrated_without_a_temperature_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "good", "--calibrated"]) == 2
    assert "has no temperature for onnx/model.onnx: its scores cannot be calibrated." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: No space left on a disk.\n"),
    ],
)
def test_a_command_that_does_not_continue_does_not_say_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int,
    said: str,
) -> None:  # fmt: skip
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("compressor.cli.predictions.show_predictions", fail)
    assert main(["predict", str(folder), "good"]) == code
    assert capsys.readouterr().err.startswith(said)


def test_predict_takes_an_argument_that_is_not_utf_8(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(folder), "good \udcff"]) == 0
    assert capsys.readouterr().out.rstrip("\n").endswith("\tgood ?")


def test_predict_needs_no_training_install(folder: Path) -> None:
    code = f"import sys; from compressor.cli import main; main(['predict', {str(folder)!r}, 'good']); print([*sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert not [name for name in ("torch", "transformers", "datasets", "onnx") if f"'{name}'" in loaded]


def test_a_closed_pipe_is_not_a_bug(folder: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    command = f"yes good | head -100000 | '{sys.executable}' -m compressor predict '{folder}' | head -1"
    done = subprocess.run([shell, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\tgood\n")
    assert done.stderr == ""
