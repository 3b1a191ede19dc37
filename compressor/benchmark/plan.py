"""What is measured, in which order, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from compressor import tasks
from compressor.errors import ProviderError, RecipeError

Kind = Literal["torch", "onnx"]
Provider = Literal["cpu", "cuda"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int4")

COPY_SUFFIX = " (copy)"
"""Marks the second of the two equal models whose difference is the noise floor."""

HALF_SUFFIX = " (fp16)"
"""Marks a torch model that was measured in half precision."""

EXECUTION_PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class MeasuredModel:
    """One contestant.

    Attributes:
        name: As the report names it.
        kind: ``torch`` for a Hugging Face folder run by transformers, ``onnx`` for a file.
        path: The folder or the file.
        providers: Where it may run. int8 that scales activations as it runs has no CUDA kernels: onnxruntime would
            move its nodes to the CPU without a word, so such a model is for the CPU alone.
        precision: That of an ONNX file is in the file; torch computes in this one.
        task: Which head torch loads, and which outputs are computed: those of the task, where the file has them.
    """

    name: str
    kind: Kind
    path: Path
    providers: tuple[Provider, ...] = ("cpu", "cuda")
    precision: Precision = "fp32"
    task: tasks.Kind = "single-label"


@dataclass(frozen=True)
class Budget:
    """How long one process measures one cell of the grid.

    The defaults let five rounds of four MiniLM-sized models finish in about two minutes on two cores
    and leave a 12x768 teacher at 8x128 with four calls per process.

    Attributes:
        warmup_seconds: At most this long until the calls have to be steady.
        warmup_calls: At least this many calls first; each new shape makes onnxruntime allocate.
        timed_seconds: Calls are repeated for at least this long.
        min_calls: At least this many timed calls, however slow they are.
        max_calls: At most this many; the raw samples are kept in the report.
        max_texts: Texts of the test split that stand for its lengths.
        max_tokens: Their tokens together, so that a pass over long documents ends.
        min_texts: Fewer texts do not show a distribution, however long they are.
        timeout_seconds: A process that takes longer hangs.
        repeated_share: At most this share of the processes is run again because others computed meanwhile.
        load_texts: Texts that are sent under load, over and over; they stand for the lengths too.
    """

    warmup_seconds: float = 0.15
    warmup_calls: int = 2
    timed_seconds: float = 0.2
    min_calls: int = 4
    max_calls: int = 200
    max_texts: int = 100
    max_tokens: int = 3000
    min_texts: int = 16
    timeout_seconds: float = 1200.0
    repeated_share: float = 0.3
    load_texts: int = 24

    @property
    def load_seconds(self) -> float:
        """Texts are sent for at least this long, and then until each was sent equally often."""
        return 2 * self.timed_seconds


def contestants(
    models: Sequence[MeasuredModel], providers: Sequence[Provider], noise_pair: bool
) -> tuple[tuple[MeasuredModel, Provider], ...]:
    """List every model on every provider it may run on, the copy for the noise floor first.

    The last ONNX model is the one that is copied: the smallest model's calls are the shortest,
    and short calls are the noisiest. The copy stands first, far from its original, so that slow
    drifts of the machine (heat, neighbours) are part of the noise.

    A torch model runs on CUDA in fp16 as well: a GPU is bought for half precision, and a speed-up over
    fp32 alone would flatter.
    """
    found = [
        (variant, provider)
        for provider in providers
        for model in models
        if provider in model.providers
        for variant in _variants(model, provider)
    ]
    original = next((model for model, provider in reversed(found) if model.kind == "onnx" and provider == "cpu"), None)
    if noise_pair and original is not None:
        copy = replace(original, name=original.name + COPY_SUFFIX, providers=("cpu",))
        found.insert(0, (copy, "cpu"))
    return tuple(found)


def _variants(model: MeasuredModel, provider: Provider) -> tuple[MeasuredModel, ...]:
    if model.kind != "torch" or provider != "cuda" or model.precision != "fp32":
        return (model,)
    return model, replace(model, name=model.name + HALF_SUFFIX, precision="fp16")


def original_name(name: str) -> str:
    """Name the model that a copy or a half-precision variant was made of."""
    return name.removesuffix(COPY_SUFFIX).removesuffix(HALF_SUFFIX)


def schedule(count: int, rounds: int) -> tuple[tuple[int, ...], ...]:
    """Order the models of each round: forwards and backwards in turn.

    A steady drift of the machine then weighs on the first and the last model alike.
    """
    forwards = tuple(range(count))
    return tuple(forwards if index % 2 == 0 else forwards[::-1] for index in range(rounds))


def check_providers(asked: Provider, available: Sequence[str]) -> tuple[Provider, ...]:
    """Decide the providers to measure on.

    Args:
        asked: The recipe's provider.
        available: What onnxruntime says it has.

    Returns:
        The CPU, and CUDA behind it where it was asked for.

    Raises:
        ProviderError: CUDA was asked for and this onnxruntime does not have it.
    """
    if asked == "cpu":
        return ("cpu",)
    if EXECUTION_PROVIDERS[asked] not in available:
        raise ProviderError(
            f"Provider {asked} was asked for, but this onnxruntime has only {', '.join(available)}.",
            "Install onnxruntime-gpu in place of onnxruntime, or measure with --provider cpu.",
        )
    return ("cpu", asked)


def thread_budget(asked: int | None, available: int) -> int:
    """Decide the number of threads that every model gets.

    Args:
        asked: The recipe's number, if any.
        available: Cores that affinity and control groups leave to this process.

    Raises:
        RecipeError: More were asked for than there are; such figures would not repeat anywhere.
    """
    if asked is not None and asked > available:
        raise RecipeError(
            f"--threads {asked}: this process may use {available} core{'s' if available > 1 else ''}.",
            f"Ask for at most {available}; affinity and container limits count.",
        )
    return asked or available
