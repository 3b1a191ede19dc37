"""Labelled text: found, read, checked, split and tokenised."""

from compressor.data.corpus import read_corpus
from compressor.data.splits import stratified_sample
from compressor.data.tokens import tokenize

__all__ = ["read_corpus", "stratified_sample", "tokenize"]
