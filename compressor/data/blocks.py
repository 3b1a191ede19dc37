"""Plain text as token ids: documents joined and cut into blocks, some tokens masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compressor.answers import IGNORED
from compressor.artifacts import SPLITS, Split, SplitName
from compressor.data.encoding import BATCH, Batch, Settings
from compressor.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MASKED_SHARE = 0.15

Ints = npt.NDArray[np.int64]


def encode_blocks(split: Split, name: SplitName, settings: Settings) -> Iterator[Batch]:
    """Join documents, with the separator between two, and cut them to blocks of ``max_length`` tokens.

    The last block is as long as what is left. In validation and test 15% of the tokens of each block, at least one, are
    replaced by the mask (Devlin et al. 2019 leave a tenth of them and swap another; here all are masked, so that it
    is plain what is asked); training rows are masked anew in every epoch.

    Args:
        split: Documents.
        name: Which split.
        settings: How.

    Raises:
        DataError: The tokenizer has no mask, or blocks would have no room.
    """
    tokenizer = settings.tokenizer
    if tokenizer.mask_token_id is None:
        raise DataError("The tokenizer has no mask token.", "Fill-mask needs a teacher that was trained with one.")
    before, after = _frame(tokenizer)
    room = settings.max_length - len(before) - len(after)
    if room < 1:
        raise DataError(f"Blocks of {settings.max_length} tokens have no room.", "Raise --max-seq-length.")
    separator = [tokenizer.sep_token_id] if tokenizer.sep_token_id is not None else []
    pending: list[int] = []
    count = 0
    for start in range(0, len(split.texts), BATCH):
        texts = list(split.texts[start : start + BATCH])
        # verbose=False: a document may be longer than the model takes.
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        for ids in encoded["input_ids"]:
            pending += [*separator, *ids] if pending or count else ids
        last = start + BATCH >= len(split.texts)
        whole = len(pending) // room * room
        blocks = [pending[place : place + room] for place in range(0, whole, room)]
        pending = pending[whole:]
        if last and pending:
            blocks.append(pending)
        yield _batch([[*before, *block, *after] for block in blocks], len(texts), count, name, settings)
        count += len(blocks)


def _batch(blocks: Sequence[list[int]], texts: int, first: int, name: SplitName, settings: Settings) -> Batch:
    columns: dict[str, Any] = {
        "input_ids": blocks,
        "attention_mask": [[1] * len(block) for block in blocks],
        "token_type_ids": [[0] * len(block) for block in blocks],
    }
    columns = {column: columns[column] for column in settings.input_names}
    if name != "train":
        masked = [
            mask(block, settings.tokenizer, (settings.seed, 3, SPLITS.index(name), first + index))
            for index, block in enumerate(blocks)
        ]
        columns["input_ids"] = [ids for ids, _ in masked]
        columns["labels"] = [labels for _, labels in masked]
    return Batch(columns, texts)


def mask(block: Sequence[int], tokenizer: PreTrainedTokenizerBase, seed: Sequence[int]) -> tuple[Ints, Ints]:
    """Mask a share of a block's tokens, none of them special.

    Args:
        block: Token ids.
        tokenizer: Knows which are special.
        seed: Same seed, same tokens.

    Returns:
        The ids with the mask in place, and the right ids there with ``IGNORED`` elsewhere; int64 of shape (tokens,).
    """
    ids = np.array(block, dtype=np.int64)
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    places = np.flatnonzero(~np.isin(ids, tokenizer.all_special_ids))
    if len(places):
        chosen = np.random.default_rng(seed).permutation(places)[: max(1, round(MASKED_SHARE * len(places)))]
        labels[chosen] = ids[chosen]
        ids[chosen] = tokenizer.mask_token_id
    return ids, labels


def _frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Special tokens before and after a text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
    first = special.index(0)
    last = len(special) - special[::-1].index(0)
    return ids[:first], ids[last:]
