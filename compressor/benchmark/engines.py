"""The two engines that a model is measured on, each as one callable from numpy to numpy.

Imported in the measuring process alone; an engine imports its framework and nothing of the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.benchmark.placement import check_placement, nodes_by_provider, read_placement
from compressor.benchmark.plan import EXECUTION_PROVIDERS, Kind, Precision, Provider
from compressor.errors import BenchmarkError, ProviderError
from compressor.tasks import TASKS
from compressor.tasks import Kind as TaskKind

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.generic]

# Folders that other tools made may take other integers than ours, which takes int64.
INPUT_TYPES: dict[str, Any] = {"tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(float)": np.float32}


@dataclass(frozen=True)
class Engine:
    """A loaded model.

    Attributes:
        call: Prepared feed to the outputs of the model's task, for a classifier its logits of shape
            (batch, labels) alone; the timed part.
        prepare: Picks the inputs that the model takes and casts them to its types; not timed.
        inputs: Names of those inputs, in the model's order.
        provider: Where the model runs, as the engine says afterwards.
        threads: Size of its pool, as the engine says afterwards.
        import_ms: Importing the framework.
        load_ms: Creating the session or the model.
        join: Told the number of concurrent callers by each of them, in its own thread.
        nodes: Nodes by execution provider; empty for torch.
    """

    call: Callable[[Mapping[str, Any]], Sequence[Floats]]
    prepare: Callable[[Mapping[str, Ids]], Mapping[str, Any]]
    inputs: tuple[str, ...]
    provider: str
    threads: int
    import_ms: float
    load_ms: float
    join: Callable[[int], None] = lambda clients: None
    nodes: Mapping[str, int] = field(default_factory=dict)


class Skipped(Exception):
    """A contestant cannot run here, for a reason that is not a fault."""


def open_engine(
    kind: Kind,
    path: Path,
    provider: Provider,
    threads: int,
    fed: tuple[str, ...],
    precision: Precision = "fp32",
    task: TaskKind = "single-label",
) -> Engine:
    """Load a model on one provider.

    Args:
        kind: ``torch`` or ``onnx``.
        path: Hugging Face folder or ONNX file.
        provider: ``cpu`` or ``cuda``.
        threads: Threads of the engine.
        fed: Inputs that the tokenizer makes.
        precision: That torch computes in; an ONNX file has its own.
        task: What the model does. Of a file that lacks an output of the task, all outputs are computed.

    Raises:
        BenchmarkError: The model takes an input that is not fed.
        ProviderError: The session, or a node that matters, does not run on the provider asked for.
        Skipped: This torch has no CUDA.
    """
    if kind == "torch":
        return _open_torch(path, provider, threads, fed, precision, task)
    return _open_onnx(path, provider, threads, fed, task)


def _open_onnx(path: Path, provider: Provider, threads: int, fed: tuple[str, ...], task: TaskKind) -> Engine:
    start = time.perf_counter_ns()
    from compressor.runtime.session import open_session

    imported = time.perf_counter_ns()
    session = open_session(path, provider=provider, threads=threads, record_placement=True)
    loaded = time.perf_counter_ns()

    # Read back from onnxruntime, not from what was asked of it.
    actual = session.inner.get_providers()[0]
    if actual != EXECUTION_PROVIDERS[provider]:
        raise ProviderError(
            f"{path.name} was to run on {EXECUTION_PROVIDERS[provider]}, but its session runs on {actual}.",
            "See the CUDA and cuDNN versions that this onnxruntime needs, or measure with --provider cpu.",
        )
    placed = read_placement(session.inner)
    check_placement(path.name, provider, placed)
    types = {item.name: INPUT_TYPES.get(item.type, np.int64) for item in session.inner.get_inputs()}
    _check_inputs(path, tuple(types), fed)

    wanted = TASKS[task].outputs
    outputs = wanted if set(wanted) <= set(session.outputs) else session.outputs

    def prepare(feed: Mapping[str, Ids]) -> Mapping[str, Any]:
        return {name: np.ascontiguousarray(feed[name], kind) for name, kind in types.items()}

    # The deployed model runs without torch; measuring it beside torch would add its memory and threads.
    if "torch" in sys.modules:
        raise BenchmarkError(f"torch was imported in the process that measures {path.name}.")
    pool = session.inner.get_session_options().intra_op_num_threads
    return Engine(
        call=lambda feed: session.run_all(feed, outputs),
        prepare=prepare,
        inputs=tuple(types),
        provider=provider,
        threads=pool,
        import_ms=(imported - start) / 1e6,
        load_ms=(loaded - imported) / 1e6,
        nodes=nodes_by_provider(placed or ()),
    )


def _open_torch(
    path: Path, provider: Provider, threads: int, fed: tuple[str, ...], precision: Precision, task: TaskKind
) -> Engine:
    start = time.perf_counter_ns()
    import torch

    from compressor import heads

    if provider == "cuda" and not torch.cuda.is_available():
        raise Skipped("this torch has no CUDA")
    imported = time.perf_counter_ns()
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    if provider == "cuda":
        # onnxruntime's CUDA provider multiplies fp32 matrices in TF32 unless told otherwise; torch does not.
        torch.set_float32_matmul_precision("high")
    model: Any = heads.load(TASKS[task], path, dtype=torch.float16 if precision == "fp16" else torch.float32)[0]
    model = model.to(provider)
    loaded = time.perf_counter_ns()
    taken = tuple(name for name in fed if name in heads.inputs_of(model))

    @torch.inference_mode()
    def call(feed: Mapping[str, Any]) -> list[Floats]:
        inputs = {name: torch.from_numpy(ids).to(provider) for name, ids in feed.items()}
        # Coming back to the CPU waits for the GPU.
        return [output.float().cpu().numpy() for output in heads.outputs(TASKS[task], model(**inputs))]

    def prepare(feed: Mapping[str, Ids]) -> Mapping[str, Any]:
        return {name: np.ascontiguousarray(feed[name], np.int64) for name in taken}

    def join(clients: int) -> None:
        # Every calling thread gets a team of threads of its own; together they have the model's budget.
        torch.set_num_threads(max(1, threads // clients))

    return Engine(
        call=call,
        prepare=prepare,
        inputs=taken,
        provider=model.device.type,
        threads=torch.get_num_threads(),
        import_ms=(imported - start) / 1e6,
        load_ms=(loaded - imported) / 1e6,
        join=join,
    )


def _check_inputs(path: Path, taken: tuple[str, ...], fed: tuple[str, ...]) -> None:
    missing = [name for name in taken if name not in fed]
    if missing:
        raise BenchmarkError(
            f"{path.name} takes the input {missing[0]}, which the tokenizer does not make (it makes {', '.join(fed)})."
        )
