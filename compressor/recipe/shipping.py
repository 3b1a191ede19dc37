"""How the student is written, judged and timed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from compressor.recipe.section import Flag, Section

QuantizeMode = Literal["smooth", "per-token", "dynamic", "static", "fp16", "weight-only-int4"]
Target = Literal["auto", "any", "avx2", "avx512", "avx512_vnni", "arm64"]


class ExportRecipe(Section):
    """Export: the ONNX graph."""

    opset: Annotated[int, Flag("opset")] = Field(
        default=18, ge=18, le=21, description="ONNX opset of the exported graph."
    )


class QuantizeRecipe(Section):
    """Quantization: the smaller graph."""

    enabled: Annotated[bool, Flag("quantize")] = Field(
        default=False,
        description="Write a smaller model beside the fp32 one, in int8 by default.",
    )
    mode: Annotated[QuantizeMode, Flag("quantize-mode")] = Field(
        default="smooth",
        description="smooth: int8, a text gets the same answer alone, padded or in a batch; steps of activations are "
        "fixed by training texts behind layer norms, and one for each token elsewhere. "
        "per-token: the same with one for each token everywhere, slower. "
        "dynamic: int8, one activation scale for the whole batch, as onnxruntime's own quantizer has it. "
        "static: int8 with activation ranges from training texts (QDQ), for GPUs. fp16: for GPUs. "
        "weight-only-int4: weights in 4 bits, by blocks.",
    )
    target: Annotated[Target, Flag("target")] = Field(
        default="auto", description="Instruction set that the int8 weights are chosen for. auto: this machine's."
    )
    max_flips: Annotated[float | None, Flag("max-flips")] = Field(
        default=None,
        ge=0,
        le=100,
        description="Largest share of validation decisions, in per cent, that may differ from the fp32 student's. "
        "Above it, or above --max-drop, finer forms are tried, up to fp32. "
        "Default: 2; 10 where one of many tokens is chosen (question-answering, fill-mask).",
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
    clients: Annotated[tuple[int, ...], Flag("clients")] = Field(
        default=(1, 4),
        description="Callers at once in the measurement under load, as in 1,4,16; each sends single texts.",
    )
    rounds: Annotated[int, Flag("rounds")] = Field(
        default=5, gt=0, description="Fresh processes per model, at least; models alternate within a round."
    )
    max_rounds: Annotated[int, Flag("max-rounds")] = Field(
        default=15,
        gt=0,
        description="Rounds go on up to this many while a ratio is known less well than to 3.5 per cent. "
        "No more than --rounds: exactly that many. Fewer than three rounds are never more.",
    )
    noise_pair: Annotated[bool, Flag("noise-pair")] = Field(
        default=True,
        description="Measure one model against its own copy: differences below what that shows are noise.",
    )

    @field_validator("batch_sizes", "sequence_lengths", "clients", mode="before")
    @classmethod
    def _read_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(","))
        return value

    @field_validator("clients")
    @classmethod
    def _check_clients(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        # None at all leaves the measurement out: a gate has no use for it.
        if any(item < 1 for item in value) or len(set(value)) != len(value):
            raise ValueError("expected distinct numbers from 1 up, as in 1,4,16")
        return value

    @field_validator("batch_sizes", "sequence_lengths")
    @classmethod
    def _check_list(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(item < 1 for item in value) or len(set(value)) != len(value):
            raise ValueError("expected distinct numbers from 1 up, as in 1,8,32")
        return value
