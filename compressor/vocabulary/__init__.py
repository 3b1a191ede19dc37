"""Trimming: a model that keeps only the pieces of its vocabulary that some texts use, proved equal on others."""

from compressor.vocabulary.texts import read_texts
from compressor.vocabulary.trim import check, trim

__all__ = ["check", "read_texts", "trim"]
