"""The values that travel between the stages. Frozen; heavy types are named, never imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from compressor.architectures import Architecture

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

TEACHER, TEACHER_ONNX, STUDENT_ONNX, STUDENT_INT8 = "teacher", "teacher_onnx", "student_onnx", "student_int8"


# --- data -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Labelled texts of one split.

    Attributes:
        texts: One text per row, none empty.
        labels: Label ids, int64 of shape (rows,), indices into ``Corpus.labels``.
        columns: Further columns that the report slices by: name to one value per row.
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """A dataset as read: three splits and the meaning of its label ids.

    Attributes:
        splits: All of train, validation and test.
        labels: Names of the labels in the order of their ids.
        source: The path or hub name that it was read from.
        fingerprint: sha256 over texts, labels and label names of all splits.
        notes: What was decided while reading (splits carved out, rows dropped), for the report.
    """

    splits: Mapping[SplitName, Split]
    labels: tuple[str, ...]
    source: str
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokenized:
    """A corpus as token ids, memory-mapped.

    Attributes:
        splits: Datasets with the columns of ``input_names`` (unpadded lists), ``labels`` and ``length``.
        input_names: Inputs that the tokenizer makes and the model uses, in the model's order.
        max_length: Longest sequence in tokens after truncation, special tokens included.
        fingerprint: sha256 over the corpus, the tokenizer and ``max_length``.
        truncated: Rows per split that lost tokens.
    """

    splits: Mapping[SplitName, datasets.Dataset]
    input_names: tuple[str, ...]
    max_length: int
    fingerprint: str
    truncated: Mapping[SplitName, int]


# --- models ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher with a head for the task.

    Attributes:
        name: What the user called it.
        path: Local folder with config, safetensors and tokenizer.
        model: In eval mode, fp32, on the CPU.
        labels: Label names in the order of the head's outputs.
        max_length: Longest sequence that the model can take, in tokens, special tokens included.
        fingerprint: sha256 of its weights and config.
        fine_tuned: True where this toolkit trained its head.
    """

    name: str
    path: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    labels: tuple[str, ...]
    max_length: int
    fingerprint: str
    fine_tuned: bool


@dataclass(frozen=True)
class Student:
    """A student and the teacher layers that it started from.

    Attributes:
        layer_map: Teacher layer of each student layer; empty for a random start.
        taught: Teacher layer that each student layer is compared with during distillation.
    """

    model: PreTrainedModel
    layer_map: tuple[int, ...]
    taught: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainingCurve:
    """What was logged while training.

    Attributes:
        steps: Optimizer step of each logged loss.
        losses: Training loss at those steps.
        evaluations: One mapping per evaluation: ``step``, ``accuracy``, ``macro_f1``, ...
    """

    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    evaluations: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class FusionCount:
    """How many blocks of one kind onnxruntime's fused operators replaced."""

    kind: str
    expected: int
    found: int


@dataclass(frozen=True)
class ParityRow:
    """Agreement of one graph with torch at one shape.

    Attributes:
        graph: Which graph: ``exported`` or ``fused``.
        batch_size: Texts in the batch.
        sequence_length: Padded length in tokens.
        padded: True where at least one row of the batch is padded.
        max_abs_difference: Largest difference of a logit.
        changed_labels: Rows whose argmax differs.
    """

    graph: Literal["exported", "fused"]
    batch_size: int
    sequence_length: int
    padded: bool
    max_abs_difference: float
    changed_labels: int


@dataclass(frozen=True)
class ExportedModel:
    """An fp32 ONNX file that agrees with torch."""

    path: Path
    input_names: tuple[str, ...]
    opset: int
    fusions: tuple[FusionCount, ...]
    parity: tuple[ParityRow, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuantizedModel:
    """An int8 ONNX file that loads and was compared with its fp32 parent.

    Attributes:
        target: Instruction set that the weights were chosen for.
        weight_type: For example ``int8 per channel``.
        quantized: Encoder matrix products in int8; Q, K and V count as three.
        expected: Encoder matrix products in all.
        agreement: Share of validation texts with the same label as fp32.
        max_abs_difference: Largest difference of a logit on them.
        mode: How activations are scaled: ``per-token`` or ``dynamic`` (per tensor).
        batch_difference: Largest difference of a logit between a text alone and in a padded batch.
    """

    path: Path
    target: str
    weight_type: str
    quantized: int
    expected: int
    agreement: float
    max_abs_difference: float
    warnings: tuple[str, ...] = ()
    mode: str = "per-token"
    batch_difference: float | None = None


# --- measurements ---------------------------------------------------------------------------


@dataclass(frozen=True)
class LatencyRow:
    """Latency of one model at one shape.

    Attributes:
        sequence_length: In tokens; ``None`` stands for the test split's own texts, one by one
            or batched in their order.
        samples: Milliseconds of every timed call, process after process.
        processes: Number of fresh processes that the samples come from.
        calls: Timed calls of each process, in the order of ``samples``.
        tokens: Padded tokens of a mean call, over the whole batch.
    """

    model: str
    provider: str
    threads: int
    batch_size: int
    sequence_length: int | None
    samples: tuple[float, ...]
    processes: int
    calls: tuple[int, ...] = ()
    tokens: float = 0.0


@dataclass(frozen=True)
class ModelCost:
    """What a model costs beside its latency; medians over the fresh processes.

    Attributes:
        load_ms: Creating the session or the torch model, imports excluded.
        first_ms: The first inference, one text.
        peak_rss_bytes: Largest resident memory of the process, over the whole grid.
        import_ms: Importing onnxruntime, or torch and transformers.
        inputs: Inputs that the model was fed.
    """

    model: str
    provider: str
    load_ms: float
    first_ms: float
    peak_rss_bytes: int
    import_ms: float = 0.0
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class MachineBounds:
    """What the machine can do at best with the threads that the models had.

    Attributes:
        gflops: fp32 matrix product, 1e9 floating-point operations per second.
        bandwidth: Copying memory, 1e9 bytes read and written per second.
    """

    threads: int
    gflops: float
    bandwidth: float


@dataclass(frozen=True)
class Benchmark:
    """All measurements of a run and their circumstances.

    Attributes:
        noise_floor: Relative difference that a model showed against its own copy; smaller
            differences are noise. ``None`` where it was not measured.
    """

    latency: tuple[LatencyRow, ...]
    costs: tuple[ModelCost, ...]
    notes: tuple[str, ...] = ()
    noise_floor: float | None = None
    bounds: MachineBounds | None = None


@dataclass(frozen=True)
class ModelFacts:
    """One row of the report's table of models, before it is measured.

    Attributes:
        logits: float32 of shape (test rows, labels).
    """

    name: str
    size_bytes: int
    compressed_bytes: int
    parameters: int
    zeros: int
    logits: npt.NDArray[np.float32]


@dataclass(frozen=True)
class CompanyDrift:
    """How far a file's logits for a text depend on what the text is computed with.

    Attributes:
        rows: Test texts that were tried.
        padded_to: Tokens that each text was padded to, alone.
        padded_difference: Largest difference of a logit between alone and padded.
        padded_labels: Texts whose label that changed.
        batch_size: Texts of a batch, of mixed lengths.
        batched_difference: Largest difference of a logit between alone and in a batch.
        batched_labels: Texts whose label that changed.
    """

    model: str
    rows: int
    padded_to: int
    padded_difference: float
    padded_labels: int
    batch_size: int
    batched_difference: float
    batched_labels: int


@dataclass(frozen=True)
class EncoderShape:
    """The sizes that decide what an encoder costs.

    Attributes:
        layers: Number of layers.
        hidden: Width of the hidden states.
        intermediate: Width of the feed-forward net.
        attention: Width of all heads together.
        weight_bytes: The encoder's matrices as they lie in the file.
    """

    layers: int
    hidden: int
    intermediate: int
    attention: int
    weight_bytes: int


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        output_dir: The folder that was written.
        report: The content of ``report/report.json``.
    """

    output_dir: Path
    report: Mapping[str, Any] = field(default_factory=dict)
