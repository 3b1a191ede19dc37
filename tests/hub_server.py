"""A small model hub on 127.0.0.1: what huggingface_hub and datasets ask of huggingface.co, served from folders.

Use it through a subprocess: both libraries read ``HF_ENDPOINT`` when they are imported.

    with Hub(models={"google-bert/bert-base-uncased": folder}) as hub:
        subprocess.run([sys.executable, "-c", code], env=hub.environment(tmp_path))
    assert hub.requests[0] == "GET /api/models/google-bert/bert-base-uncased"
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

_API = re.compile(r"/api/(?P<kind>models|datasets)/(?P<rest>.+)")
_VERBS = ("revision", "tree", "paths-info", "discussions")
_RESOLVE = re.compile(r"/(?P<datasets>datasets/)?(?P<id>[^/]+(/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass(frozen=True)
class Repository:
    """A folder at one commit, as git and the hub name its parts."""

    folder: Path

    @cached_property
    def files(self) -> dict[str, bytes]:
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    @cached_property
    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, content in self.files.items():
            digest.update(f"{name}\0{blob_id(content)}".encode())
        return digest.hexdigest()

    def entry(self, path: str) -> dict[str, Any] | None:
        if path in self.files:
            content = self.files[path]
            return {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
        return None

    def tree(self, under: str, recursive: bool) -> list[dict[str, Any]] | None:
        start = f"{under}/" if under else ""
        below = [name.removeprefix(start) for name in self.files if name.startswith(start)]
        if under and not below:
            return None
        paths: dict[str, None] = {}
        for name in below:
            parts = name.split("/")
            for depth in range(1, len(parts) + 1 if recursive else 2):
                paths[start + "/".join(parts[:depth])] = None
        return [entry for path in paths if (entry := self.entry(path))]


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Hub:
    """The hub; a context manager.

    Attributes:
        models: Hub id to the folder that is served as its main branch.
        datasets: The same for datasets.
        conversions: Hub id of a model to the folder served as ``refs/pr/1``, opened by the hub's safetensors bot.
        gated: Hub ids whose files are refused.
        status: Answer everything with this HTTP status.
        requests: What was asked, as in ``GET /api/models/org/name``; complete in the order of arrival.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    datasets: Mapping[str, Path] = field(default_factory=dict)
    conversions: Mapping[str, Path] = field(default_factory=dict)
    gated: frozenset[str] = frozenset()
    status: int | None = None
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.revisions: dict[tuple[str, str], dict[str, Repository]] = {}
        for kind, folders in (("models", self.models), ("datasets", self.datasets)):
            for name, folder in folders.items():
                self._add(kind, name, "main", Repository(folder))
        for name, folder in self.conversions.items():
            self._add("models", name, "refs/pr/1", Repository(folder))
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Become unreachable; the port refuses connections afterwards."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Environment of a process that uses this hub and keeps its caches under ``home``."""
        dropped = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_OFFLINE")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **more,
        }

    def _add(self, kind: str, name: str, branch: str, repository: Repository) -> None:
        known = self.revisions.setdefault((kind, name), {})
        known[branch] = known[repository.commit] = repository


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.hub.status is not None:
            self._json({"error": "as the test asked"}, self.hub.status)
        elif match := _RESOLVE.fullmatch(url.path):
            self._file(
                "datasets" if match["datasets"] else "models",
                match["id"],
                unquote(match["revision"]),
                unquote(match["file"]),
            )
        elif match := _API.fullmatch(url.path):
            self._api(match["kind"], match["rest"], parse_qs(url.query), parse_qs(body))
        else:
            self._refuse("unknown endpoint", "EndpointNotFound")

    def _api(self, kind: str, rest: str, query: dict[str, list[str]], form: dict[str, list[str]]) -> None:
        parts = rest.split("/")
        verb_at = next((place for place in (1, 2) if parts[place : place + 1] and parts[place] in _VERBS), None)
        name = "/".join(parts[:verb_at])
        verb, revision, *path = [*parts[verb_at:], "", ""] if verb_at else ["revision", "main"]
        repository = self._repository(kind, name, unquote(revision) or "main")
        if repository is None:
            return
        if verb == "revision":
            siblings = [{"rfilename": file} for file in repository.files]
            about = {"id": name, "sha": repository.commit, "private": False, "gated": False}
            self._json({**about, "siblings": siblings, "tags": []})
        elif verb == "tree":
            under = unquote("/".join(path)).strip("/")
            entries = repository.tree(under, recursive=query.get("recursive", [""])[0].lower() == "true")
            if entries is None:
                self._refuse("no such path", "EntryNotFound", repository)
            else:
                self._json(entries)
        elif verb == "paths-info":
            self._json([entry for path in form.get("paths", []) if (entry := repository.entry(path.strip("/")))])
        elif verb == "discussions":
            found = [self._conversion(name)] if name in self.hub.conversions else []
            self._json({"discussions": found, "count": len(found), "start": 0})
        else:
            self._refuse("unknown endpoint", "EndpointNotFound")

    def _conversion(self, name: str) -> dict[str, Any]:
        return {
            "title": "Adding `safetensors` variant of this model", "num": 1, "author": {"name": "SFconvertbot"},
            "createdAt": "2023-04-01T00:00:00.000Z", "status": "open", "isPullRequest": True,
            "repo": {"name": name, "type": "model"},
        }  # fmt: skip

    def _file(self, kind: str, name: str, revision: str, file: str) -> None:
        repository = self._repository(kind, name, revision)
        if repository is None:
            return
        if name in self.hub.gated:
            self._refuse("Access to this repository is restricted.", "GatedRepo", status=401)
            return
        content = repository.files.get(file)
        if content is None:
            self._refuse("Entry not found", "EntryNotFound", repository)
            return
        headers = {
            "X-Repo-Commit": repository.commit, "ETag": f'"{blob_id(content)}"', "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }  # fmt: skip
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._send(200, content, headers)
            return
        start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            self._send(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
            return
        self._send(
            206, content[start : end + 1], {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
        )  # fmt: skip

    def _repository(self, kind: str, name: str, revision: str) -> Repository | None:
        known = self.hub.revisions.get((kind, name))
        if known is None:
            self._refuse("Repository not found", "RepoNotFound")
            return None
        if revision not in known:
            self._refuse("Invalid rev id", "RevisionNotFound")
            return None
        return known[revision]

    def _refuse(self, message: str, code: str, repository: Repository | None = None, status: int = 404) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        if repository is not None:
            headers["X-Repo-Commit"] = repository.commit
        self._json({"error": message}, status, headers)

    def _json(self, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal quiet; ``Hub.requests`` is the log."""
