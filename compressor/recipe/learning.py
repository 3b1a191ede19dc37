"""How the student is built, taught and pruned."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from compressor.recipe.presets import PresetName, with_preset
from compressor.recipe.section import Flag, Section

LEARNING_RATE = 2e-4
"""Of students up to 384 wide; ``training.learning_rates`` has that of others."""

LayerSelection = Literal["spaced", "alternate", "first", "last", "random-init", "auto"]


class StudentRecipe(Section):
    """Student: which teacher layers it starts from."""

    layers: Annotated[int | tuple[int, ...] | None, Flag("layers")] = Field(
        default=None,
        description="Number of layers, or the teacher layers to copy, as in 0,2,4. Default: half of the teacher's.",
    )
    layer_selection: Annotated[LayerSelection, Flag("layer-selection")] = Field(
        default="spaced",
        description="Which teacher layers a student of N layers copies. spaced: evenly from the first to the last. "
        "auto: tries several choices before the training and takes the best.",
    )
    trim_vocab: Annotated[str | None, Flag("trim-vocab")] = Field(
        default=None,
        min_length=1,
        description="Keep only the pieces of the vocabulary that these texts use, beside those of the training texts "
        "and all single characters: a file, a folder, or train for the training texts alone.",
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _read_layers(cls, value: object) -> object:
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",")]
            if not all(part.lstrip("-").isdigit() for part in parts):
                raise ValueError(f"{value!r} is neither a number nor a list such as 0,2,4")
            return int(parts[0]) if len(parts) == 1 else tuple(int(part) for part in parts)
        return value

    @field_validator("layers")
    @classmethod
    def _check_layers(cls, value: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        if isinstance(value, int) and value < 1:
            raise ValueError(f"a student needs at least 1 layer, not {value}")
        if isinstance(value, tuple):
            if any(layer < 0 for layer in value):
                raise ValueError(f"layers are counted from 0; {min(value)} is not one")
            if len(set(value)) != len(value):
                raise ValueError(f"layer list {','.join(map(str, value))} names a layer twice")
            if list(value) != sorted(value):
                raise ValueError(f"layer list {','.join(map(str, value))} is not in ascending order")
        return value

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        if self.layer_selection == "auto" and isinstance(self.layers, tuple):
            raise ValueError(f"layers {','.join(map(str, self.layers))} are chosen already: auto needs their number")
        return self


class DistillRecipe(Section):
    """Distillation: the loss and the training that follows it."""

    preset: Annotated[PresetName, Flag("preset")] = Field(
        default="default",
        description="Published recipe that fills the weights, temperature and stages that are not given.",
    )
    epochs: Annotated[float, Flag("epochs")] = Field(default=6.0, gt=0, description="Epochs of distillation.")
    learning_rate: Annotated[float | None, Flag("learning-rate")] = Field(
        default=None,
        gt=0,
        description="Peak learning rate of the distillation. Default: 2e-4 for a student 384 wide (as MiniLM) or "
        "narrower, and less the wider it is: 1e-4 for 768.",
    )
    batch_size: Annotated[int, Flag("batch-size")] = Field(
        default=32, gt=0, description="Texts of a batch, over all processes where there are several (torchrun)."
    )
    gradient_accumulation_steps: Annotated[int, Flag("gradient-accumulation-steps")] = Field(
        default=1, gt=0, description="Batches whose gradients are added up before a step."
    )
    temperature: Annotated[float, Flag("temperature")] = Field(
        default=2.0, gt=0, description="Softens both distributions (Hinton et al. 2015); T=2 as in DistilBERT."
    )
    soft_weight: Annotated[float, Flag("soft-weight")] = Field(
        default=0.9, ge=0, description="Weight of the soft-label KL divergence, scaled by T^2."
    )
    hard_weight: Annotated[float, Flag("hard-weight")] = Field(
        default=0.1, ge=0, description="Weight of the cross-entropy with the labels."
    )
    logit_weight: Annotated[float, Flag("logit-weight")] = Field(
        default=0.0, ge=0, description="Weight of the mean squared difference of the logits (Ba and Caruana 2014)."
    )
    standardize: Annotated[bool, Flag("standardize")] = Field(
        default=False,
        description="Compare z-scores of the logits in the KL divergence (Sun et al. 2024); needs 3 labels or more.",
    )
    hidden_weight: Annotated[float, Flag("hidden-weight")] = Field(
        default=0.0,
        ge=0,
        description="Weight of the distance between mapped hidden states (DistilBERT: 1 beside 5 and 2). "
        "With any weight of inner states above 0 the teacher runs beside the student in every step.",
    )
    hidden_loss: Annotated[Literal["cosine", "mse"], Flag("hidden-loss")] = Field(
        default="cosine", description="Distance of hidden states: cosine (DistilBERT) or mse (TinyBERT)."
    )
    hidden_layers: Annotated[Literal["all", "last"], Flag("hidden-layers")] = Field(
        default="all", description="Student layers whose hidden states are compared."
    )
    pkd_weight: Annotated[float, Flag("pkd-weight")] = Field(
        default=0.0,
        ge=0,
        description="Weight of the squared difference of normalised [CLS] states of layers before the last (PKD: 500).",
    )
    attention_weight: Annotated[float, Flag("attention-weight")] = Field(
        default=0.0,
        ge=0,
        description="Weight of the squared difference of attention scores before the softmax (TinyBERT: 1).",
    )
    relation_weight: Annotated[float, Flag("relation-weight")] = Field(
        default=0.0,
        ge=0,
        description="Weight of the KL divergence of Q-Q, K-K and V-V relations of the last layer (MiniLMv2: 1).",
    )
    relation_heads: Annotated[int | None, Flag("relation-heads")] = Field(
        default=None,
        gt=0,
        description="Heads that relations are cut into; divides both widths. Default: up to 48, as MiniLMv2 has it.",
    )
    relation_layer: Annotated[int | None, Flag("relation-layer")] = Field(
        default=None, ge=0, description="Teacher layer whose relations are taught, from 0. Default: the last."
    )
    embedding_weight: Annotated[float, Flag("embedding-weight")] = Field(
        default=0.0, ge=0, description="Weight of the squared difference of the embeddings' output (TinyBERT: 1)."
    )
    intermediate_epochs: Annotated[float, Flag("intermediate-epochs")] = Field(
        default=0.0,
        ge=0,
        description="Epochs in which only hidden states, attention, relations and embeddings are taught, before epochs "
        "of labels alone. 0: both together.",
    )
    warmup_ratio: Annotated[float, Flag("warmup-ratio")] = Field(
        default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    lr_scheduler: Annotated[Literal["linear", "cosine", "constant"], Flag("lr-scheduler")] = Field(
        default="linear", description="How the learning rate falls after the warm-up."
    )
    weight_decay: Annotated[float, Flag("weight-decay")] = Field(default=0.01, ge=0, description="AdamW weight decay.")
    dropout: Annotated[bool | None, Flag("dropout")] = Field(
        default=None,
        description="Drop activations of the student as its config says. Without, it sees each text as its teacher did "
        "(Beyer et al. 2022). Default: only where there are no altered copies.",
    )
    layer_learning_rate_decay: Annotated[float, Flag("layer-learning-rate-decay")] = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Learning rate of a layer over that of the layer above it (ELECTRA: 0.8). 1: one rate for all.",
    )
    ema: Annotated[float, Flag("ema")] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of a moving average of the weights, as in 0.999, which is validated and kept. 0: none.",
    )
    patience: Annotated[int | None, Flag("patience")] = Field(
        default=None,
        gt=0,
        description="Stop after this many epochs without a better validation score. Default: the training runs "
        "through, since scores rise while the learning rate falls; the best weights are kept either way.",
    )
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Flag("precision")] = Field(
        default="fp32",
        description="Arithmetic of the training, and of the teacher's answers about its texts; fp16 needs a GPU.",
    )
    checkpoint_minutes: Annotated[float, Flag("checkpoint-minutes")] = Field(
        default=2.0, ge=0, description="A killed run continues from a checkpoint at most this old."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        return with_preset(values) if isinstance(values, dict) else values

    @property
    def peak(self) -> float:
        """Learning rate; that of a narrow student where nothing says how wide it is."""
        return LEARNING_RATE if self.learning_rate is None else self.learning_rate

    @property
    def has_hints(self) -> bool:
        """Whether anything before the answers is taught."""
        return max(
            self.hidden_weight, self.pkd_weight, self.attention_weight, self.relation_weight, self.embedding_weight
        ) > 0  # fmt: skip

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        has_answers = max(self.soft_weight, self.hard_weight, self.logit_weight) > 0
        if not has_answers and not self.has_hints:
            raise ValueError("the weights of all losses are 0: there is nothing to learn from")
        if self.intermediate_epochs > 0 and not self.has_hints:
            raise ValueError("intermediate epochs need a hidden, pkd, attention, relation or embedding weight above 0")
        if self.intermediate_epochs > 0 and not has_answers:
            raise ValueError("the epochs after the intermediate ones need a soft, hard or logit weight above 0")
        if self.standardize and self.soft_weight == 0:
            raise ValueError("standardize changes the loss of the soft labels, whose weight is 0")
        if self.relation_weight == 0 and (self.relation_heads is not None or self.relation_layer is not None):
            raise ValueError("relation heads and relation layer need a relation weight above 0")
        return self


class TuneRecipe(Section):
    """Tuning: short trials of the training's parameters before it."""

    trials: Annotated[int | None, Flag("tune")] = Field(
        default=None,
        gt=0,
        description="Try this many learning rates, temperatures and weights of the losses in short trainings, and "
        "train with the best by the validation score. Needs optuna.",
    )


class PruneRecipe(Section):
    """Pruning: single weights to zero, or whole heads and neurons out of the matrices."""

    sparsity: Annotated[float, Flag("prune")] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the encoder's linear weights set to zero by magnitude during distillation. "
        "Shrinks the compressed download; does not speed onnxruntime up.",
    )
    heads: Annotated[float, Flag("prune-heads")] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the attention heads to remove during distillation. Makes the model smaller and faster; "
        "its fp32 student then reloads with compressor.load_student, not with plain transformers.",
    )
    ffn: Annotated[float, Flag("prune-ffn")] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the feed-forward neurons to remove during distillation: the same number in every layer, "
        "which plain transformers reloads, or with --prune-heads where they matter least.",
    )
    target_speedup: Annotated[float | None, Flag("target-speedup")] = Field(
        default=None,
        gt=1,
        description="Remove heads and neurons until the student is this many times as fast as its teacher's fp32 ONNX "
        "file, one text at a time, by layer latencies that are measured on this machine first.",
    )
    importance: Annotated[Literal["taylor", "magnitude"], Flag("prune-importance")] = Field(
        default="taylor",
        description="What heads and neurons are ranked by: the loss that removing them would cost, to first order "
        "(taylor), or the size of their weights (magnitude).",
    )

    @property
    def is_slim(self) -> bool:
        """Whether heads or neurons are removed."""
        return self.heads > 0 or self.ffn > 0 or self.target_speedup is not None

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        if self.target_speedup is not None and (self.heads > 0 or self.ffn > 0):
            raise ValueError("a target speed-up chooses heads and feed-forward neurons itself: give it or the shares")
        return self
