"""From a model's outputs to what it decided: pure functions of numpy arrays.

They are the one truth about decoding: the predictor ships them and the evaluation judges by them.
"""

from compressor.runtime.decode.entities import Chunk, chunks, entities, scheme_of, words
from compressor.runtime.decode.labels import chosen, sigmoid, softmax
from compressor.runtime.decode.masks import top_pieces
from compressor.runtime.decode.spans import Span, best_span, best_spans

__all__ = [
    "Chunk",
    "Span",
    "best_span",
    "best_spans",
    "chosen",
    "chunks",
    "entities",
    "scheme_of",
    "sigmoid",
    "softmax",
    "top_pieces",
    "words",
]
