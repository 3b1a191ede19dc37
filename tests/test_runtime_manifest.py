"""The manifest is the contract between the toolkit and production: what it lets through, and what not."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from compressor.errors import ManifestError
from compressor.runtime.manifest import locate, read_manifest, verify, write_manifest
from compressor.tasks import TASKS, Kind

from . import deployed, deployed_tasks

AGAIN = "Download or copy the folder again."


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployed.write(tmp_path_factory.mktemp("runtime") / "run")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def test_a_manifest_is_read_as_it_was_written(folder: Path) -> None:
    manifest = read_manifest(folder)
    write_manifest(folder, manifest)
    assert read_manifest(folder) == manifest
    assert manifest.labels == deployed.LABELS
    assert manifest.files["onnx/model_quantized.onnx"].precision == "int8"


def test_label_names_keep_their_script(folder: Path) -> None:
    deployed.edit(folder, labels=["差评", "好评"])
    write_manifest(folder, read_manifest(folder))
    assert "好评" in (folder / "manifest.json").read_text(encoding="utf-8")
    assert read_manifest(folder).labels == ("差评", "好评")


def test_keys_of_a_later_version_are_passed_over(folder: Path) -> None:
    assert read_manifest(deployed.edit(folder, temperature=1.5)) == read_manifest(folder)


def test_an_intact_folder_is_verified(folder: Path) -> None:
    verify(folder, read_manifest(folder))


def fails(folder: Path, names: list[str] | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        verify(folder, read_manifest(folder), names)
    return str(caught.value).replace(str(folder), "DIR")


def test_a_flipped_byte_is_named(folder: Path) -> None:
    deployed.damage(folder / "onnx/model.onnx")
    assert fails(folder) == f"DIR/onnx/model.onnx is damaged: its sha256 is not the one in the manifest.\n{AGAIN}"


def test_a_truncated_file_is_named_with_its_sizes(folder: Path) -> None:
    size = (folder / "tokenizer.json").stat().st_size
    (folder / "tokenizer.json").write_bytes(b"{}")
    assert fails(folder) == (
        f"DIR/tokenizer.json is damaged: it has 2 bytes where the manifest says {size:,}.\n{AGAIN}"
    )


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "onnx/model.onnx").unlink()
    assert fails(folder) == f"DIR/onnx/model.onnx is missing.\n{AGAIN}"


def test_a_file_that_is_not_listed_is_not_trusted(folder: Path) -> None:
    (folder / "other.onnx").write_bytes(b"x")
    assert fails(folder, ["other.onnx"]) == f"DIR/manifest.json does not list other.onnx.\n{AGAIN}"


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    assert fails(folder).startswith("DIR/tokenizer.json leads out of the folder, to ")


def test_the_links_of_a_hub_snapshot_are_followed(original: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--me--reviews/snapshots/abc", tmp_path / "models--me--reviews/blobs"
    blobs.mkdir(parents=True)
    for index, path in enumerate(path for path in original.rglob("*") if path.is_file()):
        link = snapshot / path.relative_to(original)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / str(index))
        link.symlink_to(os.path.relpath(blobs / str(index), link.parent))
    verify(snapshot, read_manifest(snapshot))


def test_a_file_found_in_the_folder_is_located(folder: Path) -> None:
    assert locate(folder, "onnx/model.onnx") == folder / "onnx/model.onnx"


def test_a_manifest_of_before_the_other_kinds_is_a_single_label_one(folder: Path) -> None:
    manifest = read_manifest(deployed.edit(folder, kind=None, outputs=None, settings=None))
    assert (manifest.kind, manifest.outputs, manifest.settings) == ("single-label", ("logits",), {})


@pytest.mark.parametrize("kind", [kind for kind, task in TASKS.items() if task.problem_type is None])
def test_a_task_of_one_kind_names_it(kind: Kind, tmp_path: Path) -> None:
    manifest = read_manifest(deployed.edit(deployed_tasks.write(tmp_path, kind), kind=None, outputs=None))
    assert (manifest.kind, manifest.outputs) == (kind, TASKS[kind].outputs)


def test_settings_of_a_later_version_are_passed_over(folder: Path) -> None:
    assert read_manifest(deployed.edit(folder, settings={"margin": "?"})).settings == {"margin": "?"}


def test_a_task_of_a_later_version_can_be_read(folder: Path) -> None:
    manifest = read_manifest(deployed.edit(folder, task="summarization", kind=None, outputs=None))
    assert (manifest.task, manifest.kind) == ("summarization", "")


@pytest.mark.parametrize("kind", ["regression", "question-answering", "fill-mask", "feature-extraction"])
def test_tasks_without_names_need_no_labels(kind: Kind, tmp_path: Path) -> None:
    assert read_manifest(deployed.edit(deployed_tasks.write(tmp_path, kind), labels=[])).labels == ()


BAD_SETTINGS: dict[str, tuple[Kind, dict[str, Any], str]] = {
    "too few thresholds": (
        "multi-label", {"thresholds": [0.5, 0.5]},
        "thresholds is [0.5, 0.5] where a number from 0 to 1 for each label belongs",
    ),
    "a threshold above 1": (
        "multi-label", {"thresholds": [0.5, 0.5, 1.5]},
        "thresholds is [0.5, 0.5, 1.5] where a number from 0 to 1 for each label belongs",
    ),
    "a threshold that is none": (
        "multi-label", {"thresholds": [0.5, True, None]},
        "thresholds is [0.5, True, None] where a number from 0 to 1 for each label belongs",
    ),
    "pairs of another type": ("single-label", {"pairs": 1}, "pairs is 1 where true or false belongs"),
    "a negative stride": (
        "question-answering", {"doc_stride": -1}, "doc_stride is -1 where a number of tokens belongs"
    ),
    "no answer tokens": (
        "question-answering", {"max_answer_tokens": 0}, "max_answer_tokens is 0 where a number of at least 1 belongs"
    ),
    "no answer of another type": (
        "question-answering", {"null_score": 0.5}, "null_score is 0.5 where true or false belongs"
    ),
    "no mask": ("fill-mask", {}, "mask_token_id is not there"),
    "a mask that is true": ("fill-mask", {"mask_token_id": True}, "mask_token_id is True where a token id belongs"),
    "another scheme": (
        "token-classification", {"scheme": "BIO2"}, "scheme is 'BIO2' where one of prefixed, plain, each belongs"
    ),
    "no pooling": ("feature-extraction", {"pooling": ""}, "pooling is '' where a name belongs"),
    "no dimension": (
        "feature-extraction", {"dimension": 0}, "dimension is 0 where a number of at least 1 belongs"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_settings_that_are_out_of_range_are_explained(name: str, tmp_path: Path) -> None:
    kind, settings, message = BAD_SETTINGS[name]
    with pytest.raises(ManifestError) as caught:
        read_manifest(deployed.edit(deployed_tasks.write(tmp_path, kind), settings=settings))
    assert str(caught.value).replace(str(tmp_path), "DIR") == f"DIR/manifest.json: {message}.\n{AGAIN}"


FILE = {"sha256": "0", "size_bytes": 1}
OUTSIDE = "DIR/manifest.json names a file outside the folder: {!r}.\nDo not use this folder."
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another format": (
        {"format_version": 2},
        "DIR/manifest.json has format_version 2; this compressor reads 1.\n"
        "Install the compressor that wrote it, or a newer one.",
    ),
    "no format": ({"format_version": None}, f"DIR/manifest.json has no format_version.\n{AGAIN}"),
    "format of another type": (
        {"format_version": True},
        f"DIR/manifest.json: format_version is True where a number belongs.\n{AGAIN}",
    ),
    "no labels": ({"labels": None}, f"DIR/manifest.json has no labels.\n{AGAIN}"),
    "empty labels": (
        {"labels": []},
        f"DIR/manifest.json: labels must be distinct names, at least one; it is [].\n{AGAIN}",
    ),
    "repeated labels": (
        {"labels": ["a", "a"]},
        f"DIR/manifest.json: labels must be distinct names, at least one; it is ['a', 'a'].\n{AGAIN}",
    ),
    "labels that are not text": (
        {"labels": [0, 1]},
        f"DIR/manifest.json: labels must be distinct names, at least one; it is [0, 1].\n{AGAIN}",
    ),
    "labels of another type": ({"labels": "ab"}, f"DIR/manifest.json: labels is 'ab' where a list belongs.\n{AGAIN}"),
    "a length of none": ({"max_length": 0}, f"DIR/manifest.json: max_length is 0.\n{AGAIN}"),
    "an unknown side": (
        {"truncation_side": "middle"},
        f"DIR/manifest.json: truncation_side is 'middle' where right or left belongs.\n{AGAIN}",
    ),
    "settings of another type": (
        {"settings": []},
        f"DIR/manifest.json: settings is [] where an object belongs.\n{AGAIN}",
    ),
    "too many outputs": (
        {"outputs": ["logits", "more"]},
        f"DIR/manifest.json: outputs are logits, more where 1 answer single-label.\n{AGAIN}",
    ),
    "a negative padding": ({"pad_token_id": -1}, f"DIR/manifest.json: pad_token_id is -1.\n{AGAIN}"),
    "a default that is not listed": (
        {"default_model": "onnx/other.onnx"},
        f"DIR/manifest.json: default_model 'onnx/other.onnx' is not among its files.\n{AGAIN}",
    ),
    "a file without a checksum": (
        {"files": {"a.onnx": {"size_bytes": 1}}},
        f"DIR/manifest.json has no sha256.\n{AGAIN}",
    ),
    "a file that is no object": (
        {"files": {"a.onnx": 3}},
        f"DIR/manifest.json: files['a.onnx'] is 3 where an object belongs.\n{AGAIN}",
    ),
    "an absolute path": ({"files": {"/etc/passwd": FILE}}, OUTSIDE.format("/etc/passwd")),
    "a path upwards": ({"files": {"onnx/../../x": FILE}}, OUTSIDE.format("onnx/../../x")),
    "a drive": ({"files": {"C:/x": FILE}}, OUTSIDE.format("C:/x")),
    "a backslash": ({"files": {"..\\x": FILE}}, OUTSIDE.format("..\\x")),
    "an empty path": ({"files": {"": FILE}}, OUTSIDE.format("")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_manifest_is_explained(name: str, folder: Path) -> None:
    changes, message = BAD[name]
    with pytest.raises(ManifestError) as caught:
        read_manifest(deployed.edit(folder, **changes))
    assert str(caught.value).replace(str(folder), "DIR") == message


def test_a_folder_without_a_manifest_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no manifest.json.\nName a folder that compress has written, as in exported/reviews."
    )


def test_a_missing_folder_is_told_from_one_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nowhere is not a folder\."):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_explained(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.json cannot be read: "):
        read_manifest(tmp_path)


def test_a_manifest_that_is_a_list_is_explained(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(ManifestError, match=r"holds \[1\] where an object belongs"):
        read_manifest(tmp_path)
