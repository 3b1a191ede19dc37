"""The machine's description: what it names, and how limits and instruction sets are read."""

import json
import os
import sys
from pathlib import Path

import pytest

from compressor.environment import busy_seconds, fingerprint, versions
from compressor.runtime.machine import detect_target


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


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_the_machine_has_spent_at_least_our_own_time():
    assert busy_seconds() >= sum(os.times()[:2])
