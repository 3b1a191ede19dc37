"""Read a dataset of the hub by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.artifacts import SplitName
from compressor.data.columns import Chooser
from compressor.data.files import SPLIT_WORDS
from compressor.data.rows import Rows, gather
from compressor.data.tables import declared_names
from compressor.errors import DataError
from compressor.hub_errors import Unanswered, Wanted, explained, gated
from compressor.quiet import quiet_loggers

_BESIDE = "No file or folder here has that name either."


@dataclass(frozen=True)
class HubRows:
    """A dataset as the hub holds it.

    Attributes:
        splits: Rows of each split that is there.
        notes: Commit, and splits that are none of train, validation and test.
    """

    splits: Mapping[SplitName, tuple[Rows, ...]]
    notes: tuple[str, ...]


def read_hub(name: str, choose: Chooser) -> HubRows:
    """Download a dataset (or take it from the cache) and read its text and label column.

    The endpoint, the cache and offline mode are those of the environment: ``HF_ENDPOINT``, ``HF_HOME``,
    ``HF_HUB_OFFLINE``, ``HF_DATASETS_OFFLINE``. Where the hub cannot be reached, an earlier download is used.

    Args:
        name: As in ``cornell-movie-review-data/rotten_tomatoes``; a configuration follows after a colon.
        choose: Names the columns.

    Raises:
        HubError: The hub cannot be reached, or has no such dataset.
        DataError: The dataset needs a script or a configuration, or has no such columns.
    """
    repository, _, config = name.partition(":")
    loaded, note = _load(repository, config or None)
    splits: dict[SplitName, tuple[Rows, ...]] = {}
    other = []
    for split, dataset in loaded.items():
        known = SPLIT_WORDS.get(str(split))
        if known is None or known in splits:
            other.append(str(split))
            continue
        place = f"{name}, {split}"
        chosen = choose(place, dataset.column_names)
        columns = dataset.select_columns(list(chosen.names)).to_dict()
        label = None if chosen.label is None else dataset.features.to_dict()[chosen.label]
        rows = gather(
            place,
            "row",
            range(1, len(dataset) + 1),
            columns,
            chosen,
            dataset.column_names,
            label_names=declared_names(label),
        )
        splits[known] = (rows,)
    if "train" not in splits:
        raise DataError(
            f"Dataset {name} has no training split, only {', '.join(map(str, loaded)) or 'nothing'}.",
            "Download it and give --data a folder with a train file.",
        )
    unused = (f"Splits of {name} that are not used: {', '.join(other)}.",) if other else ()
    return HubRows(splits, (note, *unused))


def _load(repository: str, config: str | None) -> tuple[Mapping[str, Any], str]:
    """Ask the hub for the commit, then for the dataset at that commit; else look into the cache."""
    wanted = Wanted("dataset", repository, hint=_BESIDE)
    try:
        with explained(wanted):
            commit = _commit(repository)
            with _translated(wanted):
                loaded = _load_dataset(repository, config, commit)
        return loaded, f"The data are {repository} of the hub (commit {commit[:12]})."
    except Unanswered as error:
        cached = _from_cache(wanted, config)
        if cached is None:
            raise
        # The datasets library names the folder of a prepared dataset by its commit.
        commit = Path(next(iter(cached.values())).cache_files[0]["filename"]).parent.name
        return cached, f"{error.why}; the data are {repository} as downloaded earlier (commit {commit[:12]})."


def _commit(repository: str) -> str:
    """Ask for the commit of main: quickly, since the datasets library would try a dead hub for half a minute."""
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT
    from huggingface_hub.errors import OfflineModeIsEnabled

    if datasets.config.HF_HUB_OFFLINE:  # HF_DATASETS_OFFLINE as well
        raise OfflineModeIsEnabled
    return str(HfApi(library_name="compressor").dataset_info(repository, timeout=HF_HUB_ETAG_TIMEOUT).sha)


def _from_cache(wanted: Wanted, config: str | None) -> Mapping[str, Any] | None:
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True  # otherwise the hub is tried again, with five pauses
    try:
        with _translated(wanted):
            return _load_dataset(wanted.repository, config)
    except (OSError, ValueError):  # the library's words for "not there"; the cause is told by the caller
        return None
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _load_dataset(repository: str, config: str | None, commit: str | None = None) -> Mapping[str, Any]:
    import datasets

    with _quiet_datasets():
        # A commit keeps the library from asking a second server (the dataset viewer's).
        loaded: Mapping[str, Any] = datasets.load_dataset(repository, config, revision=commit)
        return loaded


@contextmanager
def _translated(wanted: Wanted) -> Iterator[None]:
    """Say in the user's words what the datasets library refuses."""
    import datasets

    repository = wanted.repository
    try:
        yield
    except datasets.exceptions.DatasetNotFoundError:
        # The hub has just told its commit: so it is there, but not for everybody.
        raise gated(wanted) from None
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise DataError(
            f"Dataset {repository} is a Python script, which is not run.",
            "Look for a copy of it in Parquet on the hub, or give --data a file or folder.",
        ) from None
    except (ValueError, datasets.exceptions.DatasetsError) as error:
        if "find cache" in str(error):
            raise
        if isinstance(error.__cause__, OSError):  # such as a full disk
            raise error.__cause__ from None
        if isinstance(error, ValueError) and "onfig" in str(error):
            raise DataError(
                f"Dataset {repository} needs a configuration: {_reason(error)}.",
                f"Name it after a colon: --data {repository}:CONFIGURATION",
            ) from None
        raise DataError(
            f"Dataset {repository} cannot be read: {_reason(error.__cause__ or error)}.",
            "Download it and give --data a file or folder.",
        ) from error


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return " ".join(lines[:2]).rstrip(".") if lines else type(error).__name__


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Keep the datasets library off the terminal: progress is told through the listener."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with quiet_loggers("datasets"):
            yield
    finally:
        if not before:
            enable_progress_bars()
