"""Text with what is right about it: found, read, checked, split and tokenised."""

from compressor.data.corpus import read_corpus
from compressor.data.detect import detect_problem_type
from compressor.data.held_out import HeldOut, read_held_out
from compressor.data.splits import stratified_sample
from compressor.data.tokens import tokenize

__all__ = ["HeldOut", "detect_problem_type", "read_corpus", "read_held_out", "stratified_sample", "tokenize"]
