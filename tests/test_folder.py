"""A run folder is whole or not there, and what is in it loads everywhere."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from compressor.architectures import architecture_of
from compressor.artifacts import ExportedModel, QuantizedModel, Teacher
from compressor.errors import OutputError, StageError, TeacherError
from compressor.folder import check_output, staging, write_manifest, write_ort_config, write_student
from compressor.pooling import Pooling, read_pooling
from compressor.runtime import Predictor, read_manifest, verify
from compressor.tasks import TASKS, Kind

from . import deployed, tiny


def run(place: Path, text: str = "old") -> Path:
    """A folder that counts as an earlier run."""
    place.mkdir(parents=True)
    parts = {"format_version": 1, "default_model": "onnx/model.onnx", "files": {}, "teacher": {}}
    (place / "manifest.json").write_text(json.dumps({**parts, "created": text}))
    return place


def content(folder: Path) -> dict[str, str]:
    texts = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: json.loads(text)["created"] if text.startswith("{") else text for name, text in texts.items()}


# --- what stands in the way -----------------------------------------------------------------


def refusal(place: Path, tmp_path: Path, **options: Any) -> str:
    before = content(tmp_path)
    with pytest.raises(OutputError) as caught:
        check_output(place, **options)
    with pytest.raises(OutputError) as again, staging(place, **options):
        raise AssertionError("the block must not run")
    assert str(again.value) == str(caught.value)
    assert content(tmp_path) == before
    return str(caught.value).replace(str(tmp_path), "TMP")


def test_an_existing_run_needs_overwrite(tmp_path: Path) -> None:
    assert refusal(run(tmp_path / "run"), tmp_path) == (
        "Output folder TMP/run exists.\nReplace the run in it with --overwrite, or choose another --output-dir."
    )


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_not_a_run_is_never_replaced(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("years of work")
    assert refusal(tmp_path / "thesis", tmp_path, overwrite=overwrite) == (
        "Output folder TMP/thesis exists, and is not a run: it has no manifest.json of compress.\n"
        "Choose another --output-dir; --overwrite replaces only what compress has written."
    )


@pytest.mark.parametrize("manifest", ['{"manifest_version": 3, "created": "mine"}', "[1]", "not JSON"])
def test_a_manifest_of_something_else_makes_no_run(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension/manifest.json").write_text(manifest)
    assert "is not a run: it has no manifest.json of compress." in refusal(
        tmp_path / "extension", tmp_path, overwrite=True
    )


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert refusal(tmp_path / "run", tmp_path) == (
        "Output folder TMP/run is a file.\nChoose another --output-dir, or remove the file."
    )


def test_a_file_above_is_named(tmp_path: Path) -> None:
    (tmp_path / "exported").write_text("")
    assert refusal(tmp_path / "exported/a/run", tmp_path) == (
        "Output folder TMP/exported/a/run lies below TMP/exported, which is a file.\nChoose another --output-dir."
    )


def test_a_place_that_cannot_be_written_is_found_by_trying(tmp_path: Path) -> None:
    # /proc refuses new folders to everyone, root included.
    assert refusal(Path("/proc/exported/run"), tmp_path).startswith(
        "Output folder /proc/exported/run cannot be written: "
    )


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert "cannot be written: File name too long." in refusal(tmp_path / ("x" * 300), tmp_path)


def test_a_disk_that_is_too_small_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 2 * 10**6))  # type: ignore[attr-defined]
    assert refusal(tmp_path / "run", tmp_path, bytes_needed=450 * 10**6) == (
        "The disk of TMP/run has 2 MB free; the run needs about 450 MB.\nFree some, or choose another --output-dir."
    )


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_folder_that_one_is_in_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OutputError, match="is one that you are in"):
        check_output(Path(name), overwrite=True)


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_output(tmp_path / "exported/run")
    assert list(tmp_path.iterdir()) == []


# --- into place -----------------------------------------------------------------------------


def test_a_finished_run_is_moved_into_place(tmp_path: Path) -> None:
    place = tmp_path / "exported/run"
    with staging(place) as stage:
        assert stage.parent == place.parent
        (stage / "onnx").mkdir()
        (stage / "onnx/model.onnx").write_text("new")
        assert not place.exists()
    assert content(tmp_path) == {"exported/run/onnx/model.onnx": "new"}


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with staging(tmp_path / "run") as stage:
        (stage / "a").write_text("new")
    assert content(tmp_path) == {"run/a": "new"}


def test_the_folder_is_as_open_as_any_new_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with staging(tmp_path / "run"):
        pass
    assert (tmp_path / "run").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_overwriting_replaces_the_old_run_whole(tmp_path: Path) -> None:
    run(tmp_path / "run").joinpath("stale").write_text("old")
    with staging(tmp_path / "run", overwrite=True) as stage:
        (stage / "manifest.json").write_text("new")
        assert content(tmp_path / "run") == {"manifest.json": "old", "stale": "old"}
    assert content(tmp_path) == {"run/manifest.json": "new"}


def test_a_link_to_a_folder_is_kept(tmp_path: Path) -> None:
    run(tmp_path / "first")
    (tmp_path / "latest").symlink_to(tmp_path / "first")
    with staging(tmp_path / "latest", overwrite=True) as stage:
        (stage / "manifest.json").write_text("new")
    assert (tmp_path / "latest").is_symlink()
    assert content(tmp_path / "first") == {"manifest.json": "new"}


def _write_half(stage: Path, error: type[BaseException]) -> None:
    (stage / "manifest.json").write_text("half")
    raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failed_run_leaves_the_old_one_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(error), staging(tmp_path / "run", overwrite=True) as stage:
        _write_half(stage, error)
    assert content(tmp_path) == {"run/manifest.json": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        # what safetensors raises
        Exception('Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space" }'),
        # what torch raises
        RuntimeError(
            "[enforce fail at inline_container.cc:862] . PytorchStreamWriter failed writing file data/0: file write failed"
        ),
    ],
)
def test_a_full_disk_is_explained(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, staging(tmp_path / "run"):
        raise error
    assert str(caught.value) == (
        f"No space left on the disk of {tmp_path / 'run'}.\n"
        "Free some and give the same command again: it continues. Or choose another --output-dir."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"exists\.\n"), staging(tmp_path / "run"):
        run(tmp_path / "run", "another")
    assert content(tmp_path) == {"run/manifest.json": "another"}


def test_the_old_run_comes_back_where_the_swap_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = run(tmp_path / "run")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"), staging(place, overwrite=True) as stage:
        (stage / "manifest.json").write_text("new")
    assert content(tmp_path) == {"run/manifest.json": "old"}


KILLED = """
import sys, time
from pathlib import Path
from compressor.staging import staging
with staging(Path(sys.argv[1]), overwrite=True) as stage:
    (stage / "half").write_text("half")
    print(stage, flush=True)
    time.sleep(60)
"""


def killable(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_run_left_is_cleared_by_the_next_and_a_living_one_is_spared(tmp_path: Path) -> None:
    dead, left = killable(run(tmp_path / "run"))
    alive, spared = killable(tmp_path / "run")
    try:
        dead.send_signal(signal.SIGKILL)
        dead.communicate()
        assert left.is_dir()
        assert content(tmp_path / "run") == {"manifest.json": "old"}
        with staging(tmp_path / "run", overwrite=True) as stage:
            (stage / "manifest.json").write_text("new")
        assert not left.exists()
        assert content(spared) == {"half": "half"}
    finally:
        alive.kill()
        alive.communicate()


def test_a_run_killed_in_the_middle_of_the_swap_is_put_back(tmp_path: Path) -> None:
    run(tmp_path / ".run.replaced-123")
    with pytest.raises(RuntimeError), staging(tmp_path / "run", overwrite=True) as stage:
        _write_half(stage, RuntimeError)
    assert content(tmp_path) == {"run/manifest.json": "old"}


def test_a_run_replaced_and_not_yet_removed_is_cleared(tmp_path: Path) -> None:
    run(tmp_path / ".run.replaced-123")
    run(tmp_path / "run", "new")
    run(tmp_path / ".running.replaced-123")
    with pytest.raises(OutputError), staging(tmp_path / "run"):
        pass
    assert content(tmp_path) == {"run/manifest.json": "new", ".running.replaced-123/manifest.json": "old"}


# --- content --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    model = tiny.model("bert", labels=deployed.LABELS)
    return Teacher(
        name="bert-base", path=tmp_path_factory.mktemp("teacher"), model=model, tokenizer=tiny.tokenizer("bert"),
        architecture=architecture_of(model.config), labels=deployed.LABELS, max_length=64, fingerprint="f" * 64,
        fine_tuned=False,
    )  # fmt: skip


INPUTS = ("input_ids", "attention_mask")


def exported(folder: Path) -> ExportedModel:
    path = deployed.save_classifier(folder / "onnx/model.onnx")
    return ExportedModel(path=path, input_names=INPUTS, opset=18, fusions=(), parity=())


def quantized(folder: Path, weight_type: str = "int8 per channel") -> QuantizedModel:
    path = deployed.save_classifier(folder / "onnx/model_quantized.onnx", scale=2)
    return QuantizedModel(
        path=path, target="avx2", weight_type=weight_type, quantized=1, expected=1, agreement=1.0,
        max_abs_difference=0.0,
    )  # fmt: skip


def test_the_student_loads_in_transformers(teacher: Teacher, tmp_path: Path) -> None:
    write_student(tmp_path, teacher.model, teacher.tokenizer, teacher.max_length)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    encoded = AutoTokenizer.from_pretrained(tmp_path)(["a fine film"], return_tensors="pt")
    expected = teacher.model(**teacher.tokenizer(["a fine film"], return_tensors="pt")).logits
    assert loaded(**encoded).logits.equal(expected)
    assert loaded.config.id2label == dict(enumerate(deployed.LABELS))
    assert (tmp_path / "model.safetensors").is_file()


def test_the_saved_length_is_what_the_model_takes(teacher: Teacher, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = int(1e30)
    write_student(tmp_path, teacher.model, tokenizer, 62)
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 62
    assert tokenizer.model_max_length == int(1e30)


def test_the_tokenizer_file_does_not_depend_on_its_last_call(teacher: Teacher, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer(["a fine film"], padding="max_length", truncation=True, max_length=7)
    write_student(tmp_path, teacher.model, tokenizer, 64)
    saved = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert (saved["truncation"], saved["padding"]) == (None, None)


def test_the_tokenizer_config_is_one_that_transformers_4_reads_too(teacher: Teacher, tmp_path: Path) -> None:
    write_student(tmp_path, teacher.model, tiny.tokenizer(), 64)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not {"is_local", "local_files_only"} & saved.keys()


def test_a_tokenizer_without_a_fast_form_is_explained(teacher: Teacher, tmp_path: Path) -> None:
    class SlowTokenizer:
        def save_pretrained(self, folder: Path) -> None:
            (folder / "vocab.txt").write_text("a")

    with pytest.raises(TeacherError, match=r"^The tokenizer SlowTokenizer has no fast form, so no tokenizer\.json"):
        write_student(tmp_path, teacher.model, SlowTokenizer(), 64)  # type: ignore[arg-type]


def test_a_written_folder_is_verified_and_deployed(teacher: Teacher, tmp_path: Path) -> None:
    with staging(tmp_path / "run") as stage:
        model, small = exported(stage), quantized(stage)
        write_student(stage, teacher.model, teacher.tokenizer, teacher.max_length)
        write_ort_config(stage, model, small)
        (stage / "report").mkdir()
        (stage / "report/report.json").write_text("{}")
        written = write_manifest(stage, teacher=teacher, exported=model, max_length=32, quantized=small)
    manifest = read_manifest(tmp_path / "run")
    verify(tmp_path / "run", manifest)
    assert manifest == written
    assert Predictor(tmp_path / "run", threads=1)("fine superb lovely")[0].label == "positive"


def test_the_manifest_lists_every_file_and_what_is_in_it(teacher: Teacher, tmp_path: Path) -> None:
    model, small = exported(tmp_path), quantized(tmp_path)
    write_student(tmp_path, teacher.model, teacher.tokenizer, teacher.max_length)
    manifest = write_manifest(tmp_path, teacher=teacher, exported=model, max_length=32, quantized=small)
    assert set(manifest.files) == {
        "config.json", "model.safetensors", "onnx/model.onnx", "onnx/model_quantized.onnx", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    assert {name: (entry.precision, entry.target) for name, entry in manifest.files.items() if entry.precision} == {
        "model.safetensors": ("fp32", None),
        "onnx/model.onnx": ("fp32", None),
        "onnx/model_quantized.onnx": ("int8", "avx2"),
    }
    assert manifest.default_model == "onnx/model_quantized.onnx"
    assert (manifest.labels, manifest.inputs, manifest.max_length) == (deployed.LABELS, INPUTS, 32)
    assert (manifest.pad_token_id, manifest.teacher.name, manifest.teacher.fingerprint) == (0, "bert-base", "f" * 64)
    assert {"torch", "transformers", "onnxruntime"} <= set(manifest.versions)


def test_the_manifest_says_on_which_side_the_teachers_tokenizer_cuts(teacher: Teacher, tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.truncation_side = "left"
    facts = {"exported": exported(tmp_path), "max_length": 32}
    write_student(tmp_path, teacher.model, tokenizer, teacher.max_length)
    write_manifest(tmp_path, teacher=replace(teacher, tokenizer=tokenizer), **facts)
    assert read_manifest(tmp_path).truncation_side == "left"


def test_without_int8_the_fp32_model_is_the_default(teacher: Teacher, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, teacher=teacher, exported=exported(tmp_path), max_length=32)
    assert manifest.default_model == "onnx/model.onnx"


SETTINGS: dict[Kind, dict[str, Any]] = {
    "token-classification": {"doc_stride": 128, "scheme": "prefixed"},
    "question-answering": {"doc_stride": 128, "max_answer_tokens": 30, "null_score": False},
    "fill-mask": {"mask_token_id": 4},
    "feature-extraction": {"pooling": "mean", "normalize": True, "dimension": 32},
}


def of_kind(teacher: Teacher, kind: Kind) -> Teacher:
    model = tiny.model("bert", kind=kind)
    return replace(teacher, model=model, task=TASKS[kind], labels=tiny.LABELS.get(kind, ()))


@pytest.mark.parametrize("kind", TASKS)
def test_the_manifest_of_every_kind_says_how_it_is_run(teacher: Teacher, tmp_path: Path, kind: Kind) -> None:
    source = of_kind(teacher, kind)
    write_student(tmp_path, source.model, source.tokenizer, 48)
    written = write_manifest(tmp_path, teacher=source, exported=exported(tmp_path), max_length=32)
    assert written == read_manifest(tmp_path)
    assert (written.task, written.kind, written.outputs) == (TASKS[kind].name, kind, TASKS[kind].outputs)
    assert written.settings == SETTINGS.get(kind, {})
    assert written.labels == tiny.LABELS.get(kind, ())


def test_what_data_and_evaluation_know_goes_into_the_manifest(teacher: Teacher, tmp_path: Path) -> None:
    facts = {"exported": exported(tmp_path), "max_length": 32}
    settings = {"pairs": True, "thresholds": [0.5, 0.25, 1.0]}
    write_manifest(tmp_path, teacher=of_kind(teacher, "multi-label"), settings=settings, **facts)
    assert read_manifest(tmp_path).settings == settings
    write_manifest(tmp_path, teacher=of_kind(teacher, "question-answering"), settings={"null_score": True}, **facts)
    assert read_manifest(tmp_path).settings == {**SETTINGS["question-answering"], "null_score": True}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": [0.5]}, "thresholds is [0.5] where a number from 0 to 1 for each label belongs."),
        ({"doc_stride": 64}, "doc_stride is not a setting of multi-label."),
    ],
)
def test_a_setting_that_no_reader_would_take_is_not_written(
    teacher: Teacher, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(StageError) as caught:
        write_manifest(
            tmp_path, teacher=of_kind(teacher, "multi-label"), exported=exported(tmp_path), max_length=32,
            settings=settings,
        )  # fmt: skip
    assert str(caught.value) == f"The manifest cannot be written: {message}"


def test_a_sentence_encoder_is_written_as_sentence_transformers_reads_it(teacher: Teacher, tmp_path: Path) -> None:
    write_student(tmp_path, of_kind(teacher, "feature-extraction").model, teacher.tokenizer, 48)
    assert read_pooling(tmp_path) == Pooling("mean", normalize=True, max_length=48)
    assert json.loads((tmp_path / "1_Pooling/config.json").read_text())["word_embedding_dimension"] == 32
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length == 48


@pytest.mark.parametrize(
    ("weight_type", "expected"),
    [
        ("int8 per channel", ("QInt8", True, False)),
        ("uint8 per channel", ("QUInt8", True, False)),
        ("int8 per tensor", ("QInt8", False, False)),
        ("7-bit int8 per channel", ("QInt8", True, True)),
    ],
)
def test_the_ort_config_has_optimums_words(weight_type: str, expected: tuple[str, bool, bool], tmp_path: Path) -> None:
    write_ort_config(tmp_path, exported(tmp_path), quantized(tmp_path, weight_type))
    written = json.loads((tmp_path / "ort_config.json").read_text())
    assert list(written) == ["opset", "use_external_data_format", "one_external_file", "optimization", "quantization"]
    found = written["quantization"]
    assert (found["weights_dtype"], found["per_channel"], found["reduce_range"]) == expected


def test_the_ort_config_of_an_fp32_run_has_no_quantization(tmp_path: Path) -> None:
    write_ort_config(tmp_path, exported(tmp_path))
    assert json.loads((tmp_path / "ort_config.json").read_text())["quantization"] == {}
