"""What this process may use of the machine that it runs on."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cores(root: Path = Path("/")) -> int:
    """Count the cores that this process may keep busy.

    The smaller of the CPU affinity and the cgroup quota (version 1 and 2, of the process's own group and
    of every group above it). A quota of 1.5 cores counts as 1: a second thread would use up the quota
    early and stall both until the next period, which shows in the slowest calls.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.

    Returns:
        At least 1.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(int(quota) for quota in _quotas(root))]))


def has_vnni(root: Path = Path("/")) -> bool:
    """Tell whether the processor adds int8 products in 32 bits (AVX-512 VNNI or AVX-VNNI).

    Returns:
        False as well where the processor cannot be looked at.
    """
    lines = _read(root / "proc/cpuinfo").splitlines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def _quotas(root: Path) -> Iterator[float]:
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            for folder in (*_upwards(mounts, group), *_upwards(mounts / "unified", group)):
                quota, *period = _read(folder / "cpu.max").split() or ["max"]
                if quota != "max" and period:
                    yield int(quota) / int(period[0])
        elif "cpu" in controllers.split(","):
            for folder in (*_upwards(mounts / "cpu", group), *_upwards(mounts / controllers, group)):
                quota, limit = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
                if quota and limit and int(quota) > 0:
                    yield int(quota) / int(limit)


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    # Inside a container the group's path may be the host's, with only its end mounted here: the mount
    # itself is looked at in any case.
    path = PurePosixPath(group.lstrip("/"))
    for part in (path, *path.parents):
        yield mount / part


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
