"""``manifest.json``: the contract between the toolkit and what runs its models.

Keys that this version does not know are passed over, so that later versions may add some;
``format_version`` changes only where an old reader would be wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from compressor.errors import ManifestError
from compressor.runtime.settings import fault
from compressor.tasks import TASKS, Task, kinds_of

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"

_AGAIN = "Download or copy the folder again."
_T = TypeVar("_T")


@dataclass(frozen=True)
class FileEntry:
    """One file of the folder.

    Attributes:
        sha256: Of its content, in hexadecimal.
        size_bytes: Its size.
        precision: Of the weights in it, as in ``fp32`` or ``int8``; ``None`` where it holds none.
        target: Instruction set that its int8 weights were chosen for.
        targets: Instruction set or provider to ``verified``, ``believed`` or ``doubted``, and why; empty where it does
            not matter or is not known.
        temperature: What its logits are divided by, on request, so that a score says how often the label
            is right (Guo et al. 2017); ``None`` where none was fitted.
    """

    sha256: str
    size_bytes: int
    precision: str | None = None
    target: str | None = None
    temperature: float | None = None
    targets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TeacherEntry:
    """The model that was compressed: its name and the sha256 of its weights and config."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """Everything that is needed to run the model, and what it was made from.

    Attributes:
        task: Named as transformers pipelines name it.
        labels: In the order of the logits; empty where the task has none.
        inputs: Inputs of the ONNX model, in its order.
        max_length: Longest sequence in tokens, special tokens included; longer texts are truncated.
        pad_token_id: Fills ``input_ids`` up to the length of the batch.
        default_model: The ONNX file that is run unless another is asked for.
        files: Every file of the folder but this one, by its path with forward slashes.
        versions: Of the packages that made the folder.
        teacher: What was compressed.
        created: ISO 8601, UTC.
        truncation_side: Which end of a longer text is cut off, ``right`` or ``left``.
        kind: Of the task, as in ``compressor.tasks``; empty for a task that this version does not know.
        outputs: Outputs of the ONNX model that answer the task, in the task's order.
        settings: What else the kind of task needs to know: see ``compressor.runtime.settings``.
    """

    task: str
    labels: tuple[str, ...]
    inputs: tuple[str, ...]
    max_length: int
    pad_token_id: int
    default_model: str
    files: Mapping[str, FileEntry]
    teacher: TeacherEntry
    created: str
    versions: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    truncation_side: str = "right"
    kind: str = "single-label"
    outputs: tuple[str, ...] = ("logits",)
    settings: Mapping[str, Any] = field(default_factory=dict)


def describe_file(
    path: Path,
    precision: str | None = None,
    target: str | None = None,
    temperature: float | None = None,
    targets: Mapping[str, str] | None = None,
) -> FileEntry:
    """Measure a file for the manifest."""
    return FileEntry(_sha256(path), path.stat().st_size, precision, target, temperature, targets or {})


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write ``manifest.json`` and return its path."""
    path = folder / MANIFEST
    path.write_text(json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_manifest(folder: Path) -> Manifest:
    """Read and validate the manifest of a folder; the files themselves are left to ``verify``.

    Raises:
        ManifestError: There is no manifest, or it is malformed, of another format, or names a path
            outside the folder.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "has no manifest.json" if folder.is_dir() else "is not a folder"
        raise ManifestError(
            f"{folder} {what}.", "Name a folder that compress has written, as in exported/reviews."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestError(f"{path} cannot be read: {error}.", _AGAIN) from None
    if not isinstance(content, dict):
        raise ManifestError(f"{path} holds {_named(content)} where an object belongs.", _AGAIN)
    version = _take(content, "format_version", int, path)
    if version != FORMAT_VERSION:
        raise ManifestError(
            f"{path} has format_version {version}; this compressor reads {FORMAT_VERSION}.",
            "Install the compressor that wrote it, or a newer one.",
        )
    return _build(content, path)


def verify(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> None:
    """Compare files with their checksums.

    Args:
        folder: Folder of the manifest.
        manifest: As read from it.
        names: Which files. Default: all that the manifest lists.

    Raises:
        ManifestError: A file is missing, damaged or outside the folder, or the manifest does not list it.
    """
    for name in manifest.files if names is None else names:
        entry = manifest.files.get(name)
        if entry is None:
            raise ManifestError(f"{folder / MANIFEST} does not list {name}.", _AGAIN)
        path = locate(folder, name)
        try:
            size = path.stat().st_size
            intact = size == entry.size_bytes and _sha256(path) == entry.sha256
        except OSError as error:
            raise ManifestError(f"{folder / name} cannot be read: {error.strerror}.", _AGAIN) from None
        if size != entry.size_bytes:
            raise ManifestError(
                f"{folder / name} is damaged: it has {size:,} bytes where the manifest says {entry.size_bytes:,}.",
                _AGAIN,
            )
        if not intact:
            raise ManifestError(f"{folder / name} is damaged: its sha256 is not the one in the manifest.", _AGAIN)


def locate(folder: Path, name: str) -> Path:
    """Find a file of the folder, and make sure that it really lies in it.

    Raises:
        ManifestError: It is missing, or a link leads out of the folder.
    """
    path = folder / name
    if not path.is_file():
        raise ManifestError(f"{path} is missing.", _AGAIN)
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in _roots(folder)):
        raise ManifestError(f"{path} leads out of the folder, to {real}.", "Copy the file itself into the folder.")
    return path


def _roots(folder: Path) -> tuple[Path, ...]:
    root = folder.resolve()
    # A snapshot in the Hugging Face cache consists of links into the blobs beside it.
    snapshots = root.parent
    return (root, snapshots.parent / "blobs") if snapshots.name == "snapshots" else (root,)


def _build(content: dict[str, Any], path: Path) -> Manifest:
    files = _take(content, "files", dict, path)
    teacher = _take(content, "teacher", dict, path)
    kind, row = _kind(content, path)
    manifest = Manifest(
        task=_take(content, "task", str, path),
        # The one number of a regression may go without a name.
        labels=_names(content, "labels", path, empty=row is not None and (not row.named or kind == "regression")),
        inputs=_names(content, "inputs", path),
        max_length=_take(content, "max_length", int, path),
        pad_token_id=_take(content, "pad_token_id", int, path),
        default_model=_take(content, "default_model", str, path),
        files={_inside(name, path): _entry(name, entry, path) for name, entry in files.items()},
        teacher=TeacherEntry(_take(teacher, "name", str, path), _take(teacher, "fingerprint", str, path)),
        created=_take(content, "created", str, path),
        versions={str(name): str(version) for name, version in _take(content, "versions", dict, path).items()},
        truncation_side=content.get("truncation_side", "right"),
        kind=kind,
        outputs=_outputs(content, row, path),
        settings=_take(content, "settings", dict, path) if "settings" in content else {},
    )
    if wrong := fault(kind, manifest.settings, manifest.labels):
        raise ManifestError(f"{path}: {wrong}.", _AGAIN)
    if manifest.truncation_side not in ("right", "left"):
        raise ManifestError(
            f"{path}: truncation_side is {_named(manifest.truncation_side)} where right or left belongs.", _AGAIN
        )
    if manifest.max_length < 1 or manifest.pad_token_id < 0:
        number = "max_length" if manifest.max_length < 1 else "pad_token_id"
        raise ManifestError(f"{path}: {number} is {getattr(manifest, number)}.", _AGAIN)
    if manifest.default_model not in manifest.files:
        raise ManifestError(f"{path}: default_model {manifest.default_model!r} is not among its files.", _AGAIN)
    return manifest


def _kind(content: dict[str, Any], path: Path) -> tuple[str, Task | None]:
    """Read the kind of task, which manifests of before the other kinds do not name."""
    if "kind" in content:
        name = _take(content, "kind", str, path)
        return name, next((row for row in TASKS.values() if row.kind == name), None)
    first = next(iter(kinds_of(_take(content, "task", str, path))), None)
    return (first.kind, first) if first else ("", None)


def _outputs(content: dict[str, Any], row: Task | None, path: Path) -> tuple[str, ...]:
    found = _names(content, "outputs", path) if "outputs" in content else row.outputs if row else ("logits",)
    if row and len(found) != len(row.outputs):
        raise ManifestError(
            f"{path}: outputs are {', '.join(found)} where {len(row.outputs)} answer {row.kind}.", _AGAIN
        )
    return found


def _entry(name: str, content: object, path: Path) -> FileEntry:
    if not isinstance(content, dict):
        raise ManifestError(f"{path}: files[{name!r}] is {_named(content)} where an object belongs.", _AGAIN)
    precision, target = content.get("precision"), content.get("target")
    return FileEntry(
        sha256=_take(content, "sha256", str, path),
        size_bytes=_take(content, "size_bytes", int, path),
        precision=precision if isinstance(precision, str) else None,
        target=target if isinstance(target, str) else None,
        temperature=_temperature(name, content.get("temperature"), path),
        targets=_targets(content.get("targets")),
    )


def _targets(value: object) -> dict[str, str]:
    return {str(name): str(told) for name, told in value.items()} if isinstance(value, dict) else {}


def _temperature(name: str, value: object, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ManifestError(
            f"{path}: the temperature of {name} is {_named(value)} where a number above 0 belongs.", _AGAIN
        )
    return float(value)


def _inside(name: str, path: Path) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or any(mark in name for mark in "\\:\0"):
        raise ManifestError(f"{path} names a file outside the folder: {name!r}.", "Do not use this folder.")
    return name


def _names(content: dict[str, Any], key: str, path: Path, *, empty: bool = False) -> tuple[str, ...]:
    names = _take(content, key, list, path)
    if not (names or empty) or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ManifestError(f"{path}: {key} must be distinct names, at least one; it is {names!r}.", _AGAIN)
    return tuple(names)


def _take(content: dict[str, Any], key: str, kind: type[_T], path: Path) -> _T:
    if key not in content:
        raise ManifestError(f"{path} has no {key}.", _AGAIN)
    value = content[key]
    # bool is an int in Python, and never one here.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ManifestError(f"{path}: {key} is {_named(value)} where {_KINDS[kind]} belongs.", _AGAIN)
    return value


_KINDS: dict[type, str] = {int: "a number", str: "a text", list: "a list", dict: "an object"}


def _named(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
