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
from typing import Any, Literal

InstructionSet = Literal["any", "avx2", "avx512", "avx512_vnni", "arm64"]

PACKAGES = (
    "compressor",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "optimum",
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


def detect_target() -> InstructionSet:
    """Name the instruction set that int8 weights should be chosen for on this machine.

    Returns:
        ``any`` where the processor does not tell, which is the choice that is right everywhere.
    """
    return target_of(platform.machine(), cpu_flags())


def target_of(machine: str, flags: frozenset[str]) -> InstructionSet:
    """Decide the instruction set from the machine's name and its processor flags.

    ``avx_vnni`` without AVX-512 counts as ``avx2``: the weights that are right without VNNI are
    right with it, and older onnxruntime versions do not use it.
    """
    if machine.lower() in ("arm64", "aarch64"):
        return "arm64"
    if {"avx512f", "avx512_vnni"} <= flags:
        return "avx512_vnni"
    if {"avx512f", "avx512bw"} <= flags:
        return "avx512"
    return "avx2" if "avx2" in flags else "any"


def cpu_flags() -> frozenset[str]:
    """Read the processor's flags, spelt as Linux spells them; empty where they are not told."""
    if platform.system() == "Darwin":
        told = _sysctl("machdep.cpu.features") + " " + _sysctl("machdep.cpu.leaf7_features")
        return frozenset(told.lower().replace("avx512vnni", "avx512_vnni").replace("avx1.0", "avx").split())
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", _text("/proc/cpuinfo"), flags=re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()


def cpu_model() -> str | None:
    """Read the processor's name."""
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string") or None
    match = re.search(r"^(?:model name|Model|Hardware)\s*:(.*)$", _text("/proc/cpuinfo"), flags=re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or None


def affinity() -> int | None:
    """Count the cores that this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Read how many cores' worth of time the control groups grant, the tightest of all levels.

    Args:
        root: Where the control groups are mounted, version 1 or 2.
        membership: The file that names this process's groups.

    Returns:
        Cores, possibly a fraction; ``None`` without a limit.
    """
    found = []
    for folder in _cgroup_folders(root, membership, "cpu"):
        limit, _, period = _text(folder / "cpu.max").strip().partition(" ")
        limit = limit or _text(folder / "cpu.cfs_quota_us").strip()
        period = period or _text(folder / "cpu.cfs_period_us").strip()
        if limit.isdigit() and period.isdigit() and int(period) > 0:
            found.append(int(limit) / int(period))
    return min(found, default=None)


def busy_seconds() -> float | None:
    """Read the processor seconds spent by all processes of the machine since it started.

    Two readings, less one's own share, tell whether somebody else computed in between.

    Returns:
        ``None`` where the system does not tell.
    """
    match = re.match(r"cpu\s+(\d+) (\d+) (\d+) \d+ \d+ (\d+) (\d+) (\d+)", _text("/proc/stat"))
    return sum(int(part) for part in match.groups()) / os.sysconf("SC_CLK_TCK") if match else None


# --- memory, container, accelerators --------------------------------------------------------


def _memory_bytes() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _memory_limit_bytes(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    found = []
    for folder in _cgroup_folders(root, membership, "memory"):
        limit = (_text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")).strip()
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
    groups = _text("/proc/1/cgroup")
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


# --- reading --------------------------------------------------------------------------------


def _cgroup_folders(root: Path, membership: Path, controller: str) -> list[Path]:
    """List the folders of this process's groups from the root down, for both versions and their mixture."""
    folders: list[Path] = []
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 1 mounts joint controllers under their joint name and links the single ones.
        # Inside a container the host's path may not exist; its own limit is then at the base.
        parts = [part for part in path.split("/") if part and part != ".."]
        bases = (root / controllers, root / controller) if controllers else (root, root / "unified")
        for base in bases:
            folders += [base.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return list(dict.fromkeys(folders))


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    try:
        command = ["/usr/sbin/sysctl", "-n", name]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
