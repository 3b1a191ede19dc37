"""Tokenise a corpus once, into memory-mapped arrow files that later runs find again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifacts import SPLITS, Corpus, SplitName, Tokenized
from compressor.aside import read_seal, seal, write_aside
from compressor.errors import DataError
from compressor.events import Listener, Note, Progress, Warned, ignore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAGE = "tokenize"
_BATCH = 1000
_FORMAT = 1  # part of the key: another layout of the files is another cache


def tokenize(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    model_inputs: tuple[str, ...],
    max_length: int,
    cache_dir: Path,
    listen: Listener = ignore,
) -> Tokenized:
    """Turn texts into token ids, unpadded.

    The result lies in ``cache_dir/tokens/<fingerprint>/`` and is used again for the same texts, labels, tokenizer and
    length. It is written aside and moved into place; a damaged copy is made anew.

    Args:
        corpus: The texts.
        tokenizer: The teacher's, of the fast kind.
        model_inputs: Inputs that the model can take, in its order.
        max_length: Longest sequence in tokens, special tokens included; longer texts are truncated.
        cache_dir: Where caches live.
        listen: Receives ``Progress`` in rows, a ``Note`` of truncated texts, and ``Warned`` for a damaged cache.

    Raises:
        DataError: The tokenizer makes no ``input_ids`` that the model takes.
        OutputError: The cache folder cannot be written.
    """
    import datasets

    input_names = tuple(name for name in model_inputs if name in tokenizer.model_input_names)
    if "input_ids" not in input_names:
        raise DataError(f"The tokenizer makes {tokenizer.model_input_names}, the model takes {list(model_inputs)}.")
    fingerprint = _fingerprint(corpus, tokenizer, input_names, max_length)
    folder = cache_dir / "tokens" / fingerprint
    facts = read_seal(folder)
    if facts is None:
        if folder.exists():
            listen(Warned(f"The token cache {folder} is damaged and was made anew."))
        with write_aside(folder) as aside:
            total = sum(len(corpus.splits[split].texts) for split in SPLITS)
            rows = _batches(corpus, tokenizer, input_names, max_length)
            facts = {"truncated": _write(rows, input_names, total, aside, listen)}
            seal(aside, facts)
    cut = ", ".join(f"{rows} of {split}" for split, rows in facts["truncated"].items() if rows)
    if cut:
        listen(Note(f"Texts of more than {max_length} tokens were cut: {cut}."))
    return Tokenized(
        splits={split: datasets.Dataset.from_file(str(folder / f"{split}.arrow")) for split in SPLITS},
        input_names=input_names,
        max_length=max_length,
        fingerprint=fingerprint,
        truncated=facts["truncated"],
    )


_Batch = tuple[SplitName, dict[str, Any], int]


def _write(
    batches: Iterator[_Batch], input_names: tuple[str, ...], total: int, folder: Path, listen: Listener
) -> dict[SplitName, int]:
    """Write one arrow stream per split; return how many rows of each lost tokens."""
    import pyarrow as pa

    schema = pa.schema(
        [(name, pa.list_(pa.int32())) for name in input_names] + [("labels", pa.int64()), ("length", pa.int32())]
    )
    truncated: dict[SplitName, int] = dict.fromkeys(SPLITS, 0)
    done = 0
    with ExitStack() as stack:
        streams = {}
        for split in SPLITS:
            file = stack.enter_context(pa.OSFile(str(folder / f"{split}.arrow"), "wb"))
            streams[split] = stack.enter_context(pa.ipc.new_stream(file, schema))
        for split, columns, cut in batches:
            streams[split].write_batch(pa.record_batch(columns, schema=schema))
            truncated[split] += cut
            done += len(columns["labels"])
            listen(Progress(STAGE, done, total, {}))
    return truncated


def _batches(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, input_names: tuple[str, ...], max_length: int
) -> Iterator[_Batch]:
    for split in SPLITS:
        rows = corpus.splits[split]
        for start in range(0, len(rows.texts), _BATCH):
            texts = list(rows.texts[start : start + _BATCH])
            encoded = tokenizer(texts, truncation=True, max_length=max_length)
            columns: dict[str, Any] = {name: encoded[name] for name in input_names}
            columns["labels"] = rows.labels[start : start + _BATCH]
            columns["length"] = [len(row) for row in encoded["input_ids"]]
            full = [text for text, length in zip(texts, columns["length"], strict=True) if length >= max_length]
            yield split, columns, _longer(full, tokenizer, max_length)


def _longer(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Count the texts that have more tokens than fit; a full row may also just fit."""
    if not texts:
        return 0
    # verbose=False: a length above the model's is what is asked about here, not a mistake.
    encoded = tokenizer(list(texts), truncation=False, return_attention_mask=False, verbose=False)
    return sum(1 for row in encoded["input_ids"] if len(row) > max_length)


def _fingerprint(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, input_names: tuple[str, ...], max_length: int
) -> str:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Every call to the tokenizer leaves its own truncation and padding there.
    state = {part: value for part, value in state.items() if part not in ("truncation", "padding")}
    key = {
        "format": _FORMAT,
        "corpus": corpus.fingerprint,
        "tokenizer": state,
        "special": tokenizer.special_tokens_map,
        "truncation_side": tokenizer.truncation_side,
        "inputs": input_names,
        "max_length": max_length,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
