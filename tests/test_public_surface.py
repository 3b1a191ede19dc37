"""What users may rely on: names, and that importing them costs nothing."""

import os
import subprocess
import sys

import compressor
import compressor.runtime


def test_the_package_offers_exactly_these_names():
    assert compressor.__all__ == [
        "CompressorError",
        "Prediction",
        "Predictor",
        "Recipe",
        "Run",
        "compress",
        "load_student",
    ]
    assert all(getattr(compressor, name) is not None for name in compressor.__all__)


def test_the_runtime_offers_exactly_these_names():
    assert compressor.runtime.__all__ == [
        "Answer", "Entity", "FileEntry", "Fill", "Manifest", "MultiLabelPrediction", "Prediction", "Predictor", "Score",
        "Session", "TeacherEntry", "available_cores", "open_session", "read_manifest", "verify",
    ]  # fmt: skip


def test_importing_the_package_loads_nothing_heavy():
    script = (
        "import compressor, sys; print([name for name in ('torch', 'numpy', 'onnxruntime') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(compressor, "distill_everything")


def test_onnxruntime_is_kept_from_reporting_its_use(tmp_path):
    script = "import compressor, onnxruntime; onnxruntime.get_available_providers()"
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    subprocess.run([sys.executable, "-c", script], env=environment | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
