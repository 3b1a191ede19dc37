"""Text with what is right about it: found, read, checked, split and tokenised."""

from compressor.data.corpus import read_corpus
from compressor.data.detect import detect_problem_type
from compressor.data.held_out import HeldOut, read_held_out
from compressor.data.splits import stratified_sample
from compressor.data.tokens import tokenize
from compressor.data.unlabelled import ANSWERABLE, Row, add, find_unlabelled, forms, read_unlabelled, rows_of

__all__ = [
    "ANSWERABLE",
    "HeldOut",
    "Row",
    "add",
    "detect_problem_type",
    "find_unlabelled",
    "forms",
    "read_corpus",
    "read_held_out",
    "read_unlabelled",
    "rows_of",
    "stratified_sample",
    "tokenize",
]
