"""The machine and the versions that a figure belongs to. Standard library only at import."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compressor.runtime.machine import (
    affinity,
    control_groups,
    cpu_flags,
    cpu_quota,
    detect_target,
    read_sysctl,
    read_text,
)

PACKAGES = (
    "compressor",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
)

# What decides the speed of a matrix product, by the kernel's names for it (x86, then Arm).
SPEED_FLAGS = (
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)


def fingerprint() -> Mapping[str, Any]:
    """Describe this machine and the installed versions, as values that JSON can hold.

    Nothing heavy is imported: versions come from the packages' metadata.

    Returns:
        ``date`` (UTC, ISO 8601), ``os``, ``python``, ``cpu`` (model, instruction set, flags, cores),
        ``memory_bytes``, ``memory_limit_bytes``, ``container``, ``virtual_machine``, ``gpus``,
        ``onnxruntime_providers`` and ``versions``. What cannot be found out is ``None`` or empty.
    """
    flags = cpu_flags()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu": {
            "model": cpu_model(),
            "machine": platform.machine(),
            "instruction_set": detect_target(),
            "flags": [flag for flag in SPEED_FLAGS if flag in flags],
            "cores": os.cpu_count(),
            "affinity": affinity(),
            "quota": cpu_quota(),
        },
        "memory_bytes": _memory_bytes(),
        "memory_limit_bytes": _memory_limit_bytes(),
        "container": container(),
        "virtual_machine": "hypervisor" in flags,
        "gpus": gpus(),
        "onnxruntime_providers": onnxruntime_providers(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Map each installed package of ``PACKAGES`` to its version; absent ones are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- processor ------------------------------------------------------------------------------


def cpu_model() -> str | None:
    """Read the processor's name."""
    if platform.system() == "Darwin":
        return read_sysctl("machdep.cpu.brand_string") or None
    match = re.search(r"^(?:model name|Model|Hardware)\s*:(.*)$", read_text(Path("/proc/cpuinfo")), flags=re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or None


def busy_seconds() -> float | None:
    """Read the processor seconds spent by all processes of the machine since it started.

    Two readings, less one's own share, tell whether somebody else computed in between.

    Returns:
        ``None`` where the system does not tell.
    """
    match = re.match(r"cpu\s+(\d+) (\d+) (\d+) \d+ \d+ (\d+) (\d+) (\d+)", read_text(Path("/proc/stat")))
    return sum(int(part) for part in match.groups()) / os.sysconf("SC_CLK_TCK") if match else None


# --- memory, container, accelerators --------------------------------------------------------


def _memory_bytes() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _memory_limit_bytes() -> int | None:
    found = []
    for folder in control_groups("memory"):
        limit = (read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")).strip()
        # Version 1 writes "no limit" as the largest page-aligned number.
        if limit.isdigit() and int(limit) < 1 << 60:
            found.append(int(limit))
    return min(found, default=None)


def container() -> str | None:
    """Name the kind of container that this process seems to run in."""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    groups = read_text(Path("/proc/1/cgroup"))
    return next((name for name in ("docker", "kubepods", "containerd", "lxc") if name in groups), None)


def gpus() -> list[str]:
    """List the NVIDIA GPUs that the driver's own tool names; empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.splitlines() if line.strip()]


def onnxruntime_providers() -> list[str]:
    """List the execution providers of the installed onnxruntime; empty without it."""
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())
