"""What differs between encoder families, as data: one row per ``model_type``.

A row says where the layers live in the state dict, which matrix products a layer has, what onnxruntime is expected to
fuse, and what is special about a family. Config attributes have one name for all families (``num_hidden_layers``,
``hidden_size``, ...) by way of transformers' ``attribute_map``.

To add a BERT-like family: add a row here and a config to ``tests/tiny.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.errors import TeacherError
from compressor.tasks import TASKS, Kind, Task


@dataclass(frozen=True)
class Architecture:
    """One encoder family.

    Attributes:
        model_type: The ``model_type`` of the Hugging Face config.
        layers: Path of the ``ModuleList`` of encoder layers in a model with a head.
        linears: Paths, inside one layer, of its matrix products. Where a family has Q, K and V apart they come first,
            and the two of the feed-forward net come last. A ``*`` stands for every index that there is.
        reserved_positions: Position ids that no token can take (RoBERTa starts at padding + 1).
        title: What people call it.
        examples: Models of the family and of its like, for the table of what is supported.
        shared: One set of layer weights is run ``num_hidden_layers`` times.
        layer_types: The config lists the kind of each layer under ``layer_types``; a student keeps the pattern.
        first: The layer that only the first can stand for, because others begin with a norm that it has not.
        trigram: A token reads its neighbours' embeddings, so that of padding has to be zero.
        norms: Layer norms of a sum that belong to one layer.
        requires: Config values that the toolkit relies on.
        note: What a user should know before compressing such a model.
    """

    model_type: str
    layers: str
    linears: tuple[str, ...]
    reserved_positions: int = 0
    title: str = ""
    examples: tuple[str, ...] = ()
    shared: bool = False
    layer_types: bool = False
    first: int | None = None
    trigram: bool = False
    norms: int = 2
    requires: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def paths(self, layer: Any) -> tuple[str, ...]:
        """Paths of the matrix products of one layer, every ``*`` resolved.

        Args:
            layer: A ``torch.nn.Module``.
        """
        names = {name for name, _ in layer.named_modules()}
        found: list[str] = []
        for path in self.linears:
            before, star, after = path.partition("*")
            if not star:
                found.extend([path] if path in names else [])
                continue
            found.extend(f"{before}{index}{after}" for index in range(len(names)) if f"{before}{index}{after}" in names)
        return tuple(found)

    def products(self, model: Any) -> tuple[str, ...]:
        """Paths of the matrix products that one pass through the encoder runs, in order of the layers.

        A layer that is run several times is named several times.

        Args:
            model: A model with layers at ``layers``.
        """
        layers = list(model.get_submodule(self.layers).named_children())
        once = [f"{self.layers}.{index}.{path}" for index, layer in layers for path in self.paths(layer)]
        repeats = model.config.num_hidden_layers // len(layers) if self.shared else 1
        return tuple(once * repeats)


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
        Architecture(
            "bert", "bert.encoder.layer", _BERT_LINEARS,
            title="BERT", examples=("Chinese BERT", "MiniLM", "BGE", "E5"),
        ),
        Architecture("roberta", "roberta.encoder.layer", _BERT_LINEARS, reserved_positions=2, title="RoBERTa"),
        Architecture(
            "xlm-roberta", "roberta.encoder.layer", _BERT_LINEARS, reserved_positions=2,
            title="XLM-R", examples=("multilingual E5",),
        ),
        Architecture("camembert", "roberta.encoder.layer", _BERT_LINEARS, reserved_positions=2, title="CamemBERT"),
        Architecture(
            "distilbert",
            "distilbert.transformer.layer",
            ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"),
            title="DistilBERT",
        ),
        Architecture("electra", "electra.encoder.layer", _BERT_LINEARS, title="ELECTRA"),
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
            title="MPNet",
        ),
        Architecture(
            "albert",
            "albert.encoder.albert_layer_groups.0.albert_layers",
            ("attention.query", "attention.key", "attention.value", "attention.dense", "ffn", "ffn_output"),
            title="ALBERT",
            shared=True,
            requires={"num_hidden_groups": 1, "inner_group_num": 1},
            note="Its layers are one layer run again and again: fewer of them take less time, but the file stays "
            "as large as it was.",
        ),
        Architecture(
            "mobilebert",
            "mobilebert.encoder.layer",
            (
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
                "bottleneck.input.dense",
                "bottleneck.attention.dense",
                "ffn.*.intermediate.dense",
                "ffn.*.output.dense",
                "intermediate.dense",
                "output.dense",
                "output.bottleneck.dense",
            ),
            title="MobileBERT",
            trigram=True,
            norms=0,
            note="Its norms are a product and a sum, which onnxruntime does not fuse; a layer is small already.",
        ),
        Architecture(
            "deberta-v2",
            "deberta.encoder.layer",
            (
                "attention.self.query_proj",
                "attention.self.key_proj",
                "attention.self.value_proj",
                "attention.output.dense",
                "intermediate.dense",
                "output.dense",
            ),
            title="DeBERTa-v2/v3",
        ),
        Architecture(
            "modernbert",
            "model.layers",
            ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"),
            title="ModernBERT",
            layer_types=True,
            first=0,
            note="Its first layer has no norm before the attention, so a student begins with layer 0.",
        ),
    )
}  # fmt: skip


def architecture_of(config: Any) -> Architecture:
    """Find the row for a Hugging Face config.

    Raises:
        TeacherError: The model type has no row, or a setting that the toolkit cannot handle.
    """
    row = ARCHITECTURES.get(config.model_type)
    if row is None:
        raise TeacherError(
            f"Model type {config.model_type!r} is not supported.",
            f"Supported: {', '.join(sorted(ARCHITECTURES))}. "
            "A BERT-like encoder needs one row in compressor/architectures.py; CONTRIBUTING.md says how.",
        )
    for name, value in row.requires.items():
        met = getattr(config, name, value)
        if met != value:
            raise TeacherError(
                f"The {row.model_type} model has {name} = {met}; only {value} is supported.",
                "Give a model of the usual form.",
            )
    return row


# --- what is supported ------------------------------------------------------------------------

UNSUPPORTED: Mapping[tuple[str, Kind], str] = {}
"""Cells of the matrix that do not work although transformers has the class, and why."""


def supported(architecture: Architecture, task: Task) -> str:
    """Tell whether a family can be compressed for a task.

    Returns:
        Empty if so; otherwise the reason, in words.
    """
    return UNSUPPORTED.get((architecture.model_type, task.kind), "")


def support_matrix() -> str:
    """Families and tasks as a Markdown table, for the README."""
    header = ["", *(row.kind for row in TASKS.values())]
    lines = [header, ["---", *[":-:"] * len(TASKS)]]
    reasons: list[str] = []
    for row in ARCHITECTURES.values():
        cells = []
        for task in TASKS.values():
            reason = supported(row, task)
            if reason and reason not in reasons:
                reasons.append(reason)
            cells.append(f"no [{reasons.index(reason) + 1}]" if reason else "yes")
        likes = f" ({', '.join(row.examples)})" if row.examples else ""
        lines.append([f"{row.title}{likes}", *cells])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = "\n".join(f"[{number}] {reason}" for number, reason in enumerate(reasons, 1))
    return f"{table}\n\n{notes}\n" if notes else f"{table}\n"
