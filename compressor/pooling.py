"""How a sentence embedding is made of token states, as sentence-transformers writes it down.

``modules.json`` lists the modules of such a model and ``1_Pooling/config.json`` says how tokens become one vector
(https://sbert.net/docs/sentence_transformer/usage/custom_models.html).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from compressor.errors import TeacherError

Mode = Literal["mean", "cls", "max"]
MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
SENTENCES = "sentence_bert_config.json"
_KEYS: dict[str, Mode] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Pooling:
    """What stands behind the encoder of a sentence embedding.

    Attributes:
        mode: Mean of the tokens, the first token, or the largest value of each feature.
        normalize: Embeddings have length 1.
        max_length: Tokens of a text that the model was made to look at, special tokens included; ``None`` where its
            folder does not say.
    """

    mode: Mode = "mean"
    normalize: bool = True
    max_length: int | None = None


def is_sentence_encoder(folder: Path) -> bool:
    """Tell whether a folder says that it is a sentence-transformers model."""
    return (folder / MODULES).is_file()


def read_pooling(folder: Path) -> Pooling:
    """Read how a model folder pools; a plain encoder is pooled by the mean and normalised.

    Raises:
        TeacherError: A module or way of pooling that cannot be exported.
    """
    if not is_sentence_encoder(folder):
        return Pooling()
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in _json(folder / MODULES)]
    unknown = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if unknown or kinds[:1] != ["Transformer"]:
        raise TeacherError(
            f"{folder / MODULES} has a {(unknown or kinds or ['?'])[0]} module: only a Transformer with Pooling and "
            "Normalize can be compressed.",
            "Give a model without it, or its Transformer alone.",
        )
    length = _json(folder / SENTENCES).get("max_seq_length") if (folder / SENTENCES).is_file() else None
    return Pooling(_mode(folder), "Normalize" in kinds, length if isinstance(length, int) and length > 0 else None)


def write_pooling(folder: Path, pooling: Pooling, dimension: int, max_length: int) -> None:
    """Write the files by which sentence-transformers loads a folder.

    Args:
        folder: Holds the encoder and its tokenizer.
        pooling: How it pools.
        dimension: Width of the embedding.
        max_length: Longest text in tokens, special tokens included, where ``pooling`` names none.
    """
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] * pooling.normalize)]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(parts)
    ]
    config: dict[str, Any] = {key: mode == pooling.mode for key, mode in _KEYS.items()}
    for path, _ in parts[1:]:
        (folder / path).mkdir(exist_ok=True)
    _write(folder / MODULES, modules)
    _write(folder / POOLING, {"word_embedding_dimension": dimension, **config, "include_prompt": True})
    _write(folder / SENTENCES, {"max_seq_length": pooling.max_length or max_length, "do_lower_case": False})


def _mode(folder: Path) -> Mode:
    config = _json(folder / POOLING)
    named = config.get("pooling_mode")
    found = [mode for key, mode in _KEYS.items() if config.get(key)] if named is None else [named]
    others = [key for key, value in config.items() if key.startswith("pooling_mode_") and value and key not in _KEYS]
    if len(found) != 1 or others or found[0] not in get_args(Mode):
        raise TeacherError(
            f"{folder / POOLING} pools by {', '.join(map(str, [*found, *others])) or 'nothing'}; "
            f"one of {', '.join(get_args(Mode))} can be exported.",
            "Give a model that pools in one of these ways.",
        )
    mode: Mode = found[0]
    return mode


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TeacherError(
            f"{path} cannot be read as JSON: {error}.", "The folder is incomplete: download or copy it again."
        ) from None


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
