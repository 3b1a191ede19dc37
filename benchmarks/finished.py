"""What a resumable benchmark has finished: a JSON file that is replaced at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    """Finished units by name; none where nothing was finished."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def add(path: Path, name: str, result: Mapping[str, Any]) -> None:
    """Keep one more; a kill leaves the file as it was."""
    path.parent.mkdir(exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps({**read(path), name: result}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(path)
