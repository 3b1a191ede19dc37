"""Which files hold the data, and which split each of them is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compressor.artifacts import SPLITS, SplitName
from compressor.data.tables import READERS
from compressor.errors import DataError

# A word of the file's or the folder's name -> the split.
SPLIT_WORDS: Mapping[str, SplitName] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation", "eval": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

FORMATS = "CSV, TSV, JSONL or Parquet"
_LISTED = 8


@dataclass(frozen=True)
class DataFiles:
    """The files of a dataset.

    Attributes:
        splits: Files of each split that is there; ``train`` always is.
        ignored: Data files whose name says no split. A ``.json`` of another name is taken for a description.
    """

    splits: Mapping[SplitName, tuple[Path, ...]]
    ignored: tuple[Path, ...] = ()


def find_files(source: Path) -> DataFiles:
    """Sort the data files of ``source`` into splits.

    A file alone, or the only data file of a folder, is the training split. In a folder the name decides, as in
    ``train.csv``, ``reviews_dev.jsonl``, ``data/test-00000-of-00001.parquet`` or ``validation/0000.parquet``.

    Raises:
        DataError: No data file, no training split, or one split in several places; what is there is listed.
    """
    if source.is_file():
        if source.suffix.lower() not in READERS:
            raise DataError(f"{source} is not a data file: {source.suffix or 'it has no extension'}.", _remedy(source))
        return DataFiles({"train": (source,)})
    found = [path for path in sorted(source.rglob("*")) if path.is_file() and not _hidden(path.relative_to(source))]
    data = [path for path in found if path.suffix.lower() in READERS]
    if not data:
        remedy = _remedy(*found) if found else f"Put {FORMATS} files there."
        raise DataError(f"Folder {source} has no data file. It holds: {_listing(source, found)}.", remedy)
    splits: dict[SplitName, tuple[Path, ...]] = {}
    for path in data:
        split = _split_of(path.relative_to(source))
        if split is not None:
            splits[split] = (*splits.get(split, ()), path)
    if not splits and len(data) == 1:
        return DataFiles({"train": (data[0],)})
    if "train" not in splits:
        raise DataError(
            f"Folder {source} has no training split. Its data files: {_listing(source, data)}.",
            "Name the file train.csv (or .tsv, .jsonl, .parquet), or give one file to --data.",
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
        tuple(path for path in data if path not in named and path.suffix.lower() != ".json"),
    )


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


def _remedy(*paths: Path) -> str:
    advice = [_CONVERT[path.suffix.lower()] for path in paths if path.suffix.lower() in _CONVERT]
    return advice[0] if advice else f"Give {FORMATS}: {', '.join(READERS)}."
