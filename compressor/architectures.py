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
        linears: Paths, inside one layer, of its matrix products, in order of use.
        query_key_value: Which of ``linears`` are the attention's Q, K and V.
        reserved_positions: Position ids that no token can take (RoBERTa starts at padding + 1).
        attention_bias: The attention adds a learned bias (MPNet's relative positions).
    """

    model_type: str
    layers: str
    linears: tuple[str, ...]
    query_key_value: tuple[str, str, str]
    reserved_positions: int = 0
    attention_bias: bool = False


_BERT_LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_BERT_QKV = _BERT_LINEARS[:3]

ARCHITECTURES: dict[str, Architecture] = {
    row.model_type: row
    for row in (
        Architecture("bert", "bert.encoder.layer", _BERT_LINEARS, _BERT_QKV),
        Architecture("roberta", "roberta.encoder.layer", _BERT_LINEARS, _BERT_QKV, reserved_positions=2),
        Architecture("electra", "electra.encoder.layer", _BERT_LINEARS, _BERT_QKV),
        Architecture(
            "distilbert",
            "distilbert.transformer.layer",
            ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
            ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
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
            ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
            reserved_positions=2,
            attention_bias=True,
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
