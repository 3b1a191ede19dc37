"""What the models of one folder share: what they do, their labels, lengths and padding, whoever made the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.architectures import ARCHITECTURES
from compressor.errors import ManifestError
from compressor.pooling import SENTENCES, is_sentence_encoder
from compressor.runtime import Manifest
from compressor.runtime.manifest import TOKENIZER
from compressor.tasks import TASKS, Task

LONGEST = 512
"""Tokens, where a folder does not say how many its model takes."""

_UNPOOLED = "ForMaskedLM"
"""Head of a pre-trained model, which many a sentence encoder still names in its config."""


@dataclass(frozen=True)
class Home:
    """A folder with config and tokenizer.

    Attributes:
        task: What its models do; ``None`` where it does not say.
        labels: In the order of the outputs; empty where the task has none, or the folder does not say.
        max_length: Longest sequence in tokens.
        pad_token_id: Fills the shorter texts of a batch.
        truncation_side: Which end of a longer text is cut off.
        settings: Of the manifest, as in ``compressor.runtime.settings``.
    """

    path: Path
    task: Task | None
    labels: tuple[str, ...]
    max_length: int
    pad_token_id: int
    truncation_side: str = "right"
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)


def home_of(path: Path, manifest: Manifest | None) -> Home:
    """Read a folder's manifest, or what other tools write in its place.

    Raises:
        ManifestError: A file is missing or not JSON.
    """
    if not (path / TOKENIZER).is_file():
        raise ManifestError(
            f"{path} has no {TOKENIZER}.", "Save the tokenizer of the model there: tokenizer.save_pretrained(folder)."
        )
    if manifest is not None:
        task = next((row for row in TASKS.values() if row.kind == manifest.kind), None)
        lengths = manifest.max_length, manifest.pad_token_id, manifest.truncation_side
        return Home(path, task, manifest.labels, *lengths, manifest.settings)
    config, tokenizer = json_object(path / "config.json"), json_object(path / "tokenizer_config.json")
    task = task_of(config, sentences=is_sentence_encoder(path))
    longest = _longest(config, tokenizer)
    if task is TASKS["feature-extraction"] and (path / SENTENCES).is_file():
        longest = min(longest, int(json_object(path / SENTENCES).get("max_seq_length") or longest))
    side = "left" if tokenizer.get("truncation_side") == "left" else "right"
    labels = labels_of(config) if task is None or task.named else ()
    return Home(path, task, labels, longest, int(config.get("pad_token_id") or 0), side)


def task_of(config: Mapping[str, Any], *, sentences: bool = False) -> Task | None:
    """Tell from a Hugging Face config what a model does.

    Args:
        config: Its ``architectures`` name the head; without any it is taken for a classifier.
        sentences: Its folder is one of sentence-transformers.

    Returns:
        ``None`` where there is no head that this toolkit knows.
    """
    names = [str(name) for name in config.get("architectures") or ()]
    heads = [row for row in TASKS.values() if row.head and any(name.endswith(row.head) for name in names)]
    if sentences and all(row.head == _UNPOOLED for row in heads):
        return TASKS["feature-extraction"]
    if names and (not heads or len(heads) == 1):
        return heads[0] if heads else None
    said = next((row for row in heads if row.problem_type == config.get("problem_type")), None)
    return said or TASKS["regression" if len(labels_of(config)) == 1 else "single-label"]


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the label names of a Hugging Face config in the order of their ids; empty where it has none."""
    names = config.get("id2label")
    if not isinstance(names, dict) or not all(str(key).isdigit() for key in names):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=int))


def json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty where there is none, or where it holds no object.

    Raises:
        ManifestError: It is not JSON.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read: {error}.", "Download or copy the folder again.") from None
    return found if isinstance(found, dict) else {}


def _longest(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int:
    said = tokenizer.get("model_max_length")
    if isinstance(said, int | float) and 0 < said < 1e6:  # a huge number there means "not known"
        return int(said)
    row = ARCHITECTURES.get(str(config.get("model_type")))
    return int(config.get("max_position_embeddings") or LONGEST) - (row.reserved_positions if row else 0)
