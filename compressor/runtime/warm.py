"""Warm start: a graph as onnxruntime has optimised it for this machine, kept for the next process."""

from __future__ import annotations

import hashlib
import platform
import uuid
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _raised

from compressor.runtime.machine import cpu_flags

# onnxruntime's exceptions have no common base below Exception.
FAILURES: tuple[type[Exception], ...] = (
    _raised.EPFail,
    _raised.EngineError,
    _raised.Fail,
    _raised.InvalidArgument,
    _raised.InvalidGraph,
    _raised.InvalidProtobuf,
    _raised.NoModel,
    _raised.NoSuchFile,
    _raised.NotImplemented,
    _raised.RuntimeException,
    RuntimeError,
    ValueError,
)
_UNWRITTEN: tuple[type[Exception], ...] = (OSError, *FAILURES)


def kept_graph(folder: Path, sha256: Sequence[str], provider: str) -> Path:
    """Name the file for an optimised graph after all that it depends on.

    Args:
        folder: Where optimised graphs are kept. Whoever can write there can change what the model answers.
        sha256: Of each file of the model.
        provider: Where it runs: ``cpu`` or ``cuda``.

    Returns:
        A file of the folder; another one for another model, onnxruntime, provider or processor.
    """
    told = "\n".join([*sha256, onnxruntime.__version__, provider, platform.machine(), *sorted(cpu_flags())])
    return folder / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.onnx"


def start(
    path: Path, kept: Path | None, options: Callable[[], onnxruntime.SessionOptions], providers: Sequence[Any]
) -> onnxruntime.InferenceSession:
    """Make a session, from the optimised graph where there is one.

    A kept graph that does not load is written anew. One that cannot be written, on a full disk for example, is a
    ``RuntimeWarning``: the model itself is there.

    Args:
        path: The ONNX file.
        kept: Where its optimised graph is, or is to be; its folder is made. ``None``: nowhere.
        options: Makes the session's options.
        providers: As onnxruntime takes them.

    Raises:
        FAILURES: onnxruntime does not take the file.
    """
    if kept is None:
        return _session(path, options(), providers)
    if kept.is_file():
        ready = options()
        ready.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return _session(kept, ready, providers)
        except FAILURES:
            pass  # written anew below
    # Aside, so that a process that starts at the same time never reads half of it.
    aside = kept.with_name(f".{kept.stem}.{uuid.uuid4().hex}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        aside.touch()
    except OSError as error:
        return _cold(path, options(), providers, kept, error)
    saving = options()
    saving.optimized_model_filepath = str(aside)
    try:
        inner = _session(path, saving, providers)
        aside.replace(kept)
    except _UNWRITTEN as error:
        # A model that is itself at fault fails again, and says so.
        return _cold(path, options(), providers, kept, error)
    finally:
        aside.unlink(missing_ok=True)
    return inner


def _cold(
    path: Path, options: onnxruntime.SessionOptions, providers: Sequence[Any], kept: Path, error: Exception
) -> onnxruntime.InferenceSession:
    inner = _session(path, options, providers)
    warnings.warn(f"No warm start: {kept} cannot be written ({error}).", RuntimeWarning, stacklevel=4)
    return inner


def _session(path: Path, options: onnxruntime.SessionOptions, providers: Sequence[Any]) -> onnxruntime.InferenceSession:
    # Without enable_fallback=0 a provider that fails is replaced by the CPU, with a message on stdout.
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers), enable_fallback=0)
