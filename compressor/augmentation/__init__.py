"""Altered copies of texts, for a teacher to answer where few texts are there: seeded, the same for the same seed."""

from compressor.augmentation.copies import alter
from compressor.augmentation.lexicon import Lexicon
from compressor.augmentation.proposals import Propose, by_masked_head, by_neighbours

__all__ = ["Lexicon", "Propose", "alter", "by_masked_head", "by_neighbours"]
