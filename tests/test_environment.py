"""The machine's description: what it names, and how limits and instruction sets are read."""

import json
import os
import sys
from pathlib import Path

import pytest

from compressor.environment import busy_seconds, cpu_quota, detect_target, fingerprint, target_of, versions


def test_fingerprint_survives_json():
    found = fingerprint()
    assert json.loads(json.dumps(found)) == found


def test_fingerprint_names_what_a_figure_depends_on():
    found = fingerprint()
    assert found["cpu"]["instruction_set"] == detect_target()
    assert 1 <= found["cpu"]["affinity"] <= found["cpu"]["cores"] == os.cpu_count()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["memory_bytes"] > 1 << 20
    assert "CPUExecutionProvider" in found["onnxruntime_providers"]


def test_versions_come_from_the_installed_packages():
    import onnxruntime

    found = versions()
    assert found["onnxruntime"] == onnxruntime.__version__
    assert "onnxruntime-gpu" not in found


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
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
def test_target_follows_the_processor_flags(machine: str, flags: str, expected: str):
    assert target_of(machine, frozenset(flags.split())) == expected


def _groups(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "membership").write_text(membership)
    return root, root / "membership"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/gone\n", {"cpu.max": "max 100000\n"}, None),
        (
            "4:cpu,cpuacct:/x\n",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "200000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n"},
            2.0,
        ),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
        ("1:memory:/x\n", {"memory/x/cpu.max": "100000 100000"}, None),
    ],
    ids=["v2 parent", "v2 root", "v2 unlimited", "v1 joint", "v1 unlimited", "another controller"],
)
def test_the_tightest_control_group_is_the_quota(tmp_path: Path, membership: str, files: dict, expected: float | None):
    assert cpu_quota(*_groups(tmp_path, membership, files)) == expected


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_the_machine_has_spent_at_least_our_own_time():
    assert busy_seconds() >= sum(os.times()[:2])
