"""Which files hold the data, and which split each of them is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compressor.artifacts import SPLITS, SplitName
from compressor.data.rows import Reader
from compressor.errors import DataError

# A word of the file's or the folder's name -> the split.
SPLIT_WORDS: Mapping[str, SplitName] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation", "devel": "validation",
    "eval": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

_LISTED = 8


@dataclass(frozen=True)
class Formats:
    """What files the data of one kind of task may be in.

    Attributes:
        readers: How each extension is read.
        words: The formats in words.
        sniffed: For files of an unknown extension, in a place that names a split: what tells by the content whether
            one is of data, and how it is read.
        unnamed: Files whose names say no split are all training data, where no file's name says one.
    """

    readers: Mapping[str, Reader]
    words: str
    sniffed: tuple[Callable[[Path], bool], Reader] | None = None
    unnamed: bool = False

    def takes(self, path: Path, split: SplitName | None) -> bool:
        """Tell whether a file is one of data."""
        if path.suffix.lower() in self.readers:
            return True
        return split is not None and self.sniffed is not None and self.sniffed[0](path)

    def reader(self, path: Path) -> Reader:
        """Find the reader of a file that ``takes`` is true of."""
        suffix = path.suffix.lower()
        return self.readers[suffix] if suffix in self.readers or self.sniffed is None else self.sniffed[1]


@dataclass(frozen=True)
class DataFiles:
    """The files of a dataset.

    Attributes:
        splits: Files of each split that is there; ``train`` always is.
        ignored: Data files whose name says no split. A ``.json`` of another name is taken for a description.
    """

    splits: Mapping[SplitName, tuple[Path, ...]]
    ignored: tuple[Path, ...] = ()


def find_files(source: Path, formats: Formats) -> DataFiles:
    """Sort the data files of ``source``, of the given formats, into splits.

    A file alone, or the only data file of a folder, is the training split. In a folder the name decides, as in
    ``train.csv``, ``reviews_dev.jsonl``, ``data/test-00000-of-00001.parquet`` or ``validation/0000.parquet``.

    Raises:
        DataError: No data file, no training split, or one split in several places; what is there is listed.
    """
    if source.is_file():
        # Any name will do for one file, if its content tells what it is.
        if not formats.takes(source, "train"):
            kind = source.suffix or "it has no extension"
            raise DataError(f"{source} is not a data file: {kind}.", _remedy(formats, source))
        return DataFiles({"train": (source,)})
    found = [path for path in sorted(source.rglob("*")) if path.is_file() and not _hidden(path.relative_to(source))]
    names = {path: _split_of(path.relative_to(source)) for path in found}
    data = [path for path in found if formats.takes(path, names[path])]
    if not data:
        remedy = _remedy(formats, *found) if found else f"Put {formats.words} files there."
        raise DataError(f"Folder {source} has no data file. It holds: {_listing(source, found)}.", remedy)
    splits: dict[SplitName, tuple[Path, ...]] = {}
    for path in data:
        split = names[path]
        if split is not None:
            splits[split] = (*splits.get(split, ()), path)
    if not splits and (len(data) == 1 or formats.unnamed):
        return DataFiles({"train": tuple(path for path in data if len(data) == 1 or not _about(path))})
    if "train" not in splits:
        raise DataError(
            f"Folder {source} has no training split. Its data files: {_listing(source, data)}.",
            f"Name the file {_example(formats)}, or give one file to --data.",
        )
    for split, paths in splits.items():
        if len({(path.parent, path.suffix.lower()) for path in paths}) > 1:
            raise DataError(
                f"Folder {source} has more than one {split} split: {_listing(source, paths)}.",
                "Give --data the folder of one of them, or remove the others.",
            )
    named = {path for paths in splits.values() for path in paths}
    return DataFiles(
        {split: splits[split] for split in SPLITS if split in splits},
        tuple(path for path in data if path not in named and path.suffix.lower() != ".json" and not _about(path)),
    )


def _example(formats: Formats) -> str:
    first, *others = (suffix for suffix in formats.readers if suffix not in (".tab", ".ndjson", ".json"))
    return f"train{first} (or {', '.join(others)})"


def _about(path: Path) -> bool:
    """Tell a text about the data from a text of the data."""
    return path.suffix.lower() in ("", ".txt") and path.stem.lower() in ("readme", "license", "licence", "citation")


def _split_of(path: Path) -> SplitName | None:
    for part in (path.stem, *reversed(path.parent.parts)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def _listing(root: Path, paths: list[Path] | tuple[Path, ...]) -> str:
    names = [path.relative_to(root).as_posix() for path in paths[:_LISTED]]
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return (", ".join(names) or "nothing") + more


_CONVERT = {
    ".xlsx": "Save the sheet as CSV UTF-8.",
    ".xls": "Save the sheet as CSV UTF-8.",
    ".ods": "Save the sheet as CSV.",
    ".gz": "Unpack it first: gunzip FILE.",
    ".zip": "Unpack it first: unzip FILE.",
    ".zst": "Unpack it first: unzstd FILE.",
    ".arrow": "Save it as Parquet: datasets.load_from_disk(...).to_parquet(...).",
    ".pkl": "A pickle runs code when it is loaded: save it as Parquet or CSV.",
    ".txt": "Rename it to .csv, .tsv or .jsonl after what it holds; each row needs a text and a label.",
}


def _remedy(formats: Formats, *paths: Path) -> str:
    advice = [_CONVERT[path.suffix.lower()] for path in paths if path.suffix.lower() in _CONVERT]
    return advice[0] if advice else f"Give {formats.words}: {', '.join(formats.readers)}."
