"""Reload a student in Python, whatever the sizes of its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedModel

from compressor.architectures import architecture_of
from compressor.errors import ManifestError
from compressor.slimming.blocks import Block, blocks
from compressor.slimming.surgery import cut
from compressor.slimming.units import Units
from compressor.slimming.widths import KEY, Widths, read_widths

WEIGHTS = "model.safetensors"
_REMEDY = "Download or copy the folder again: its config.json and model.safetensors belong together."


def load_student(folder: str | Path) -> PreTrainedModel:
    """Load the fp32 student of a run folder, on the CPU and in eval mode.

    It loads what plain transformers loads, and also what that cannot: layers with fewer heads, or with feed-forward
    nets of different widths. The class is the one that ``config.json`` names under ``architectures``.

    Args:
        folder: With ``config.json`` and ``model.safetensors``.

    Raises:
        ManifestError: A file is missing, or the two do not belong together.
        TeacherError: The model type is not supported.
    """
    folder = Path(folder)
    for name in ("config.json", WEIGHTS):
        if not (folder / name).is_file():
            raise ManifestError(f"{folder} holds no student: {name} is missing.", _REMEDY)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    architecture = architecture_of(config)
    try:
        widths = read_widths(config)
        if widths is not None:
            delattr(config, KEY)
        model: PreTrainedModel = _model_class(config)(config)
        if widths is not None:
            cut(model, architecture, _masks(widths, blocks(model, architecture)))
        _fill(model, load_file(folder / WEIGHTS))
    except (ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ManifestError(f"The student in {folder} cannot be loaded: {reason}", _REMEDY) from error
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _model_class(config: Any) -> Any:
    for name in config.architectures or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    raise ValueError(f"its config names {config.architectures!r} as its class, which transformers does not have")


def _fill(model: Any, weights: dict[str, Any]) -> None:
    """Read weights; of tied ones only one is in the file."""
    found = model.load_state_dict(weights, strict=False)
    missing = sorted({*found.missing_keys} - {*model.all_tied_weights_keys})
    if missing or found.unexpected_keys:
        raise ValueError(f"weights are missing or too many: {', '.join([*missing, *found.unexpected_keys][:4])}")
    model.tie_weights()


def _masks(widths: Widths, whole: tuple[Block, ...]) -> Units:
    """Which units of a freshly built model become the student's; its weights are read afterwards."""
    if not len(widths.heads) == len(widths.neurons) == len(whole):
        raise ValueError(f"{KEY} speaks of {len(widths.heads)} layers, the config of {len(whole)}")
    return Units(
        tuple(np.isin(np.arange(block.heads), heads) for block, heads in zip(whole, widths.heads, strict=True)),
        tuple(np.arange(block.neurons) < count for block, count in zip(whole, widths.neurons, strict=True)),
    )
