"""From what the user calls a model to a folder on disk: alias, local folder or hub id."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from compressor.errors import DataError, TeacherError
from compressor.events import Listener, Note, ignore
from compressor.teacher import checkpoint, download
from compressor.teacher.checkpoint import Checkpoint

DEMO = "demo"
"""Name of the embedded default; ``compressor.embedded`` unpacks it, ``open_folder`` reads it."""

_ENGLISH = MappingProxyType({"text-classification": "cornell-movie-review-data/rotten_tomatoes"})


@dataclass(frozen=True)
class Alias:
    """A short name for a hub model.

    Attributes:
        repository: Hub id.
        datasets: Task to the hub dataset that is used where the user names none.
    """

    repository: str
    datasets: Mapping[str, str] = field(default_factory=lambda: _ENGLISH)


ALIASES: Mapping[str, Alias] = MappingProxyType(
    {
        "bert-base": Alias("google-bert/bert-base-uncased"),
        "bert-large": Alias("google-bert/bert-large-uncased"),
        "roberta-base": Alias("FacebookAI/roberta-base"),
        "distilbert": Alias("distilbert/distilbert-base-uncased"),
        "albert-base": Alias("albert/albert-base-v2"),
        "mobilebert": Alias("google/mobilebert-uncased"),
        "electra-base": Alias("google/electra-base-discriminator"),
        "mpnet-base": Alias("microsoft/mpnet-base"),
        "modernbert-base": Alias("answerdotai/ModernBERT-base"),
        # The MiniLM encoder that is published as safetensors; the plain pre-trained ones are pickles.
        "minilm": Alias("sentence-transformers/all-MiniLM-L6-v2"),
        "bert-base-chinese": Alias("google-bert/bert-base-chinese", {}),
    }
)


def default_dataset(name: str, task: str) -> str:
    """Name the hub dataset that belongs to a teacher's alias.

    Raises:
        DataError: The teacher is no alias, or its alias has no dataset for the task.
    """
    alias = ALIASES.get(name) or next((row for row in ALIASES.values() if row.repository == name), None)
    if alias is None:
        raise DataError(
            f"No data given, and none belongs to the teacher {name}.", "Name your labelled text with --data."
        )
    if task not in alias.datasets:
        raise DataError(
            f"No data given, and the alias {name} has no default dataset for {task}.",
            "Name your labelled text with --data.",
        )
    return alias.datasets[task]


def locate(
    name: str,
    revision: str | None = None,
    listen: Listener = ignore,
    *,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Find a model by what the user calls it, downloading it where it is not here yet.

    A local folder wins over an alias or a hub id of the same name. Where the hub cannot be reached, an
    earlier download is used and a ``Note`` says so.

    Args:
        name: A local folder, an alias or a hub id.
        revision: Branch, tag or commit of a hub model. Default: main.
        listen: Told about decisions (``Note``) and bytes (``Progress``).
        trust_remote_code: Accept and download Python code that the model brings along.

    Raises:
        TeacherError: No such folder, or the folder holds no model that is safe to load.
        HubError: The hub is unreachable, or does not give out this model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir() and (_looks_local(name) or (folder / checkpoint.CONFIG).is_file()):
        if name in ALIASES:
            listen(Note(f"{name} is a folder here: it is used, not the model of the alias {name}."))
        if revision is not None:
            raise TeacherError(
                f"--teacher-revision {revision} was given, but {name} is a folder.",
                "A revision belongs to a hub model: drop it, or give the hub id.",
            )
        return open_folder(folder, name, trust_remote_code=trust_remote_code)
    if folder.is_file():
        raise TeacherError(f"{name} is a file.", f"Give the folder that holds it: {folder.parent}")
    if name in ALIASES:
        return _from_hub(name, ALIASES[name].repository, revision, listen, trust_remote_code)
    if name == DEMO:
        raise ValueError("the embedded default is unpacked by compressor.embedded and read by open_folder")
    if _looks_local(name):
        raise TeacherError(
            f"Teacher {name} does not exist.", _join(_suggest(name), "Give a model folder, a hub id or an alias.")
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name, re.ASCII) or "--" in name or ".." in name:
        raise TeacherError(
            f"{name!r} is neither a folder nor a hub id.",
            _join(_suggest(name), f"Aliases: {', '.join(ALIASES)}."),
        )
    return _from_hub(name, name, revision, listen, trust_remote_code)


def open_folder(folder: Path, name: str, *, trust_remote_code: bool = False) -> Checkpoint:
    """Read a local model folder.

    Raises:
        TeacherError: The folder holds no model that is safe to load.
    """
    return checkpoint.read(folder.resolve(), name, trust_remote_code=trust_remote_code)


def _looks_local(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or name.count("/") > 1


def _suggest(name: str) -> str:
    folder = Path(name).expanduser()
    try:
        beside = {
            (str(folder.parent / entry.name) if "/" in name else entry.name): entry.name
            for entry in folder.parent.iterdir()
            if entry.is_dir()
        }
    except OSError:
        beside = {}
    near = difflib.get_close_matches(folder.name, beside.values(), n=1)
    found = [path for path, last in beside.items() if last in near]
    if not found:
        found = difflib.get_close_matches(name.rpartition("/")[2].lower(), [*ALIASES, DEMO], n=1)
    return f"Did you mean {found[0]}?" if found else ""


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _from_hub(
    name: str, repository: str, revision: str | None, listen: Listener, trust_remote_code: bool
) -> Checkpoint:
    hint = "" if name in ALIASES else _suggest(name)
    path = download.download(repository, revision, listen, code=trust_remote_code, hint=hint)
    return checkpoint.read(path, name, trust_remote_code=trust_remote_code, repository=repository, commit=path.name)
