"""What a manifest says about its kind of task, beyond labels: which settings there are, and what they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from compressor.runtime.decode.entities import Scheme
from compressor.runtime.decode.spans import MOST_TOKENS

DOC_STRIDE = 128
"""Tokens that two neighbouring windows of a long text share, as in the scripts of SQuAD."""

Check = Callable[[object, Sequence[str]], bool]


def _count(least: int) -> Check:
    # bool is an int in Python, and never one here.
    return lambda value, _: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _flag(value: object, _: Sequence[str]) -> bool:
    return isinstance(value, bool)


def _text(value: object, _: Sequence[str]) -> bool:
    return isinstance(value, str) and bool(value)


def _scheme(value: object, _: Sequence[str]) -> bool:
    return value in get_args(Scheme)


def _thresholds(value: object, labels: Sequence[str]) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == len(labels) and all(map(_share, value))


def _share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1 and math.isfinite(value)


_PAIRS: Mapping[str, tuple[Check, str]] = {"pairs": (_flag, "true or false")}
_STRIDE: Mapping[str, tuple[Check, str]] = {"doc_stride": (_count(0), "a number of tokens")}

SETTINGS: Mapping[str, Mapping[str, tuple[Check, str]]] = {
    "single-label": _PAIRS,
    "multi-label": {**_PAIRS, "thresholds": (_thresholds, "a number from 0 to 1 for each label")},
    "regression": _PAIRS,
    "token-classification": {**_STRIDE, "scheme": (_scheme, f"one of {', '.join(get_args(Scheme))}")},
    "question-answering": {
        **_STRIDE,
        "max_answer_tokens": (_count(1), "a number of at least 1"),
        "null_score": (_flag, "true or false"),
    },
    "fill-mask": {"mask_token_id": (_count(0), "a token id")},
    "feature-extraction": {
        "pooling": (_text, "a name"),
        "normalize": (_flag, "true or false"),
        "dimension": (_count(1), "a number of at least 1"),
    },
}
"""For each kind its settings: what they may be, as a check that is given the labels too, and in words."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "single-label": {"pairs": False},
    "multi-label": {"pairs": False, "thresholds": ()},
    "regression": {"pairs": False},
    "token-classification": {"doc_stride": DOC_STRIDE},
    "question-answering": {"doc_stride": DOC_STRIDE, "max_answer_tokens": MOST_TOKENS, "null_score": False},
    "fill-mask": {},
    "feature-extraction": {},
}
"""What holds where a manifest is silent."""


def fault(kind: str, settings: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Say what is wrong with settings; those that this version does not know are passed over.

    Args:
        kind: Of the task.
        settings: As the manifest has them.
        labels: Of the manifest.

    Returns:
        The name of the setting, its value and what belongs there; empty where all is well.
    """
    known = SETTINGS.get(kind, {})
    for name, value in settings.items():
        if name in known and not known[name][0](value, labels):
            text = repr(value)
            shown = text if len(text) <= 40 else f"{text[:40]}..."
            return f"{name} is {shown} where {known[name][1]} belongs"
    missing = [name for name in ("mask_token_id",) if name in known and name not in settings]
    return f"{missing[0]} is not there" if missing else ""
