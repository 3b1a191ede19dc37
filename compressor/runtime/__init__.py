"""What is deployed: numpy, tokenizers and onnxruntime run a compressed model; no framework is loaded.

::

    from compressor.runtime import Predictor

    predict = Predictor("exported/reviews")
    predict(["a fine film"])[0].label

What a call takes and gives depends on the task: see ``Predictor.__call__``.
"""

from compressor.runtime.machine import available_cores
from compressor.runtime.manifest import FileEntry, Manifest, TeacherEntry, read_manifest, verify
from compressor.runtime.predictor import Predictor
from compressor.runtime.results import Answer, Entity, Fill, MultiLabelPrediction, Prediction, Score
from compressor.runtime.session import Session, open_session

__all__ = [
    "Answer",
    "Entity",
    "FileEntry",
    "Fill",
    "Manifest",
    "MultiLabelPrediction",
    "Prediction",
    "Predictor",
    "Score",
    "Session",
    "TeacherEntry",
    "available_cores",
    "open_session",
    "read_manifest",
    "verify",
]
