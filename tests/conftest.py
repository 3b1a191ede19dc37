"""Shape checking of annotated functions; few threads, since the suite shares small machines."""

import os
import shutil
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from jaxtyping import install_import_hook

install_import_hook(["compressor.training.losses"], "beartype.beartype")

SHARED = "COMPRESSOR_TESTS_SHARED"
"""Names a folder that all processes of a test run share."""


def pytest_configure(config: pytest.Config) -> None:
    """Make that folder; pytest-xdist's workers inherit its name."""
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="compressor-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(SHARED), ignore_errors=True))
