"""Models and the files that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compressor.architectures import Architecture
from compressor.tasks import TASKS, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compressor.heads import Model


@dataclass(frozen=True)
class Teacher:
    """A loaded teacher with a head for the task.

    Attributes:
        name: What the user called it.
        path: Local folder with config, safetensors and tokenizer.
        model: In eval mode, fp32, on the CPU.
        labels: Label names in the order of the head's outputs; empty where the task has none.
        max_length: Longest sequence that the model can take, in tokens, special tokens included.
        fingerprint: sha256 of its weights and config.
        fine_tuned: True where this toolkit trained its head.
        task: What its head is for.
    """

    name: str
    path: Path
    model: Model
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    labels: tuple[str, ...]
    max_length: int
    fingerprint: str
    fine_tuned: bool
    task: Task = TASKS["single-label"]


@dataclass(frozen=True)
class Student:
    """A student and the teacher layers that it started from.

    Attributes:
        layer_map: Teacher layer of each student layer; empty for a random start.
        taught: Teacher layer that each student layer is compared with during distillation.
    """

    model: Model
    layer_map: tuple[int, ...]
    taught: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trimmed:
    """What taking pieces out of a vocabulary changed.

    Attributes:
        source: Whose pieces stay: ``train``, or a file or folder.
        pieces_before: Rows of the embeddings.
        pieces_after: Likewise.
        saved_bytes: Of the fp32 embeddings.
        texts: Held-out texts that both tokenizers cut.
        changed_texts: Those that are cut in another way.
        unknown_texts: Those with more unknown pieces than before.
        max_abs_difference: Largest difference of an output on texts that are cut as before.
    """

    source: str
    pieces_before: int
    pieces_after: int
    saved_bytes: int
    texts: int
    changed_texts: int
    unknown_texts: int
    max_abs_difference: float


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
        max_abs_difference: Largest difference of an output.
        changed_labels: Rows whose decision differs: label, tag of a token, start or end of an answer.
    """

    graph: Literal["exported", "fused"]
    batch_size: int
    sequence_length: int
    padded: bool
    max_abs_difference: float
    changed_labels: int


@dataclass(frozen=True)
class ExportedModel:
    """An fp32 ONNX file that agrees with torch.

    Attributes:
        one_token: The last layer is computed for the one token that the head reads.
    """

    path: Path
    input_names: tuple[str, ...]
    opset: int
    fusions: tuple[FusionCount, ...]
    parity: tuple[ParityRow, ...]
    warnings: tuple[str, ...] = ()
    one_token: bool = False


SmallPrecision = Literal["int8", "fp16", "int4"]


@dataclass(frozen=True)
class TargetClaim:
    """What is known about a file on one target.

    Attributes:
        target: An instruction set, or ``cuda``.
        status: ``verified`` where answers were measured, ``believed`` where reasons say that they are the same, and
            ``doubted`` where reasons say that they may not be.
        reason: Why.
    """

    target: str
    status: Literal["verified", "believed", "doubted"]
    reason: str


@dataclass(frozen=True)
class QuantizedModel:
    """A smaller ONNX file that loads and was compared with its fp32 parent.

    Attributes:
        target: Instruction set that the weights were chosen for.
        weight_type: For example ``int8 per channel``.
        quantized: Encoder matrix products in it; Q, K and V count as three.
        expected: Encoder matrix products in all.
        agreement: Share of validation texts with the same label as fp32.
        max_abs_difference: Largest difference of a logit on them.
        mode: How it was made: a key of ``compressor.graph.modes.MODES``.
        batch_difference: Largest difference of a logit between a text alone and in a padded batch.
        precision: ``int8``, ``fp16`` or ``int4``.
        providers: Where it may run.
        kept: Modules whose products stay in fp32.
        targets: Where it is verified, and where only believed.
    """

    path: Path
    target: str
    weight_type: str
    quantized: int
    expected: int
    agreement: float
    max_abs_difference: float
    warnings: tuple[str, ...] = ()
    mode: str = "smooth"
    batch_difference: float | None = None
    precision: SmallPrecision = "int8"
    providers: tuple[Literal["cpu", "cuda"], ...] = ("cpu",)
    kept: tuple[str, ...] = ()
    targets: tuple[TargetClaim, ...] = ()


@dataclass(frozen=True)
class Rung:
    """One file that was tried on the way from int8 to fp32.

    Attributes:
        name: Of the step.
        detail: How its weights are stored, and which products stay in fp32.
        size_bytes: Of the file; ``None`` where none was left.
        score: The task's metric on validation rows; ``None`` where it cannot be judged without the teacher.
        drop: How much lower that is than the fp32 student's.
        flips: Share of decisions that differ from the fp32 student's; where nothing is decided, what the correlation
            of the outputs lacks to 1.
        verdict: ``kept``, ``over the limits`` or ``broken``.
        reason: What is wrong with it; empty where nothing is.
    """

    name: str
    detail: str
    size_bytes: int | None
    score: float | None
    drop: float | None
    flips: float | None
    verdict: Literal["kept", "over the limits", "broken"]
    reason: str = ""


@dataclass(frozen=True)
class Ladder:
    """What was tried until a file kept its accuracy.

    Attributes:
        mode: As it was asked for.
        metric: The task's, in words.
        share: The metric is a share.
        rows: Validation rows.
        max_drop: Largest accepted drop of the metric.
        max_flips: Largest accepted share of flips.
        rungs: In their order; the last was kept.
        effects: What each product's rounding alone does to the outputs (root mean square), the largest first; empty
            where nothing had to be measured.
    """

    mode: str
    metric: str
    share: bool
    rows: int
    max_drop: float
    max_flips: float
    rungs: tuple[Rung, ...]
    effects: tuple[tuple[str, float], ...] = ()
