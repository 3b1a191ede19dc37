"""Download a model from the hub: config, safetensors and tokenizer files, never a pickle.

Goes through ``huggingface_hub``, so that its cache, its tokens and ``HF_ENDPOINT`` apply, and says its
failures in the user's words.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

from compressor.events import Listener, Note, Progress, ignore
from compressor.hub_errors import Unanswered, Wanted, explained
from compressor.pooling import MODULES, POOLING, SENTENCES
from compressor.teacher import checkpoint

# Patterns without a leading "*" match from the root on, so that the files of subfolders (onnx/, openvino/) stay there.
_FILES = (
    checkpoint.CONFIG,
    checkpoint.WEIGHTS,
    checkpoint.INDEX,
    "model-?????-of-?????.safetensors",
    *sorted({file for files in checkpoint.TOKENIZERS for file in files}),
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    # How a sentence encoder pools.
    MODULES,
    POOLING,
    SENTENCES,
)
_WEIGHTS = {checkpoint.WEIGHTS, checkpoint.INDEX}
_CONVERSION_BOT = "SFconvertbot"
_CONVERSION_TITLE = "Adding `safetensors` variant of this model"


def download(
    repository: str, revision: str | None = None, listen: Listener = ignore, *, code: bool = False, hint: str = ""
) -> Path:
    """Bring a hub model into the local cache, or find it there where the hub cannot be reached.

    Args:
        repository: Hub id.
        revision: Branch, tag or commit. Default: main.
        listen: Told when an earlier download stands in (``Note``), and the bytes (``Progress``).
        code: Download the repository's Python files too.
        hint: A sentence such as "Did you mean bert-base?", for the message about an unknown name.

    Returns:
        The folder in the cache; its name is the commit.

    Raises:
        TeacherError: The repository holds no model that is safe to load.
        HubError: The hub is unreachable, or does not give out this model.
    """
    patterns = [*_FILES, *(("*.py",) if code else ())]
    try:
        with explained(Wanted("model", repository, revision, hint)):
            chosen = _choose_revision(repository, revision, listen)
            return _fetch(repository, chosen, patterns, listen)
    except Unanswered as error:
        found = _from_cache(repository, revision, patterns)
        if found is None:
            raise
        listen(Note(f"{error.why}; {repository} is used as downloaded earlier (commit {found.name[:12]})."))
        return found


def _choose_revision(repository: str, revision: str | None, listen: Listener) -> str | None:
    """Look at the file names before anything is downloaded; fall back to the hub's own conversion of a pickle."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import HF_HUB_ETAG_TIMEOUT

    api = HfApi(library_name="compressor")

    def root_files(where: str | None) -> set[str]:
        siblings = api.model_info(repository, revision=where, timeout=HF_HUB_ETAG_TIMEOUT).siblings or []
        return {item.rfilename for item in siblings}

    files = root_files(revision)
    if revision is None and checkpoint.CONFIG in files and not _WEIGHTS & files:
        for reference in _conversions(api, repository):
            if _WEIGHTS & (converted := root_files(reference)):
                checkpoint.check_names(converted, repository)
                listen(Note(f"{repository} is a pickle on main; the hub's safetensors conversion {reference} is used."))
                return reference
    checkpoint.check_names(files, repository)
    return revision


def _conversions(api: Any, repository: str) -> list[str]:
    """Open pull requests in which Hugging Face's bot adds safetensors; transformers reads the same ones."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        requests = list(
            api.get_repo_discussions(
                repository, author=_CONVERSION_BOT, discussion_type="pull_request", discussion_status="open"
            )
        )
    except HfHubHTTPError:  # discussions are switched off, or a mirror does not have them
        return []
    return [
        request.git_reference
        for request in requests
        if request.author == _CONVERSION_BOT and request.title == _CONVERSION_TITLE and request.git_reference
    ]


def _fetch(repository: str, revision: str | None, patterns: list[str], listen: Listener) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repository,
            revision=revision,
            allow_patterns=patterns,
            library_name="compressor",
            tqdm_class=_progress_bar(listen),
        )
    )


def _from_cache(repository: str, revision: str | None, patterns: list[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.file_download import repo_folder_name

    requests = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model") / "refs" / "refs" / "pr"
    conversions = sorted(requests.iterdir()) if revision is None and requests.is_dir() else []
    for candidate in (revision, *(f"refs/pr/{item.name}" for item in conversions)):
        try:
            found = Path(
                snapshot_download(repository, revision=candidate, allow_patterns=patterns, local_files_only=True)
            )
        except LocalEntryNotFoundError:
            continue
        # Another tool may have cached the config alone.
        if any((found / file).is_file() for file in _WEIGHTS):
            return found
    return None


def _progress_bar(listen: Listener) -> type[Any]:
    """A bar that draws nothing and tells ``listen`` the bytes that have arrived."""
    from huggingface_hub.utils.tqdm import tqdm

    base: Any = tqdm
    turn = Lock()  # files arrive in several threads; listeners hear of them one by one

    class Bar(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # huggingface_hub makes three: files, bytes received, bytes written. The last one counts.
            self._told = kwargs.get("unit") == "B" and str(kwargs.get("desc", "")).startswith("Reconstruct")
            self._bytes = 0
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if not self._told or not n:
                return
            with turn:
                self._bytes += int(n)
                listen(Progress("download", self._bytes, max(int(self.total or 0), self._bytes), {}))

    return Bar
