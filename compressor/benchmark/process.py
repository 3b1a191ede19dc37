"""Starting one measuring process and reading its answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compressor
from compressor.errors import BenchmarkError, CompressorError, ProviderError

# Every pool that a library opens by its own judgement gets the same size as the measured engine.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
STDERR_LINES = 8


def run_process(module: str, job: Mapping[str, Any], threads: int, label: str, timeout: float) -> dict[str, Any]:
    """Run a module in a fresh Python process with a job on stdin.

    The caller sleeps meanwhile. The process ends with this call, however the call ends.

    Args:
        module: Dotted name, run as with ``python -m``.
        job: Values that JSON can hold.
        threads: Size of every thread pool in the process.
        label: Names the process in an error.
        timeout: Seconds after which the process counts as hanging.

    Returns:
        The process's JSON answer.

    Raises:
        BenchmarkError: It crashed, was killed, hung or answered nonsense; its last words are told.
        ProviderError: Its session runs elsewhere than asked.
    """
    # -P: a file named like a library in the user's folder must not be imported in its place.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment(threads, os.environ),
    )
    try:
        out, err = process.communicate(json.dumps(job), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"Measuring {label} took longer than {timeout:.0f} s and was stopped.") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        raise BenchmarkError(f"Measuring {label} failed: its process {_ending(process.returncode)}.{_last_words(err)}")
    try:
        answer: dict[str, Any] = json.loads(out)
    except json.JSONDecodeError:
        raise BenchmarkError(
            f"Measuring {label} failed: its process answered {out[:80]!r}.{_last_words(err)}"
        ) from None
    if "error" in answer:
        raise _error(label, answer["error"])
    return answer


def environment(threads: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Make the environment of a measuring process from the caller's."""
    package = str(Path(compressor.__file__).parent.parent)
    paths = [package, *filter(None, [inherited.get("PYTHONPATH")])]
    return {
        **inherited,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    name = signal.Signals(-returncode).name if -returncode in signal.valid_signals() else str(-returncode)
    return f"was killed by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def _last_words(err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()][-STDERR_LINES:]
    return "\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def _error(label: str, told: Mapping[str, str]) -> CompressorError:
    kind = ProviderError if told["type"] == ProviderError.__name__ else BenchmarkError
    return kind(f"Measuring {label} failed: {told['message']}", told["remedy"])
