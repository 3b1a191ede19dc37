"""What differs between encoder families, as data: one row per ``model_type``.

A row says where the layers live in the state dict, how many blocks onnxruntime is expected to
fuse, and which position ids are reserved. Config attributes have one name for all families
(``num_hidden_layers``, ``hidden_size``, ...) by way of transformers' ``attribute_map``.

To add a BERT-like family: add a row here and a config to ``tests/tiny.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compressor.errors import TeacherError


@dataclass(frozen=True)
class Architecture:
    """One encoder family.

    Attributes:
        model_type: The ``model_type`` of the Hugging Face config.
        layers: Path of the ``ModuleList`` of encoder layers in a model with a head.
        linears: Paths, inside one layer, of its matrix products, in order of use: Q, K and V come first.
        reserved_positions: Position ids that no token can take (RoBERTa starts at padding + 1).
    """

    model_type: str
    layers: str
    linears: tuple[str, ...]
    reserved_positions: int = 0


_BERT_LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)

ARCHITECTURES: dict[str, Architecture] = {
    row.model_type: row
    for row in (
        Architecture("bert", "bert.encoder.layer", _BERT_LINEARS),
        Architecture("roberta", "roberta.encoder.layer", _BERT_LINEARS, reserved_positions=2),
        Architecture("electra", "electra.encoder.layer", _BERT_LINEARS),
        Architecture(
            "distilbert",
            "distilbert.transformer.layer",
            ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
        ),
        Architecture(
            "mpnet",
            "mpnet.encoder.layer",
            (
                "attention.attn.q",
                "attention.attn.k",
                "attention.attn.v",
                "attention.attn.o",
                "intermediate.dense",
                "output.dense",
            ),
            reserved_positions=2,
        ),
    )
}


def architecture_of(config: Any) -> Architecture:
    """Find the row for a Hugging Face config.

    Raises:
        TeacherError: The model type has no row.
    """
    row = ARCHITECTURES.get(config.model_type)
    if row is None:
        raise TeacherError(
            f"Model type {config.model_type!r} is not supported.",
            f"Supported: {', '.join(sorted(ARCHITECTURES))}. "
            "A BERT-like encoder needs one row in compressor/architectures.py.",
        )
    return row
