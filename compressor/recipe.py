"""The recipe: every choice of a run, frozen and validated, each default written once.

A field's text is its ``--help`` and its line in the reference docs; its ``Flag`` is its name on
the command line. The sections are what the stages receive.
"""

from __future__ import annotations

import difflib
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from compressor.errors import RecipeError

LayerSelection = Literal["alternate", "spaced", "first", "last", "random-init"]
Target = Literal["auto", "any", "avx2", "avx512", "avx512_vnni", "arm64"]


@dataclass(frozen=True)
class Flag:
    """Name of a field on the command line, without the leading dashes."""

    name: str


class Section(BaseModel):
    """A frozen part of the recipe; unknown keys are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class TeacherRecipe(Section):
    """Teacher: which model to compress, and how it is fine-tuned where it has no head."""

    model: Annotated[str, Flag("teacher")] = Field(
        description="Teacher: a local folder, a hub id, or an alias such as bert-base."
    )
    revision: Annotated[str | None, Flag("teacher-revision")] = Field(
        default=None, description="Branch, tag or commit of a hub teacher."
    )
    epochs: Annotated[float, Flag("teacher-epochs")] = Field(
        default=3.0, gt=0, description="Epochs of fine-tuning for a teacher without a head."
    )
    learning_rate: Annotated[float, Flag("teacher-learning-rate")] = Field(
        default=3e-5, gt=0, description="Peak learning rate of that fine-tuning."
    )
    trust_remote_code: Annotated[bool, Flag("trust-remote-code")] = Field(
        default=False, description="Run Python code that the teacher's repository brings along."
    )


class DataRecipe(Section):
    """Data: where the labelled text is and how it is read."""

    source: Annotated[str | None, Flag("data")] = Field(
        default=None,
        description="A CSV, TSV, JSONL or Parquet file, a folder of them named by split, "
        "or a hub dataset. Default: the dataset that belongs to the teacher's alias.",
    )
    text_column: Annotated[str | None, Flag("text-column")] = Field(
        default=None, description="Column with the text. Default: text, sentence, ... whichever is there."
    )
    label_column: Annotated[str | None, Flag("label-column")] = Field(
        default=None, description="Column with the label. Default: label, labels, category, ..."
    )
    validation_fraction: Annotated[float, Flag("validation-fraction")] = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the training rows held out where there is no validation split."
    )
    test_fraction: Annotated[float, Flag("test-fraction")] = Field(
        default=0.1, gt=0, lt=0.5, description="Share of the training rows held out where there is no test split."
    )
    max_train_rows: Annotated[int | None, Flag("max-train-rows")] = Field(
        default=None, gt=0, description="Train on a stratified sample of at most this many rows."
    )
    max_seq_length: Annotated[int | None, Flag("max-seq-length")] = Field(
        default=None, gt=1, description="Truncate texts to this many tokens. Default: what the teacher can take."
    )


class StudentRecipe(Section):
    """Student: which teacher layers it starts from."""

    layers: Annotated[int | tuple[int, ...] | None, Flag("layers")] = Field(
        default=None,
        description="Number of layers, or the teacher layers to copy, as in 0,2,4. Default: half of the teacher's.",
    )
    layer_selection: Annotated[LayerSelection, Flag("layer-selection")] = Field(
        default="alternate", description="Which teacher layers a student of N layers copies."
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


class DistillRecipe(Section):
    """Distillation: the loss and the training that follows it."""

    epochs: Annotated[float, Flag("epochs")] = Field(default=3.0, gt=0, description="Epochs of distillation.")
    learning_rate: Annotated[float, Flag("learning-rate")] = Field(
        default=1e-4, gt=0, description="Peak learning rate of the distillation."
    )
    batch_size: Annotated[int, Flag("batch-size")] = Field(
        default=32, gt=0, description="Texts per training step and device."
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
    hidden_weight: Annotated[float, Flag("hidden-weight")] = Field(
        default=0.0,
        ge=0,
        description="Weight of the cosine distance between mapped hidden states (DistilBERT: 1 beside 5 and 2). "
        "Above 0 the teacher runs beside the student in every step.",
    )
    warmup_ratio: Annotated[float, Flag("warmup-ratio")] = Field(
        default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises."
    )
    lr_scheduler: Annotated[Literal["linear", "cosine", "constant"], Flag("lr-scheduler")] = Field(
        default="linear", description="How the learning rate falls after the warm-up."
    )
    weight_decay: Annotated[float, Flag("weight-decay")] = Field(default=0.01, ge=0, description="AdamW weight decay.")
    patience: Annotated[int, Flag("patience")] = Field(
        default=2, gt=0, description="Stop after this many epochs without a better validation score."
    )
    precision: Annotated[Literal["fp32", "bf16", "fp16"], Flag("precision")] = Field(
        default="fp32", description="Arithmetic of the training; fp16 needs a GPU."
    )
    checkpoint_minutes: Annotated[float, Flag("checkpoint-minutes")] = Field(
        default=2.0, ge=0, description="A killed run continues from a checkpoint at most this old."
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.soft_weight + self.hard_weight + self.hidden_weight == 0:
            raise ValueError("soft, hard and hidden weight are all 0: there is nothing to learn from")
        return self


class PruneRecipe(Section):
    """Pruning: unstructured, by magnitude."""

    sparsity: Annotated[float, Flag("prune")] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the encoder's linear weights set to zero by magnitude during distillation. "
        "Shrinks the compressed download; does not speed onnxruntime up.",
    )


class ExportRecipe(Section):
    """Export: the ONNX graph."""

    opset: Annotated[int, Flag("opset")] = Field(
        default=18, ge=18, le=21, description="ONNX opset of the exported graph."
    )


class QuantizeRecipe(Section):
    """Quantization: the int8 graph."""

    enabled: Annotated[bool, Flag("quantize")] = Field(
        default=False, description="Write a dynamic int8 model beside the fp32 one."
    )
    mode: Annotated[Literal["per-token", "dynamic"], Flag("quantize-mode")] = Field(
        default="per-token",
        description="per-token: a text gets the same answer alone, padded or in a batch. "
        "dynamic: one activation scale for the whole batch, as onnxruntime's own quantizer has it.",
    )
    target: Annotated[Target, Flag("target")] = Field(
        default="auto", description="Instruction set that the int8 weights are chosen for. auto: this machine's."
    )


class EvaluateRecipe(Section):
    """Evaluation: what the verdict allows."""

    max_drop: Annotated[float, Flag("max-drop")] = Field(
        default=1.0,
        gt=0,
        lt=100,
        description="Largest drop in accuracy, in percentage points, that the student may have.",
    )
    slice_columns: Annotated[tuple[str, ...] | None, Flag("slice-columns")] = Field(
        default=None,
        description="Columns of the test data to slice the comparison by, as in source,lang; "
        "class and length are always there.",
    )

    @field_validator("slice_columns", mode="before")
    @classmethod
    def _read_columns(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(","))
        return value

    @field_validator("slice_columns")
    @classmethod
    def _check_columns(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not all(value) or len(set(value)) != len(value)):
            raise ValueError("expected distinct names of columns, as in source,lang")
        if value is not None and {"class", "length"} & set(value):
            raise ValueError("the report has slices named class and length already: rename the column")
        return value


class BenchmarkRecipe(Section):
    """Benchmark: what is timed, and on what."""

    enabled: Annotated[bool, Flag("benchmark")] = Field(default=True, description="Measure latency and memory.")
    provider: Annotated[Literal["cpu", "cuda"], Flag("provider")] = Field(
        default="cpu", description="cuda measures on the CUDA provider too, and is an error where there is none."
    )
    threads: Annotated[int | None, Flag("threads")] = Field(
        default=None, gt=0, description="Threads of every measured model. Default: the cores this process may use."
    )
    batch_sizes: Annotated[tuple[int, ...], Flag("batch-sizes")] = Field(
        default=(1, 8), description="Batch sizes of the latency grid, as in 1,8,32."
    )
    sequence_lengths: Annotated[tuple[int, ...], Flag("sequence-lengths")] = Field(
        default=(16, 64, 128), description="Lengths in tokens of the latency grid, as in 16,128."
    )
    rounds: Annotated[int, Flag("rounds")] = Field(
        default=3, gt=0, description="Fresh processes per model; models alternate within a round."
    )
    noise_pair: Annotated[bool, Flag("noise-pair")] = Field(
        default=True,
        description="Measure one model against its own copy: differences below what that shows are noise.",
    )

    @field_validator("batch_sizes", "sequence_lengths", mode="before")
    @classmethod
    def _read_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(","))
        return value

    @field_validator("batch_sizes", "sequence_lengths")
    @classmethod
    def _check_list(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(item < 1 for item in value) or len(set(value)) != len(value):
            raise ValueError("expected distinct numbers from 1 up, as in 1,8,32")
        return value


class Recipe(Section):
    """Every choice of a run."""

    task: Annotated[Literal["text-classification"], Flag("task")] = Field(
        default="text-classification", description="What the model does, named as transformers pipelines name it."
    )
    output_dir: Annotated[Path | None, Flag("output-dir")] = Field(
        default=None, description="Folder to write. Default: exported/<teacher>-<layers>l."
    )
    overwrite: Annotated[bool, Flag("overwrite")] = Field(
        default=False, description="Replace an earlier run in the output folder."
    )
    cache_dir: Annotated[Path, Flag("cache-dir")] = Field(
        default=Path("~/.cache/compressor"),
        description="Fine-tuned teachers, soft labels and unfinished training, keyed by content.",
    )
    seed: Annotated[int, Flag("seed")] = Field(default=42, ge=0, description="Seed of splits, order and dropout.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Flag("device")] = Field(
        default="auto", description="Where the training runs. auto: the first GPU, else the CPU."
    )
    teacher: TeacherRecipe
    data: DataRecipe = DataRecipe()
    student: StudentRecipe = StudentRecipe()
    distill: DistillRecipe = DistillRecipe()
    prune: PruneRecipe = PruneRecipe()
    export: ExportRecipe = ExportRecipe()
    quantize: QuantizeRecipe = QuantizeRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    benchmark: BenchmarkRecipe = BenchmarkRecipe()


def flags() -> dict[str, tuple[str, ...]]:
    """Map each flag to its place in the recipe, as in ``{"epochs": ("distill", "epochs")}``."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for inner, inner_field in section.model_fields.items():
                found[_flag(inner_field.metadata)] = (name, inner)
        else:
            found[_flag(field.metadata)] = (name,)
    return found


def _flag(metadata: list[Any]) -> str:
    return next(item.name for item in metadata if isinstance(item, Flag))


def build(values: dict[str, Any], overrides: dict[str, Any] | None = None) -> Recipe:
    """Validate nested values, with flags laid over them.

    Args:
        values: Nested mapping as read from a recipe file.
        overrides: Flag name to value; each replaces the file's value.

    Raises:
        RecipeError: An unknown key or a value out of range, all of them named.
    """
    merged: dict[str, Any] = {key: dict(item) if isinstance(item, dict) else item for key, item in values.items()}
    places = flags()
    for flag, value in (overrides or {}).items():
        *section, field = places[flag]
        target = merged.setdefault(section[0], {}) if section else merged
        if not isinstance(target, dict):
            raise RecipeError(f"Recipe key {section[0]} is a table: write [{section[0]}], not a value ({target!r}).")
        target[field] = value
    if isinstance(merged.setdefault("teacher", {}), dict) and "model" not in merged["teacher"]:
        raise RecipeError("No teacher given.", "Name one with --teacher, for example --teacher bert-base.")
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(item) for item in error.errors())) from None


def read(path: Path) -> dict[str, Any]:
    """Read a recipe file as nested values; ``build`` validates them.

    Raises:
        RecipeError: The file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"Recipe {path} does not exist.", "Check the path given to --recipe.") from None
    except OSError as error:
        raise RecipeError(f"Recipe {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"Recipe {path} cannot be read: it is not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"Recipe {path} is not valid TOML: {error}.") from None


def as_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, every value resolved; ``read`` and ``build`` give the same recipe again."""
    import tomli_w

    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _explain(error: Any) -> str:
    place = tuple(str(part) for part in error["loc"])
    known = {".".join(path): flag for flag, path in flags().items()}
    dotted = ".".join(place)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(dotted, [*known, *Recipe.model_fields], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"Unknown recipe key {dotted}.{hint}"
    key = ".".join(place[:2]) if ".".join(place[:2]) in known else place[0]
    flag = known.get(key)
    name = f"--{flag}" if flag else dotted
    reason = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict):  # values that are wrong together
        return f"Recipe section {dotted}: {reason}."
    return f"{name} {shlex.quote(str(error['input']))}: {reason[0].lower()}{reason[1:]}."
