"""What is measured of models: time, cost, answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.answers import Answers

if TYPE_CHECKING:
    pass


TEACHER, TEACHER_ONNX, STUDENT_ONNX, STUDENT_INT8 = "teacher", "teacher_onnx", "student_onnx", "student_int8"


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
        nodes: Nodes of the graph by the execution provider that runs them, as onnxruntime says; empty for torch.
    """

    model: str
    provider: str
    load_ms: float
    first_ms: float
    peak_rss_bytes: int
    import_ms: float = 0.0
    inputs: tuple[str, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadRow:
    """One model under load: several callers at once, each with single texts of the data's own lengths.

    Attributes:
        clients: Callers, each of which sends its next text when it has the answer to its last.
        rates: Texts per second of each process, over all callers.
        samples: Milliseconds of calls, process after process; of many calls some, evenly by rank.
        calls: Samples of each process, in the order of ``samples``.
        tokens: Tokens of a mean text.
    """

    model: str
    provider: str
    threads: int
    clients: int
    rates: tuple[float, ...]
    samples: tuple[float, ...]
    calls: tuple[int, ...]
    tokens: float


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
        load: Throughput with several callers at once; empty where it was not measured.
    """

    latency: tuple[LatencyRow, ...]
    costs: tuple[ModelCost, ...]
    notes: tuple[str, ...] = ()
    noise_floor: float | None = None
    bounds: MachineBounds | None = None
    load: tuple[LoadRow, ...] = ()


@dataclass(frozen=True)
class ModelFacts:
    """One row of the report's table of models, before it is measured.

    Attributes:
        answers: About every row of the tokenised test split.
    """

    name: str
    size_bytes: int
    compressed_bytes: int
    parameters: int
    zeros: int
    answers: Answers


@dataclass(frozen=True)
class CompanyDrift:
    """How far a file's logits for a text depend on what the text is computed with.

    Attributes:
        rows: Test texts that were tried.
        padded_to: Tokens that each text was padded to, alone.
        padded_difference: Largest difference of a logit between alone and padded.
        padded_labels: Texts whose decision that changed; ``None`` where nothing is decided.
        batch_size: Texts of a batch, of mixed lengths.
        batched_difference: Largest difference of a logit between alone and in a batch.
        batched_labels: Likewise.
    """

    model: str
    rows: int
    padded_to: int
    padded_difference: float
    padded_labels: int | None
    batch_size: int
    batched_difference: float
    batched_labels: int | None


@dataclass(frozen=True)
class EncoderShape:
    """The sizes that decide what an encoder costs.

    Attributes:
        layers: Number of layers.
        hidden: Width of the hidden states.
        intermediate: Width of the feed-forward net; of a plain one with as many weights where it is gated or stacked,
            or where layers differ.
        attention: Width of all heads together, on average over the layers.
        weight_bytes: The encoder's matrices as they lie in the file.
        one_token: The last layer is computed for one token of a text.
    """

    layers: int
    hidden: int
    intermediate: int
    attention: int
    weight_bytes: int
    one_token: bool = False


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        output_dir: The folder that was written.
        report: The content of ``report/report.json``.
    """

    output_dir: Path
    report: Mapping[str, Any] = field(default_factory=dict)
