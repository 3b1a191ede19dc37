"""Questions with their contexts as token ids: several windows of a context that is too long for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from compressor.artifacts import Split
from compressor.data.encoding import Batch, Settings
from compressor.data.words import trim
from compressor.runtime.texts import Item
from compressor.runtime.windows import Window, context_windows

_BATCH = 200

Ints = npt.NDArray[np.int64]


def encode_windows(split: Split, settings: Settings) -> Iterator[Batch]:
    """Cut questions and contexts to windows as the runtime does it, and mark the answer in each.

    Args:
        split: Questions, contexts, and answers as (first character, text).
        settings: How.
    """
    tokenizer = Tokenizer.from_str(settings.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    side = settings.tokenizer.truncation_side
    for start in range(0, len(split.texts), _BATCH):
        rows = range(start, min(start + _BATCH, len(split.texts)))
        items = [Item(split.texts[row], split.pairs[row]) for row in rows]
        found = context_windows(tokenizer, items, settings.max_length, settings.doc_stride, side)
        columns: dict[str, list[object]] = {
            name: [] for name in (*settings.input_names, "row", "offsets", "labels")
        }  # fmt: skip
        for row, windows in zip(rows, found, strict=True):
            for window in windows:
                offsets = _offsets(window)
                values = {
                    "input_ids": window.ids,
                    "token_type_ids": window.type_ids,
                    "attention_mask": [1] * len(window),
                    "row": row,
                    "offsets": offsets.reshape(-1),
                    "labels": answer_tokens(split.pairs[row], offsets, split.labels[row]),
                }
                for name, column in columns.items():
                    column.append(values[name])
        yield Batch(
            columns,
            len(rows),
            _cut(tokenizer, items, found),
            {
                "questions": len(rows),
                "long": sum(len(windows) > 1 for windows in found),
                "windows": sum(map(len, found)),
            },
        )


def _offsets(window: Window) -> Ints:
    return np.empty((0, 2), np.int64) if window.offsets is None else window.offsets


def answer_tokens(context: str, offsets: Ints, answers: Sequence[tuple[int, str]]) -> tuple[int, int]:
    """Find the first and the last token of an answer in a window.

    Args:
        context: All of it.
        offsets: First character and end in the context of each token, -1 outside it; of shape (tokens, 2).
        answers: Accepted ones as (first character, text); the first that lies in the window is taken.

    Returns:
        Both 0 where the window holds none of them whole.
    """
    inside = np.flatnonzero(offsets[:, 0] >= 0)
    places = np.asarray(trim(context, offsets[inside].tolist()), dtype=np.int64).reshape(-1, 2)  # [c, 2]
    kept = places[:, 0] < places[:, 1]
    inside, places = inside[kept], places[kept]
    if not len(inside):
        return 0, 0
    for start, text in answers:
        end = start + len(text)
        if places[0, 0] <= start and end <= places[-1, 1]:
            first = int(np.searchsorted(places[:, 1], start, side="right"))
            last = int(np.searchsorted(places[:, 0], end, side="left")) - 1
            if first <= last:
                return int(inside[first]), int(inside[last])
    return 0, 0


def _cut(tokenizer: Tokenizer, items: Sequence[Item], found: Sequence[Sequence[Window]]) -> int:
    """Count questions that lost tokens: they then stand before less than all of their context."""
    special = tokenizer.num_special_tokens_to_add(True)
    cut = 0
    for item, windows in zip(items, found, strict=True):
        if len(windows) > 1:
            offsets = _offsets(windows[0])
            kept = len(offsets) - int((offsets[:, 0] >= 0).sum()) - special
            cut += kept < len(tokenizer.encode(item.text, add_special_tokens=False).ids)
    return cut
