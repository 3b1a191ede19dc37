"""Tokenise a corpus once, into memory-mapped arrow files that later runs find again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifacts import SPLITS, Corpus, Split, SplitName, Tokenized
from compressor.aside import one_at_a_time, read_seal, seal, write_aside
from compressor.data.encoding import ENCODINGS, Batch, Settings
from compressor.errors import DataError
from compressor.events import Listener, Note, Progress, Warned, ignore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAGE = "tokenize"
_FORMAT = 1  # part of the key: another layout of the files is another cache


def tokenize(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    model_inputs: tuple[str, ...],
    max_length: int,
    cache_dir: Path,
    listen: Listener = ignore,
    *,
    doc_stride: int = 128,
    seed: int = 0,
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
        doc_stride: Tokens that two windows of a long context share, for question answering.
        seed: Decides which tokens are masked in validation and test, for fill-mask.

    Raises:
        DataError: The tokenizer makes no ``input_ids`` that the model takes, or has no mask where one is needed.
        OutputError: The cache folder cannot be written.
    """
    import datasets

    input_names = tuple(name for name in model_inputs if name in tokenizer.model_input_names)
    if "input_ids" not in input_names:
        raise DataError(f"The tokenizer makes {tokenizer.model_input_names}, the model takes {list(model_inputs)}.")
    settings = Settings(tokenizer, input_names, max_length, corpus.labels, doc_stride, seed)
    fingerprint = _fingerprint(corpus, settings)
    folder = cache_dir / "tokens" / fingerprint
    facts = read_seal(folder) or _made(corpus, settings, folder, listen)
    cut = ", ".join(f"{rows} of {split}" for split, rows in facts["truncated"].items() if rows)
    if cut:
        what = "Questions too long for a window" if corpus.task.kind == "question-answering" else (
            f"Texts of more than {max_length} tokens"
        )  # fmt: skip
        listen(Note(f"{what} were cut: {cut}."))
    for note in facts.get("notes", ()):
        listen(Note(note))
    return Tokenized(
        splits={split: datasets.Dataset.from_file(str(folder / f"{split}.arrow")) for split in SPLITS},
        input_names=input_names,
        max_length=max_length,
        fingerprint=fingerprint,
        truncated=facts["truncated"],
        task=corpus.task,
    )


def _made(corpus: Corpus, settings: Settings, folder: Path, listen: Listener) -> Mapping[str, Any]:
    """Make the cache, unless another run has made it meanwhile, and read what is told about it."""
    with one_at_a_time(folder, listen):
        found = read_seal(folder)
        if found is not None:
            return found
        if folder.exists():
            listen(Warned(f"The token cache {folder} is damaged and was made anew."))
        with write_aside(folder) as aside:
            facts = _write(corpus, settings, aside, listen)
            seal(aside, facts)
        return facts


def _write(corpus: Corpus, settings: Settings, folder: Path, listen: Listener) -> dict[str, Any]:
    """Write one arrow stream per split.

    Returns:
        How many rows of each lost tokens, and what else to tell.
    """
    import pyarrow as pa

    encoding = ENCODINGS[corpus.task.kind]
    truncated: dict[SplitName, int] = dict.fromkeys(SPLITS, 0)
    notes = []
    done, total = 0, sum(len(part.texts) for split in SPLITS for part in _parts(corpus, split))
    for split in SPLITS:
        counts: dict[str, int] = {}
        schema = pa.schema(
            [(name, pa.list_(pa.int32())) for name in settings.input_names]
            + [(name, kind) for name, kind in encoding.columns(split).items()]
            + [("length", pa.int32())]
        )
        with ExitStack() as stack:
            file = stack.enter_context(pa.OSFile(str(folder / f"{split}.arrow"), "wb"))
            stream = stack.enter_context(pa.ipc.new_stream(file, schema))
            for batch in _batches(corpus, split, settings):
                stream.write_batch(pa.record_batch({name: batch.columns[name] for name in schema.names}, schema=schema))
                truncated[split] += batch.cut
                for name, count in batch.counts.items():
                    counts[name] = counts.get(name, 0) + count
                done += batch.texts
                listen(Progress(STAGE, done, total, {}))
        notes += [encoding.note(split, counts)] if encoding.note is not None else []
    return {"truncated": truncated, **({"notes": [note for note in notes if note]} if any(notes) else {})}


def _batches(corpus: Corpus, split: SplitName, settings: Settings) -> Iterator[Batch]:
    for part in _parts(corpus, split):
        for batch in ENCODINGS[corpus.task.kind].encode(part, split, settings):
            batch.columns["length"] = [len(row) for row in batch.columns["input_ids"]]
            yield batch


def _parts(corpus: Corpus, split: SplitName) -> Sequence[Split]:
    """The rows of a split as they are tokenised: what was added stands behind the training rows."""
    added = (corpus.added.split,) if corpus.added is not None and split == "train" else ()
    return (corpus.splits[split], *added)


def _fingerprint(corpus: Corpus, settings: Settings) -> str:
    tokenizer = settings.tokenizer
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # Every call to the tokenizer leaves its own truncation and padding there.
    state = {part: value for part, value in state.items() if part not in ("truncation", "padding")}
    key: Mapping[str, Any] = {
        "format": _FORMAT,
        "corpus": corpus.fingerprint,
        "tokenizer": state,
        "special": tokenizer.special_tokens_map,
        "truncation_side": tokenizer.truncation_side,
        "inputs": settings.input_names,
        "max_length": settings.max_length,
        # Nothing for single labels, so that what was kept before there were other kinds is found again.
        **ENCODINGS[corpus.task.kind].key(settings),
        # Labels are left out: these rows have none.
        **({"added": [corpus.added.split.texts, corpus.added.split.pairs]} if corpus.added is not None else {}),
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
