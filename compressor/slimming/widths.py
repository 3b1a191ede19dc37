"""What a model's config says about the sizes of its layers once they are no longer all alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

KEY = "compressor_widths"
"""Key of ``config.json``; where it is absent, plain transformers loads the model."""

NEURON_COUNTS = ("intermediate_size", "hidden_dim")
"""What configs call the width of the feed-forward net."""


class Sized(Protocol):
    """A layer that knows its sizes."""

    @property
    def heads(self) -> int:
        """Heads of its attention."""

    @property
    def neurons(self) -> int:
        """Width of its feed-forward net."""


@dataclass(frozen=True)
class Widths:
    """Sizes of every layer.

    Attributes:
        heads: Heads of each layer, by their index in the uncut layer: a bias per head is found by it.
        neurons: Width of each layer's feed-forward net.
    """

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[int, ...]

    @classmethod
    def uncut(cls, layers: Sequence[Sized]) -> Widths:
        """Describe layers of which no head was cut."""
        return cls(tuple(tuple(range(layer.heads)) for layer in layers), tuple(layer.neurons for layer in layers))


def write_widths(config: Any, widths: Widths) -> None:
    """Note sizes in a config, where plain transformers has no words for them.

    One feed-forward width for all layers is an ordinary config. A number of heads is not: transformers derives the
    width of a head from it.
    """
    whole = tuple(range(config.num_attention_heads))
    if len(set(widths.neurons)) == 1:
        setattr(config, _neuron_count(config), widths.neurons[0])
    if len(set(widths.neurons)) > 1 or any(heads != whole for heads in widths.heads):
        value = {"heads": [list(heads) for heads in widths.heads], "neurons": list(widths.neurons)}
        setattr(config, KEY, value)
    elif hasattr(config, KEY):
        delattr(config, KEY)


def read_widths(config: Any) -> Widths | None:
    """Read what ``write_widths`` noted; ``None`` where the config alone says everything.

    Raises:
        ValueError: The key is there, but holds something else.
    """
    value = getattr(config, KEY, None)
    if value is None:
        return None
    try:
        return Widths(
            tuple(tuple(int(head) for head in heads) for heads in value["heads"]),
            tuple(int(count) for count in value["neurons"]),
        )
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"{KEY} of the config is {value!r}, not heads and neurons of each layer") from None


def needs_load_student(folder: Path) -> bool:
    """Tell whether a model folder is one that plain transformers cannot load; an unreadable one is not."""
    try:
        return KEY in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _neuron_count(config: Any) -> str:
    return next(name for name in NEURON_COUNTS if hasattr(config, name))
