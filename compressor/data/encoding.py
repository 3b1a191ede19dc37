"""From the rows of a split to token ids: one row per kind of task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressor.artifacts import Split, SplitName
from compressor.data.words import align, inside_labels, token_labels
from compressor.tasks import Kind

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1000


@dataclass(frozen=True)
class Settings:
    """How texts become token ids.

    Attributes:
        tokenizer: Of the fast kind.
        input_names: Inputs to make.
        max_length: Longest sequence in tokens, special tokens included.
        labels: Names of the labels.
        doc_stride: Tokens that two windows of a long context share.
        seed: Of the masks of validation and test rows.
    """

    tokenizer: PreTrainedTokenizerBase
    input_names: tuple[str, ...]
    max_length: int
    labels: tuple[str, ...]
    doc_stride: int
    seed: int


@dataclass(frozen=True)
class Batch:
    """Some rows of a split.

    Attributes:
        columns: Values of each row by column.
        texts: Texts that were read for them.
        cut: Texts that lost tokens.
        counts: What else was counted.
    """

    columns: dict[str, Any]
    texts: int
    cut: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)


Encode = Callable[[Split, SplitName, Settings], Iterator[Batch]]


@dataclass(frozen=True)
class Encoding:
    """How the rows of one kind of task become token ids.

    Attributes:
        encode: Makes batches of rows.
        columns: Arrow types of the columns beside the inputs and ``length``, by split.
        key: Settings that the result depends on, beyond those of every kind.
        note: What to tell about a split's counts; empty for nothing.
    """

    encode: Encode
    columns: Callable[[SplitName], Mapping[str, Any]]
    key: Callable[[Settings], Mapping[str, Any]] = lambda settings: {}
    note: Callable[[SplitName, Mapping[str, int]], str] | None = None


# --- one row per text -----------------------------------------------------------------------


def _rows(split: Split, settings: Settings, **options: Any) -> Iterator[tuple[slice, dict[str, Any], int]]:
    """Tokenise texts or pairs; yield the rows of each batch, their tokens, and how many of them lost some."""
    tokenizer = settings.tokenizer
    for start in range(0, len(split.texts), BATCH):
        part = slice(start, start + BATCH)
        given = [list(texts[part]) for texts in (split.texts, split.pairs) if texts]
        encoded = tokenizer(*given, truncation=True, max_length=settings.max_length, **options)
        full = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) >= settings.max_length]
        yield part, encoded, _longer([[texts[row] for row in full] for texts in given], settings)


def _longer(given: Sequence[list[str]], settings: Settings) -> int:
    """Count the texts that have more tokens than fit; a full row may also just fit."""
    if not given[0]:
        return 0
    # verbose=False: a length above the model's is what is asked about here, not a mistake.
    encoded = settings.tokenizer(*given, truncation=False, return_attention_mask=False, verbose=False)
    return sum(1 for row in encoded["input_ids"] if len(row) > settings.max_length)


def _labelled(split: Split, _: SplitName, settings: Settings) -> Iterator[Batch]:
    for part, encoded, cut in _rows(split, settings):
        columns = {name: encoded[name] for name in settings.input_names}
        labels = split.labels[part]
        columns["labels"] = list(labels) if labels.ndim > 1 else labels
        yield Batch(columns, len(labels), cut)


def _bare(split: Split, _: SplitName, settings: Settings) -> Iterator[Batch]:
    for part, encoded, cut in _rows(split, settings):
        yield Batch({name: encoded[name] for name in settings.input_names}, len(split.texts[part]), cut)


def _tagged(split: Split, _: SplitName, settings: Settings) -> Iterator[Batch]:
    inside = inside_labels(settings.labels)
    for part, encoded, cut in _rows(split, settings, return_offsets_mapping=True):
        columns: dict[str, Any] = {name: encoded[name] for name in settings.input_names}
        given = zip(split.texts[part], encoded["offset_mapping"], split.words[part], strict=True)
        columns["words"] = [align(text, offsets, words) for text, offsets, words in given]
        columns["labels"] = [
            token_labels(aligned, tags, inside)
            for aligned, tags in zip(columns["words"], split.labels[part], strict=True)
        ]
        lost = sum(
            len(words) - len(set(aligned) - {-1})
            for words, aligned in zip(split.words[part], columns["words"], strict=True)
        )
        yield Batch(columns, len(split.texts[part]), cut, {"lost": lost, "words": sum(map(len, split.words[part]))})


def _lost(split: SplitName, counts: Mapping[str, int]) -> str:
    lost = counts.get("lost", 0)
    return (
        f"{lost} of {counts['words']} {split} words have no token of their own, cut off or joined with the word "
        "before: they count as outside."
        if lost
        else ""
    )


# --- the table ------------------------------------------------------------------------------


def _types(**columns: str) -> Callable[[SplitName], Mapping[str, Any]]:
    def types(_: SplitName) -> Mapping[str, Any]:
        import pyarrow as pa

        known = {
            "id": pa.int64(), "score": pa.float32(), "scores": pa.list_(pa.float32()), "ids": pa.list_(pa.int32()),
        }  # fmt: skip
        return {name: known[kind] for name, kind in columns.items()}

    return types


def _blocks(split: Split, name: SplitName, settings: Settings) -> Iterator[Batch]:
    from compressor.data.blocks import encode_blocks

    return encode_blocks(split, name, settings)


def _windows(split: Split, name: SplitName, settings: Settings) -> Iterator[Batch]:
    from compressor.data.windows import encode_windows

    return encode_windows(split, settings)


def _masked(split: SplitName) -> Mapping[str, Any]:
    return _types()(split) if split == "train" else _types(labels="ids")(split)


def _shared(split: SplitName, counts: Mapping[str, int]) -> str:
    long = counts.get("long", 0)
    return (
        f"{long} of {counts['questions']} {split} contexts are longer than a window: {counts['windows']} windows."
        if long
        else ""
    )


ENCODINGS: Mapping[Kind, Encoding] = {
    "single-label": Encoding(_labelled, _types(labels="id")),
    "multi-label": Encoding(_labelled, _types(labels="scores"), lambda _: {"kind": "multi-label"}),
    "regression": Encoding(_labelled, _types(labels="score"), lambda _: {"kind": "regression"}),
    "token-classification": Encoding(
        _tagged, _types(words="ids", labels="ids"), lambda _: {"kind": "token-classification"}, _lost
    ),
    "question-answering": Encoding(
        _windows,
        _types(row="id", offsets="ids", labels="ids"),
        lambda settings: {"kind": "question-answering", "doc_stride": settings.doc_stride},
        _shared,
    ),
    "fill-mask": Encoding(_blocks, _masked, lambda settings: {"kind": "fill-mask", "seed": settings.seed}),
    "feature-extraction": Encoding(_bare, _types(), lambda _: {"kind": "feature-extraction"}),
}
