"""The one place where an onnxruntime session is made: what is measured is what ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _raised

from compressor.errors import CompressorError, ManifestError, ProviderError, UserError
from compressor.runtime import warm
from compressor.runtime.binding import bound_call
from compressor.runtime.machine import available_cores, has_vnni
from compressor.runtime.warm import FAILURES

Provider = Literal["cpu", "cuda"]

PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# Key and value of the metadata of an int8 file, as protobuf writes them.
_BOUNDED = b"compressor.weights\x12\x07bounded"
_HEAD_BYTES = 1 << 12

# A failing call is logged and raised; the exception says it all.
_FATAL = 4


@dataclass(frozen=True)
class Session:
    """An ONNX model that is ready to run; safe for concurrent callers.

    Attributes:
        path: The file that it was loaded from.
        provider: Where it runs, as onnxruntime confirmed it.
        threads: Threads of one call.
        inputs: Names of the model's inputs, in its order.
        outputs: Names of the model's outputs, in its order.
        inner: onnxruntime's own session.
        kept: Where its optimised graph is kept, if anywhere.
    """

    path: Path
    provider: Provider
    threads: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inner: onnxruntime.InferenceSession = field(repr=False)
    kept: Path | None
    _call: Callable[[Sequence[str], Mapping[str, Any]], Sequence[Any]] = field(repr=False)

    def run(self, feeds: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """Compute the model's first output.

        Args:
            feeds: One array of shape (batch, sequence) for each of ``inputs``.

        Returns:
            The output, for a classifier its logits of shape (batch, labels).

        Raises:
            CompressorError: onnxruntime refused the call.
        """
        return self.run_all(feeds, self.outputs[:1])[0]

    def run_all(
        self, feeds: Mapping[str, npt.NDArray[np.int64]], names: Sequence[str] = ()
    ) -> tuple[npt.NDArray[np.float32], ...]:
        """Compute several outputs.

        Args:
            feeds: One array of shape (batch, sequence) for each of ``inputs``.
            names: Which outputs; all of them where none is named. What is not asked for is not computed.

        Returns:
            The outputs, in the order of the names.

        Raises:
            CompressorError: onnxruntime refused the call.
        """
        try:
            found = self._call(list(names or self.outputs), feeds)
        except FAILURES as error:
            shapes = ", ".join(f"{name} {'x'.join(map(str, value.shape))}" for name, value in feeds.items())
            raise CompressorError(f"{self.path} failed on {shapes}: {_reason(error)}") from error
        return tuple(np.asarray(output, dtype=np.float32) for output in found)


def open_session(
    path: Path,
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    record_placement: bool = False,
    kept: Path | None = None,
) -> Session:
    """Load an ONNX model.

    Args:
        path: The ONNX file.
        provider: Where it must run; there is no silent fall-back.
        threads: Threads of one call. Default: the cores that this process may use.
        record_placement: Let ``inner.get_provider_graph_assignment_info()`` tell which node runs where.
        kept: A file for the graph as onnxruntime has optimised it, which is loaded in place of ``path`` where it
            stands, and written where it does not. The caller names it after what it depends on: ``warm.kept_graph``.

    Raises:
        ManifestError: The file is missing or is not a model that this onnxruntime can load.
        ProviderError: The provider is not there.
        UserError: The number of threads is not one.
    """
    if threads is not None and threads < 1:
        raise UserError(f"{threads} threads cannot run a model.", "Ask for at least 1, or for none to use all cores.")
    wanted = _available(provider)
    count = threads or available_cores()
    try:
        inner = warm.start(path, kept, lambda: _options(path, count, record_placement), wanted)
    except FAILURES as error:
        if provider != "cpu" and not isinstance(error, (_raised.InvalidProtobuf, _raised.NoSuchFile)):
            raise ProviderError(f"The {provider} provider failed to start: {_reason(error)}", _CUDA_REMEDY) from error
        raise ManifestError(
            f"{path} cannot be loaded by onnxruntime {onnxruntime.__version__}: {_reason(error)}",
            "Download or copy the file again, or export the model anew.",
        ) from error
    _confirm(provider, inner.get_providers())
    return Session(
        path=path,
        provider=provider,
        threads=count,
        inputs=tuple(item.name for item in inner.get_inputs()),
        outputs=tuple(item.name for item in inner.get_outputs()),
        inner=inner,
        kept=kept,
        _call=_caller(inner, provider),
    )


_CUDA_REMEDY = (
    "Check nvidia-smi, and that CUDA and cuDNN are installed: pip install 'onnxruntime-gpu[cuda,cudnn]'. "
    "Or use --provider cpu."
)


def _available(provider: Provider) -> list[Any]:
    if provider not in PROVIDERS:
        raise ProviderError(f"Provider {provider!r} is not known.", f"Choose one of {', '.join(PROVIDERS)}.")
    built = onnxruntime.get_available_providers()
    if PROVIDERS[provider] not in built:
        raise ProviderError(
            f"The {provider} provider was asked for, but this onnxruntime {onnxruntime.__version__} "
            f"was built with {', '.join(built)} only.",
            "Install the GPU build in its place: pip uninstall onnxruntime, then pip install onnxruntime-gpu. "
            "Or use --provider cpu.",
        )
    if provider == "cpu":
        return [PROVIDERS["cpu"]]
    # Finds CUDA and cuDNN where pip has installed them.
    getattr(onnxruntime, "preload_dlls", lambda: None)()
    # The CPU stays behind it for the few nodes on shapes, which onnxruntime keeps there on purpose.
    return [(PROVIDERS["cuda"], {"arena_extend_strategy": "kSameAsRequested"}), PROVIDERS["cpu"]]


def _confirm(provider: Provider, obtained: list[str]) -> None:
    if not obtained or obtained[0] != PROVIDERS[provider]:
        raise ProviderError(
            f"The {provider} provider was asked for, but the session runs on {', '.join(obtained)}.", _CUDA_REMEDY
        )


def _options(path: Path, threads: int, record_placement: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # A memory pattern is kept for each shape met, and real texts come in hundreds of shapes.
    options.enable_mem_pattern = False
    # Threads spin during a call, which is fast, and rest after it: otherwise they take the cores
    # from the caller and from every other session of the process.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if record_placement:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not has_vnni() and not _is_bounded(path):
        # Without VNNI, products of unsigned activations and signed weights saturate at 16 bits and the
        # labels are wrong. This turns such weights into unsigned ones while loading; 7-bit and unsigned
        # weights are left alone. Elsewhere it would only cost speed.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _is_bounded(path: Path) -> bool:
    """Whether a file says that its weights were chosen so that nothing saturates; its metadata is at its start."""
    try:
        with path.open("rb") as stream:
            return _BOUNDED in stream.read(_HEAD_BYTES)
    except OSError:
        return False  # onnxruntime says what is wrong with it


def _caller(
    inner: onnxruntime.InferenceSession, provider: Provider
) -> Callable[[Sequence[str], Mapping[str, Any]], Sequence[Any]]:
    options = _run_options(provider)
    if provider == "cpu":
        return lambda names, feeds: inner.run(names, feeds, options)
    return bound_call(inner, provider, options)


def _run_options(provider: Provider) -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL
    if provider == "cpu":
        # Scratch memory goes back after each call, so that one long batch is not paid for ever after.
        # It costs no time that can be measured on the CPU; freeing device memory would.
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _reason(error: Exception) -> str:
    # "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from ... failed:Protobuf parsing failed."
    return str(error).rsplit(" : ", 1)[-1].strip()
