"""What is deployed: numpy, tokenizers and onnxruntime run a compressed model; no framework is loaded.

::

    from compressor.runtime import Predictor

    predict = Predictor("exported/reviews")
    predict(["a fine film"])[0].label
"""

from compressor.runtime.machine import available_cores
from compressor.runtime.manifest import FileEntry, Manifest, TeacherEntry, read_manifest, verify
from compressor.runtime.predictor import Prediction, Predictor
from compressor.runtime.session import Session, open_session

__all__ = [
    "FileEntry",
    "Manifest",
    "Prediction",
    "Predictor",
    "Session",
    "TeacherEntry",
    "available_cores",
    "open_session",
    "read_manifest",
    "verify",
]
