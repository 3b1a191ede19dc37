"""The two engines that a model is measured on, each as one callable from numpy to numpy.

Imported in the measuring process alone; an engine imports its framework and nothing of the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.benchmark.plan import EXECUTION_PROVIDERS, Kind, Provider
from compressor.errors import BenchmarkError, ProviderError

Ids = npt.NDArray[np.generic]

# Folders that other tools made may take other integers than ours, which takes int64.
INPUT_TYPES: dict[str, Any] = {"tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(float)": np.float32}


@dataclass(frozen=True)
class Engine:
    """A loaded model.

    Attributes:
        call: Prepared feed to logits of shape (batch, labels); the timed part.
        prepare: Picks the inputs that the model takes and casts them to its types; not timed.
        inputs: Names of those inputs, in the model's order.
        provider: Where the model runs, as the engine says afterwards.
        threads: Size of its pool, as the engine says afterwards.
        import_ms: Importing the framework.
        load_ms: Creating the session or the model.
    """

    call: Callable[[Mapping[str, Any]], npt.NDArray[np.float32]]
    prepare: Callable[[Mapping[str, Ids]], Mapping[str, Any]]
    inputs: tuple[str, ...]
    provider: str
    threads: int
    import_ms: float
    load_ms: float


class Skipped(Exception):
    """A contestant cannot run here, for a reason that is not a fault."""


def open_engine(kind: Kind, path: Path, provider: Provider, threads: int, fed: tuple[str, ...]) -> Engine:
    """Load a model on one provider.

    Args:
        kind: ``torch`` or ``onnx``.
        path: Hugging Face folder or ONNX file.
        provider: ``cpu`` or ``cuda``.
        threads: Threads of the engine.
        fed: Inputs that the tokenizer makes.

    Raises:
        BenchmarkError: The model takes an input that is not fed.
        ProviderError: The session does not run on the provider asked for.
        Skipped: This torch has no CUDA.
    """
    return (_open_torch if kind == "torch" else _open_onnx)(path, provider, threads, fed)


def _open_onnx(path: Path, provider: Provider, threads: int, fed: tuple[str, ...]) -> Engine:
    start = time.perf_counter_ns()
    from compressor.runtime.session import open_session

    imported = time.perf_counter_ns()
    session = open_session(path, provider=provider, threads=threads)
    loaded = time.perf_counter_ns()

    # Read back from onnxruntime, not from what was asked of it.
    actual = session.inner.get_providers()[0]
    if actual != EXECUTION_PROVIDERS[provider]:
        raise ProviderError(
            f"{path.name} was to run on {EXECUTION_PROVIDERS[provider]}, but its session runs on {actual}.",
            "See the CUDA and cuDNN versions that this onnxruntime needs, or measure with --provider cpu.",
        )
    types = {item.name: INPUT_TYPES.get(item.type, np.int64) for item in session.inner.get_inputs()}
    _check_inputs(path, tuple(types), fed)

    def prepare(feed: Mapping[str, Ids]) -> Mapping[str, Any]:
        return {name: np.ascontiguousarray(feed[name], kind) for name, kind in types.items()}

    # The deployed model runs without torch; measuring it beside torch would add its memory and threads.
    if "torch" in sys.modules:
        raise BenchmarkError(f"torch was imported in the process that measures {path.name}.")
    pool = session.inner.get_session_options().intra_op_num_threads
    times = (imported - start) / 1e6, (loaded - imported) / 1e6
    return Engine(session.run, prepare, tuple(types), provider, pool, *times)


def _open_torch(path: Path, provider: Provider, threads: int, fed: tuple[str, ...]) -> Engine:
    start = time.perf_counter_ns()
    import torch
    from transformers import AutoModelForSequenceClassification

    imported = time.perf_counter_ns()
    if provider == "cuda" and not torch.cuda.is_available():
        raise Skipped("this torch has no CUDA")
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32, local_files_only=True)
    model = model.eval().to(provider)
    loaded = time.perf_counter_ns()
    taken = tuple(name for name in fed if name in _forward_names(model))

    @torch.inference_mode()
    def call(feed: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        inputs = {name: torch.from_numpy(ids).to(provider) for name, ids in feed.items()}
        found: npt.NDArray[np.float32] = model(**inputs).logits.cpu().numpy()
        return found

    def prepare(feed: Mapping[str, Ids]) -> Mapping[str, Any]:
        return {name: np.ascontiguousarray(feed[name], np.int64) for name in taken}

    times = (imported - start) / 1e6, (loaded - imported) / 1e6
    return Engine(call, prepare, taken, model.device.type, torch.get_num_threads(), *times)


def _forward_names(model: Any) -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(model.forward).parameters)


def _check_inputs(path: Path, taken: tuple[str, ...], fed: tuple[str, ...]) -> None:
    missing = [name for name in taken if name not in fed]
    if missing:
        raise BenchmarkError(
            f"{path.name} takes the input {missing[0]}, which the tokenizer does not make (it makes {', '.join(fed)})."
        )
