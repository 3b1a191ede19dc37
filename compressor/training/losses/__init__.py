"""Losses of knowledge distillation: pure functions of tensors, every mask explicit.

No gradient flows into a teacher. Every loss is a mean, so that a weight means the same for any batch size, length and
number of layers. Shapes are part of the types; the tests check them at run time.
"""

from compressor.training.losses.embeddings import (
    embedding_cosine,
    embedding_mse,
    similarity_mse,
)
from compressor.training.losses.logits import (
    agreement,
    hard_label,
    hard_label_bce,
    logit_mse,
    regression_mse,
    soft_label_bce,
    soft_label_kl,
    standardized,
)
from compressor.training.losses.relations import attention_mse, attention_scores, relation_kl
from compressor.training.losses.states import first_token_mse, hidden_cosine, hidden_mse
from compressor.training.losses.tokens import hard_token_label, masked_lm_kl, span_kl, token_kl

__all__ = [
    "agreement",
    "attention_mse",
    "attention_scores",
    "embedding_cosine",
    "embedding_mse",
    "first_token_mse",
    "hard_label",
    "hard_label_bce",
    "hard_token_label",
    "hidden_cosine",
    "hidden_mse",
    "logit_mse",
    "masked_lm_kl",
    "regression_mse",
    "relation_kl",
    "similarity_mse",
    "soft_label_bce",
    "soft_label_kl",
    "span_kl",
    "standardized",
    "token_kl",
]
