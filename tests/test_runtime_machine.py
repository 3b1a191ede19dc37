"""Threads follow what the process may use, not what the host has."""

import os
from pathlib import Path

import pytest

from compressor.runtime.machine import available_cores, cpu_quota, detect_target, has_vnni


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V1 = "sys/fs/cgroup/cpu,cpuacct/box"

CASES = {
    "without cgroups the affinity counts": ({}, 8),
    "no quota in version 2": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "a quota of two cores in version 2": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2,
    ),
    "a quota of a core and a half is one core": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        1,
    ),
    "a quota below one core still leaves one thread": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"},
        1,
    ),
    "the quota of a group above counts as well": (
        {
            "proc/self/cgroup": "0::/pod/box\n",
            "sys/fs/cgroup/pod/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000\n",
        },
        3,
    ),
    "a container that sees the host's path finds its own mount": (
        {"proc/self/cgroup": "0::/docker/4f2a\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"},
        4,
    ),
    "a quota in version 1": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/box\n2:memory:/box\n",
            f"{V1}/cpu.cfs_quota_us": "500000",
            f"{V1}/cpu.cfs_period_us": "100000",
        },
        5,
    ),
    "no quota in version 1": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/box\n",
            f"{V1}/cpu.cfs_quota_us": "-1",
            f"{V1}/cpu.cfs_period_us": "100000",
        },
        8,
    ),
    "a quota above the affinity changes nothing": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "3200000 100000\n"},
        8,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cores_are_the_least_of_affinity_and_quota(name: str, tmp_path: Path) -> None:
    files, expected = CASES[name]
    assert available_cores(machine(tmp_path, files)) == expected


def test_cores_of_this_machine_are_at_most_the_affinity() -> None:
    assert 1 <= available_cores() <= 8


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2 avx512f avx512_vnni", True), ("fpu avx2 avx_vnni", True), ("fpu avx2 avx512f", False)],
)
def test_vnni_is_read_from_the_flags(flags: str, expected: bool, tmp_path: Path) -> None:
    assert has_vnni(machine(tmp_path, {"proc/cpuinfo": f"model name\t: x\nflags\t\t: {flags}\n"})) is expected


def test_a_processor_that_cannot_be_looked_at_counts_as_one_without_vnni(tmp_path: Path) -> None:
    assert has_vnni(tmp_path) is False


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [
        ("x86_64", "avx2 avx512f avx512bw avx512_vnni", "avx512_vnni"),
        ("x86_64", "avx2 avx512f avx512bw", "avx512"),
        ("x86_64", "avx2 avx_vnni", "avx2"),
        ("AMD64", "sse4_2", "any"),
        ("aarch64", "asimd asimddp", "arm64"),
        ("arm64", "", "arm64"),
        ("riscv64", "", "any"),
    ],
)
def test_target_follows_the_processor_flags(name: str, flags: str, expected: str, tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/cpuinfo": f"model name\t: x\nflags\t\t: {flags}\n"})
    assert detect_target(root, name) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "1:memory:/x\n", "sys/fs/cgroup/memory/x/cpu.max": "100000 100000"}, None),
        ({}, None),
    ],
)
def test_a_quota_may_be_a_fraction_of_a_core(files: dict[str, str], expected: float | None, tmp_path: Path) -> None:
    assert cpu_quota(machine(tmp_path, files)) == expected
