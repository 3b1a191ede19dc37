"""What the processor can do, and what this process may use of it. Standard library only."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

InstructionSet = Literal["any", "avx2", "avx512", "avx512_vnni", "arm64"]

_HOST = Path("/")


def available_cores(root: Path = _HOST) -> int:
    """Count the cores that this process may keep busy.

    The smaller of the CPU affinity and the cgroup quota. A quota of 1.5 cores counts as 1: a second thread
    would use up the quota early and stall both until the next period, which shows in the slowest calls.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.

    Returns:
        At least 1.
    """
    quota = cpu_quota(root)
    return max(1, affinity() if quota is None else min(affinity(), int(quota)))


def affinity() -> int:
    """Count the cores that this process may be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = _HOST) -> float | None:
    """Read how many cores' worth of time the control groups grant (version 1 and 2, the tightest of all levels).

    Returns:
        Cores, possibly a fraction; ``None`` without a limit.
    """
    found = []
    for folder in control_groups("cpu", root):
        limit, _, period = read_text(folder / "cpu.max").strip().partition(" ")
        limit = limit or read_text(folder / "cpu.cfs_quota_us").strip()
        period = period or read_text(folder / "cpu.cfs_period_us").strip()
        if limit.isdigit() and period.isdigit() and int(period) > 0:
            found.append(int(limit) / int(period))
    return min(found, default=None)


def detect_target(root: Path = _HOST, machine: str | None = None) -> InstructionSet:
    """Name the instruction set that int8 weights should be chosen for on this machine.

    ``avx_vnni`` without AVX-512 counts as ``avx2``: the weights that are right without VNNI are right with it.

    Args:
        root: Where ``proc`` is mounted.
        machine: The machine's name, as ``platform.machine`` gives it.

    Returns:
        ``any`` where the processor does not tell, which is the choice that is right everywhere.
    """
    if (machine or platform.machine()).lower() in ("arm64", "aarch64"):
        return "arm64"
    flags = cpu_flags(root)
    if {"avx512f", "avx512_vnni"} <= flags:
        return "avx512_vnni"
    if {"avx512f", "avx512bw"} <= flags:
        return "avx512"
    return "avx2" if "avx2" in flags else "any"


def has_vnni(root: Path = _HOST) -> bool:
    """Tell whether the processor adds int8 products in 32 bits (AVX-512 VNNI or AVX-VNNI).

    Returns:
        False as well where the processor cannot be looked at.
    """
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(cpu_flags(root))


def cpu_flags(root: Path = _HOST) -> frozenset[str]:
    """Read the processor's flags, spelt as Linux spells them; empty where they are not told."""
    if platform.system() == "Darwin":
        told = read_sysctl("machdep.cpu.features") + " " + read_sysctl("machdep.cpu.leaf7_features")
        return frozenset(told.lower().replace("avx512vnni", "avx512_vnni").replace("avx1.0", "avx").split())
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", read_text(root / "proc/cpuinfo"), flags=re.MULTILINE)
    return frozenset(match.group(1).split()) if match else frozenset()


def control_groups(controller: str, root: Path = _HOST) -> Iterator[Path]:
    """List the folders of this process's control groups, up to the mount, for both versions and their mixture.

    Args:
        controller: For example ``cpu`` or ``memory``.
        root: Where ``proc`` and ``sys`` are mounted.
    """
    mounts = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 1 mounts joint controllers under their joint name and links the single ones.
        bases = (mounts / controllers, mounts / controller) if controllers else (mounts, mounts / "unified")
        # Inside a container the group's path may be the host's, with only its end mounted here: the mount
        # itself is looked at in any case.
        path = PurePosixPath(group.lstrip("/"))
        for base in dict.fromkeys(bases):
            yield from (base / part for part in (path, *path.parents) if ".." not in part.parts)


def read_text(path: Path) -> str:
    """Read a file of the system; what cannot be read is empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_sysctl(name: str) -> str:
    """Ask macOS for a value; what it does not know is empty."""
    try:
        told = subprocess.run(["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()
