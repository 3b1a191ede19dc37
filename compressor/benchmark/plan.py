"""What is measured, in which order, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compressor.errors import ProviderError, RecipeError

Kind = Literal["torch", "onnx"]
Provider = Literal["cpu", "cuda"]

COPY_SUFFIX = " (copy)"
"""Marks the second of the two equal models whose difference is the noise floor."""

EXECUTION_PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class MeasuredModel:
    """One contestant.

    Attributes:
        name: As the report names it.
        kind: ``torch`` for a Hugging Face folder run by transformers in fp32, ``onnx`` for a file.
        path: The folder or the file.
        providers: Where it may run. Dynamic int8 has no CUDA kernels: onnxruntime would move its
            nodes to the CPU without a word, so an int8 model is for the CPU alone.
    """

    name: str
    kind: Kind
    path: Path
    providers: tuple[Provider, ...] = ("cpu", "cuda")


@dataclass(frozen=True)
class Budget:
    """How long one process measures one cell of the grid.

    The defaults let four MiniLM-sized models finish in about a minute on two cores and leave a
    12x768 teacher at 8x128 with four calls per process.

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


def contestants(
    models: Sequence[MeasuredModel], providers: Sequence[Provider], noise_pair: bool
) -> tuple[tuple[MeasuredModel, Provider], ...]:
    """List every model on every provider it may run on, the copy for the noise floor first.

    The last ONNX model is the one that is copied: the smallest model's calls are the shortest,
    and short calls are the noisiest. The copy stands first, far from its original, so that slow
    drifts of the machine (heat, neighbours) are part of the noise.
    """
    found = [(model, provider) for provider in providers for model in models if provider in model.providers]
    original = next((model for model, provider in reversed(found) if model.kind == "onnx" and provider == "cpu"), None)
    if noise_pair and original is not None:
        copy = MeasuredModel(original.name + COPY_SUFFIX, original.kind, original.path, ("cpu",))
        found.insert(0, (copy, "cpu"))
    return tuple(found)


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
