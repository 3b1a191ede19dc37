"""Bad input ends with exit code 2, a message that names what was met, a way out, and no leftovers."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from onnxruntime import get_available_providers

from compressor.cli import main
from tests import deployed, tiny, tiny_tokenizers
from tests.hub_server import Hub

ROOT = Path(__file__).parents[1]
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Attributes:
        name: What is wrong.
        says: The message, with paths relative to the world; * stands for what depends on the machine.
        argv: Arguments; those that are not bad are added.
        change: What is done to a good world: a teacher, reviews/ and a cache.
    """

    name: str
    says: str
    argv: str = ""
    change: Change = lambda world: None

    def check(self, err: str, world: Path) -> None:
        """Compare the message, without the stages before it and the remedy behind it."""
        found = [line for line in err.replace(f"{world}/", "").splitlines() if line.startswith("error: ")]
        assert len(found) == 1, err
        assert re.fullmatch(re.escape(f"error: {self.says}").replace(r"\*", ".*"), found[0]), found[0]
        assert "Traceback" not in err


def edit(path: str, **changes: object) -> Change:
    """Change keys of a JSON file; ``None`` removes one."""

    def change(world: Path) -> None:
        content = {**json.loads((world / path).read_text()), **changes}
        (world / path).write_text(json.dumps({key: item for key, item in content.items() if item is not None}))

    return change


def write(path: str, content: str | bytes) -> Change:
    def change(world: Path) -> None:
        (world / path).parent.mkdir(exist_ok=True)
        (world / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def remove(path: str) -> Change:
    return lambda world: (world / path).unlink()


def reviews(header: str = "text,label", *rows: str) -> Change:
    """Replace the data by one CSV file."""

    def change(world: Path) -> None:
        shutil.rmtree(world / "reviews")
        write("reviews/train.csv", "\n".join([header, *rows]) + "\n")(world)

    return change


def only_a_pickle(world: Path) -> None:
    (world / "teacher/model.safetensors").unlink()
    torch.save({}, world / "teacher/pytorch_model.bin")


def truncate(path: str) -> Change:
    def change(world: Path) -> None:
        content = (world / path).read_bytes()
        (world / path).write_bytes(content[: len(content) // 2])

    return change


def flip(path: str) -> Change:
    def change(world: Path) -> None:
        content = bytearray((world / path).read_bytes())
        content[len(content) // 2] ^= 1
        (world / path).write_bytes(content)

    return change


TEACHER = (
    Bad("no such folder", "Teacher ./techer does not exist.", "--teacher ./techer"),
    Bad(
        "a name that is near an alias",
        "HF_HUB_OFFLINE keeps the hub from being asked; bert-bse was not downloaded before.",
        "--teacher bert-bse",
    ),
    Bad("no name of a model", "'my model!' is neither a folder nor a hub id.", "--teacher 'my model!'"),
    Bad("a file", "teacher/config.json is a file.", "--teacher teacher/config.json"),
    Bad(
        "a folder of something else", "./reviews is not a model folder: there is no config.json.", "--teacher ./reviews"
    ),
    Bad(
        "a decoder",
        "teacher is a decoder: gpt2 (GPT2LMHeadModel). Only encoders can be compressed.",
        change=edit("teacher/config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"]),
    ),
    Bad(
        "an encoder-decoder",
        "teacher is an encoder-decoder: t5 (BertForSequenceClassification). Only encoders can be compressed.",
        change=edit("teacher/config.json", model_type="t5", is_encoder_decoder=True),
    ),
    Bad(
        "an unsupported encoder",
        "Model type 'vit' is not supported.",
        change=edit("teacher/config.json", model_type="vit"),
    ),
    Bad(
        "a pickle",
        "teacher has its weights only as a pickle (pytorch_model.bin), which can run code when it is loaded.",
        change=only_a_pickle,
    ),
    Bad(
        "truncated weights",
        "teacher/model.safetensors is damaged: its header promises * bytes of weights, the file holds *.",
        change=truncate("teacher/model.safetensors"),
    ),
    Bad(
        "a config that is not JSON",
        "teacher/config.json cannot be read as JSON: Expecting property name enclosed in double quotes: line 1 column 23 (char 22).",
        change=write("teacher/config.json", '{"model_type": "bert",'),
    ),
    Bad(
        "no tokenizer",
        "teacher has no tokenizer: none of tokenizer.json, vocab.txt, vocab.json + merges.txt, sentencepiece.bpe.model, spiece.model, spm.model, tokenizer.model.",
        change=remove("teacher/tokenizer.json"),
    ),
    Bad(
        "code of its own",
        "teacher brings Python code of its own (auto_map in its config), which would run here.",
        change=edit("teacher/config.json", auto_map={"AutoModel": "modeling.Mine"}),
    ),
    Bad(
        "fewer labels than outputs",
        "The head of teacher has 2 outputs, but its config names 1 labels.",
        change=edit("teacher/config.json", id2label={"0": "score"}, label2id=None),
    ),
    Bad(
        "a regression of several values",
        "The head of teacher predicts 2 values; only a regression of one value is supported.",
        change=edit("teacher/config.json", problem_type="regression"),
    ),
    Bad("a revision of a folder", "--teacher-revision v2 was given, but teacher is a folder.", "--teacher-revision v2"),
)

LAYERS = (
    Bad("no layers", "--layers 0: a student needs at least 1 layer, not 0.", "--layers 0"),
    Bad("more layers than the teacher has", "--layers 5: the teacher has 4 layers.", "--layers 5"),
    Bad("a layer out of range", "--layers 0,4: the teacher has no layer 4.", "--layers 0,4"),
    Bad("a layer twice", "--layers 0,0: layer list 0,0 names a layer twice.", "--layers 0,0"),
    Bad("layers in words", "--layers six: 'six' is neither a number nor a list such as 0,2,4.", "--layers six"),
    Bad(
        "an unknown selection",
        'Invalid value "middle" for --layer-selection. Choose from: "spaced", "alternate", "first", "last", "random-init", "auto".',
        "--layer-selection middle",
    ),
)

DATA = (
    Bad("no such data", "Data reviws/ does not exist.", "--data reviws/"),
    Bad("no data and no alias", "No data given, and none belongs to the teacher teacher.", "--data="),
    Bad(
        "a hub dataset without a hub",
        "HF_HUB_OFFLINE keeps the hub from being asked; someone/reviews was not downloaded before.",
        "--data someone/reviews",
    ),
    Bad(
        "an empty folder",
        "Folder reviews has no data file. It holds: nothing.",
        change=lambda world: [path.unlink() for path in (world / "reviews").iterdir()],
    ),
    Bad("an empty file", "reviews/train.csv is empty.", change=write("reviews/train.csv", "")),
    Bad(
        "a header and no rows",
        "reviews/train.csv has a header and no rows.",
        change=write("reviews/train.csv", "text,label\n"),
    ),
    Bad(
        "no label column",
        "reviews/train.csv: no label column. Its columns: 'text', 'verdict'.",
        change=reviews("text,verdict", "fine,1", "dull,0"),
    ),
    Bad(
        "a named column that is missing",
        "reviews/train.csv: no column 'verdict'. Its columns: 'text', 'label'.",
        "--label-column verdict",
    ),
    Bad(
        "one class",
        "All training rows of reviews have the label 'positive': there is nothing to tell apart.",
        change=reviews("text,label", *["a fine film,positive"] * 9),
    ),
    Bad(
        "a label that the teacher does not know",
        "reviews/train.csv, line 2: label 'positve' is unknown to the teacher, which has 'negative', 'positive'.",
        change=reviews("text,label", "fine,positve", "dull,negative"),
    ),
    Bad("no text", "reviews/train.csv: every text is empty.", change=reviews("text,label", ",positive", ",negative")),
    Bad(
        "another encoding",
        "reviews/train.csv, line 2, byte 4: 0xe9 is not valid utf-8.",
        change=write("reviews/train.csv", "text,label\ncaf\xe9,positive\n".encode("latin-1")),
    ),
    Bad(
        "JSON that breaks off",
        "more.jsonl, line 2, column 10: not valid JSON: Expecting value.",
        "--data more.jsonl",
        write("more.jsonl", '{"text": "fine", "label": 1}\n{"text": '),
    ),
    Bad("a spreadsheet", "more.xlsx is not a data file: .xlsx.", "--data more.xlsx", write("more.xlsx", b"PK")),
    Bad(
        "a damaged Parquet file",
        "more.parquet is not a readable Parquet file: Parquet file size is 4 bytes, smaller than the minimum file footer (8 bytes).",
        "--data more.parquet",
        write("more.parquet", b"PAR1"),
    ),
    Bad(
        "a score for a label",
        "reviews/train.csv: label 0.25 is a number with a fraction: a score, not a class.",
        change=reviews("text,label", "fine,0.5", "dull,0.25"),
    ),
)

RECIPE = (
    Bad("more than everything pruned", "--prune 1.5: input should be less than 1.", "--prune 1.5"),
    Bad("no threads", "--threads 0: input should be greater than 0.", "--threads 0"),
    Bad("more threads than cores", "--threads 4096: this process may use * core*.", "--threads 4096"),
    Bad("a word for a number", 'Invalid value for --epochs: unable to convert "many" into float.', "--epochs many"),
    Bad("an unknown flag", "Unknown option: --temprature. Did you mean --temperature?", "--temprature 2"),
    Bad("a flag without a value", "Parameter --output-dir requires an argument.", "--output-dir"),
    Bad("a teacher without its flag", "Not understood: bert-base.", "bert-base"),
    Bad("a number that is not whole", "Invalid value for --seed: 1.5 is not a whole number.", "--seed 1.5"),
    Bad(
        "a share beyond its range",
        "--validation-fraction 0.9: input should be less than 0.5.",
        "--validation-fraction 0.9",
    ),
    Bad(
        "nothing to learn from",
        "Recipe section distill: the weights of all losses are 0: there is nothing to learn from.",
        "--soft-weight 0 --hard-weight 0",
    ),
    Bad(
        "a layer that the teacher lacks",
        "--relation-layer 99: the teacher has no such layer.",
        "--relation-weight 1 --relation-layer 99 --dry-run",
    ),
    Bad(
        "standardised logits of two labels",
        "--standardize needs 3 labels or more; this teacher has 2.",
        "--standardize --dry-run",
    ),
    Bad("a recipe that is missing", "Recipe my.toml does not exist.", "--recipe my.toml"),
    Bad(
        "a recipe with a typo",
        "Unknown recipe key distill.temprature. Did you mean distill.temperature?",
        "--recipe my.toml",
        write("my.toml", "[distill]\ntemprature = 2\n"),
    ),
    Bad(
        "a recipe that is not TOML",
        "Recipe my.toml is not valid TOML: Expected ']' at the end of a table declaration (at line 1, column 9).",
        "--recipe my.toml",
        write("my.toml", "[distill\n"),
    ),
    Bad(
        "half precision without a GPU",
        "--precision fp16 was asked for, but this run trains on the CPU.",
        "--precision fp16",
    ),
    Bad("a GPU for training", "--device cuda was asked for, but torch * sees no CUDA device.", "--device cuda"),
    Bad("a GPU for measuring", "Provider cuda was asked for, but this onnxruntime has only *.", "--provider cuda"),
)

RUN = json.dumps({"format_version": 1, "default_model": "onnx/model.onnx", "files": {}, "teacher": {}})
OUTPUT = (
    Bad("a run is there", "Output folder out exists.", change=write("out/manifest.json", RUN)),
    Bad(
        "something else is there",
        "Output folder out exists, and is not a run: it has no manifest.json of compress.",
        "--overwrite",
        write("out/thesis.tex", "years of work"),
    ),
    Bad("a file is there", "Output folder out is a file.", change=write("out", "")),
    Bad(
        "a file is in the way",
        "Output folder file/out lies below file, which is a file.",
        "--output-dir file/out",
        write("file", ""),
    ),
    Bad(
        "a file is where the cache belongs",
        "Folder file/tokens cannot be written: Not a directory.",
        "--cache-dir file",
        write("file", ""),
    ),
    Bad("the current folder", "Output folder * is one that you are in.", "--output-dir ."),
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world in which everything is as it should be."""
    world = tmp_path_factory.mktemp("good")
    tiny.teacher_folder(world / "teacher")
    (world / "reviews").mkdir()
    for split in ("train", "validation", "test"):
        rows = [f"{text},{label}" for text, label in tiny.reviews(40, seed=len(split))]
        (world / f"reviews/{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return world


@pytest.fixture
def world(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(world: Path) -> dict[str, bytes]:
    """Every file and folder but the cache."""
    found = {path.relative_to(world): path for path in sorted(world.rglob("*"))}
    return {
        str(name): path.read_bytes() if path.is_file() else b""
        for name, path in found.items()
        if name.parts[0] != "cache"
    }


DEFAULTS = {"--teacher": "teacher", "--data": "reviews", "--cache-dir": "cache", "--output-dir": "out"}


def arguments(bad: Bad) -> list[str]:
    argv = shlex.split(bad.argv)
    given = {argument.partition("=")[0] for argument in argv}
    return [part for flag, value in DEFAULTS.items() if flag not in given for part in (flag, value)] + argv


def skip_with_gpu(bad: Bad) -> None:
    if "GPU" in bad.name and (torch.cuda.is_available() or "CUDAExecutionProvider" in get_available_providers()):
        pytest.skip("this machine has a GPU")


def test_a_teacher_without_a_head_is_held_to_the_same(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.teacher_folder(world / "bare", kind="fill-mask")
    flags = "--teacher bare --task text-classification --relation-weight 1 --relation-layer 99"
    assert main([*arguments(Bad("", "", flags)), "--dry-run"]) == 2
    assert "--relation-layer 99: the teacher has no such layer." in capsys.readouterr().err
    assert main(arguments(Bad("", "", "--teacher bare --task text-classification --standardize"))) == 2
    err = capsys.readouterr().err
    assert "--standardize needs 3 labels or more; this teacher has 2." in err
    assert "fine-tune" not in err


def test_a_family_without_heads_to_cut_is_refused_by_the_plan(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.teacher_folder(world / "other", "mobilebert")
    for flags in ("--prune-heads 0.5", "--prune-ffn 0.5", "--target-speedup 9"):
        assert main([*arguments(Bad("", "", f"--teacher other {flags}")), "--dry-run"]) == 2
        assert "Heads and neurons of 'mobilebert' models cannot be pruned" in capsys.readouterr().err


def test_what_only_the_training_would_refuse_is_refused_by_the_plan(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(Bad("", "", "--relation-weight 1 --relation-heads 7")), "--dry-run"]) == 2
    assert "--relation-heads 7 does not divide the width 32 of teacher and student." in capsys.readouterr().err
    tiny_tokenizers.teacher_folder(world / "pieces", "WordPiece")
    (world / "texts").mkdir()
    (world / "texts" / "a.txt").write_text("fine\n", encoding="utf-8")
    (world / "texts" / "b.txt").write_bytes(b"\xff\xfe")
    assert main([*arguments(Bad("", "", "--teacher pieces --layers 1 --trim-vocab texts")), "--dry-run"]) == 2
    assert "b.txt cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [*TEACHER, *LAYERS, *DATA, *RECIPE, *OUTPUT], ids=lambda bad: bad.name)
def test_bad_input_is_refused_in_words_and_leaves_nothing(
    bad: Bad, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_with_gpu(bad)
    bad.change(world)
    before = listing(world)
    assert main(arguments(bad)) == 2
    out, err = capsys.readouterr()
    bad.check(err, world)
    assert out == ""
    assert listing(world) == before


PREDICT = (
    Bad("no folder", "nowhere is not a folder.", "nowhere fine"),
    Bad("a folder without a manifest", "teacher has no manifest.json.", "teacher fine"),
    Bad("a missing model", "run/onnx/model.onnx is missing.", "run fine", remove("run/onnx/model.onnx")),
    Bad(
        "a flipped byte",
        "run/onnx/model.onnx is damaged: its sha256 is not the one in the manifest.",
        "run fine",
        flip("run/onnx/model.onnx"),
    ),
    Bad(
        "a flipped byte of the tokenizer",
        "run/tokenizer.json is damaged: its sha256 is not the one in the manifest.",
        "run fine",
        flip("run/tokenizer.json"),
    ),
    Bad(
        "a manifest cut short",
        "run/manifest.json cannot be read: Expecting value: line 1 column 10 (char 9).",
        "run fine",
        write("run/manifest.json", '{"task": '),
    ),
    Bad(
        "a manifest of a later format",
        "run/manifest.json has format_version 9; this compressor reads 1.",
        "run fine",
        edit("run/manifest.json", format_version=9),
    ),
    Bad("a precision that is not there", "run has no model 'int4'.", "run fine --model int4"),
    Bad(
        "a GPU",
        "The cuda provider was asked for, but this onnxruntime * was built with * only.",
        "run fine --provider cuda",
    ),
    Bad("no threads", "0 threads cannot run a model.", "run fine --threads 0"),
)


@pytest.mark.parametrize("bad", PREDICT, ids=lambda bad: bad.name)
def test_a_folder_that_cannot_predict_is_refused_in_words(
    bad: Bad, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skip_with_gpu(bad)
    deployed.write(world / "run")
    bad.change(world)
    assert main(["predict", *shlex.split(bad.argv)]) == 2
    out, err = capsys.readouterr()
    bad.check(err, world)
    assert out == ""


def run(world: Path, argv: list[str], stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "compressor", *argv],
        input=stdin, cwd=world, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True,
        check=False,
    )  # fmt: skip


def test_standard_input_that_is_not_utf_8_is_refused_with_its_line(world: Path) -> None:
    deployed.write(world / "run")
    done = run(world, ["predict", "run"], "good\ncaf\xe9\n".encode("latin-1"))
    assert (done.returncode, [line.split(b"\t")[-1] for line in done.stdout.splitlines()]) == (2, [b"good"])
    assert done.stderr.decode().splitlines() == [
        "error: Line 2 of standard input is not UTF-8.", "       Convert the input to UTF-8."
    ]  # fmt: skip


def test_a_process_ends_with_code_2_and_says_nothing_but_the_message(world: Path) -> None:
    done = run(world, ["--teacher", "teacher", "--layers", "2,2"])
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"error: --layers 2,2: layer list 2,2 names a layer twice.\n"


def test_a_hub_that_cannot_be_reached_says_what_to_do(world: Path) -> None:
    with Hub() as hub:
        pass
    done = subprocess.run(
        [sys.executable, "-m", "compressor", "--teacher", "bert-base"],
        cwd=world, env=hub.environment(world / "home", PYTHONPATH=str(ROOT)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [
        f"error: The hub at {hub.url} cannot be reached; google-bert/bert-base-uncased was not downloaded before.",
        "       Check the network and the proxy (HTTPS_PROXY), set HF_ENDPOINT to a mirror, or download the model "
        "elsewhere and give its folder to --teacher.",
    ]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    ],
)
def test_a_disk_that_fills_up_is_a_users_error(
    error: Exception, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("compressor.data.tokens._write", fail)
    assert main(arguments(Bad("", ""))) == 2
    _, err = capsys.readouterr()
    Bad("", "No space left on the disk of cache.").check(err, world)
    assert "Free some and give the same command again: it continues. Or choose another --cache-dir." in err
    assert list((world / "cache/tokens").iterdir()) == []
