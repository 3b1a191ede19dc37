"""Published recipes of distillation, as data: what each sets, and where it is from.

A preset fills fields of the section ``distill`` that the user did not set; epochs, learning rate and batch size are
the user's, so that presets are compared at equal effort, but for a first stage. Weights are means over layers where
some papers sum: the optimiser's steps do not depend on a common factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

PresetName = Literal["default", "distilbert", "pkd", "tinybert", "minilm"]


@dataclass(frozen=True)
class Preset:
    """A published recipe.

    Attributes:
        values: Field of the section ``distill`` to value.
        source: Where the values are from, and what differs here.
    """

    values: Mapping[str, float | str]
    source: str


PRESETS: dict[PresetName, Preset] = {
    "default": Preset({}, "The defaults of the fields."),
    "distilbert": Preset(
        {
            "soft_weight": 5.0,
            "hard_weight": 2.0,
            "hidden_weight": 1.0,
            "hidden_loss": "cosine",
            "hidden_layers": "last",
            "temperature": 2.0,
        },
        "DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108) and its training script: weights 5, 2 and 1 "
        "of soft labels, masked language modelling and cosine of the last hidden states, T = 2. Here the true labels "
        "have the place of the masked words.",
    ),
    "pkd": Preset(
        {"soft_weight": 0.7, "hard_weight": 0.3, "pkd_weight": 500.0, "temperature": 10.0},
        "Patient knowledge distillation (Sun et al. 2019, https://arxiv.org/abs/1908.09355): alpha 0.7, beta 500 and "
        "T = 10 from the grid of section 4.2; the [CLS] of every student layer but the last. The paper's student "
        "starts from the first layers: --layer-selection first.",
    ),
    "tinybert": Preset(
        {
            "soft_weight": 1.0,
            "hard_weight": 0.0,
            "temperature": 1.0,
            "hidden_weight": 1.0,
            "hidden_loss": "mse",
            "attention_weight": 1.0,
            "embedding_weight": 1.0,
            "intermediate_epochs": 10.0,
        },
        "TinyBERT, task distillation (Jiao et al. 2020, https://arxiv.org/abs/1909.10351, section 3 and their code): "
        "10 epochs of attention, hidden states and embeddings, then soft labels alone with T = 1. The paper augments "
        "the data too, which a preset does not.",
    ),
    "minilm": Preset(
        {
            "soft_weight": 0.9,
            "hard_weight": 0.1,
            "temperature": 2.0,
            "relation_weight": 1.0,
            "intermediate_epochs": 3.0,
        },
        "MiniLMv2 (Wang et al. 2021, https://arxiv.org/abs/2012.15828): Q-Q, K-K and V-V relations of the last layer. "
        "The paper does it on the text of the pre-training and fine-tunes on labels; here it is done on the task's "
        "text, and soft labels follow.",
    ),
}


def without_preset(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the preset sets, so that another one may take its place.

    Args:
        given: All fields of the section ``distill``.
        defaults: What fields are that no preset and nobody sets.

    Returns:
        What ``with_preset`` makes the same fields of again.
    """
    usual = {**defaults, **PRESETS[given["preset"]].values}
    set_by_presets = {name for preset in PRESETS.values() for name in preset.values}
    return {name: value for name, value in given.items() if name not in set_by_presets or value != usual[name]}


def with_preset(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what a preset sets and the user did not; an unknown preset is left for the validation to name.

    Args:
        given: Fields of the section ``distill`` that are set, ``preset`` among them or not.
    """
    name = given.get("preset", "default")
    preset = PRESETS.get(name) if isinstance(name, str) else None  # type: ignore[call-overload] # any text may be given
    return {**preset.values, **given} if preset else dict(given)
