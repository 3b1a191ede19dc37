"""Ask any model that was found in a folder: from texts to logits, in onnxruntime or torch."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from compressor.benchmark import TokenRows
from compressor.benchmark.engines import INPUT_TYPES
from compressor.errors import CompressorError, ManifestError
from compressor.runtime import open_session
from compressor.runtime.manifest import TOKENIZER
from compressor.upkeep.lineup import Entrant

Row = Mapping[str, list[int]]
Feed = Mapping[str, npt.NDArray[np.int64]]
Logits = npt.NDArray[np.float32]

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
WORDS = ("the", "a", "film", "is", "was", "it", "and", "very", "good", "bad", "this", "story", "with", "time")
"""Stand in for texts where there are no data; the time that a model takes does not depend on its words."""

_BATCH = 32


def encode(entrant: Entrant, texts: Sequence[str]) -> list[Row]:
    """Tokenise texts with the folder's own tokenizer, cut at the model's length, not padded."""
    tokenizer = Tokenizer.from_file(str(entrant.home / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(entrant.max_length)
    return [
        {"input_ids": item.ids, "attention_mask": item.attention_mask, "token_type_ids": item.type_ids}
        for item in tokenizer.encode_batch(list(texts))
    ]


def token_rows(entrant: Entrant, texts: Sequence[str]) -> TokenRows:
    """Tokenise texts for the benchmark."""
    return TokenRows(encode(entrant, texts), INPUT_NAMES, entrant.max_length, entrant.pad_token_id)


def filler(tokens: Sequence[int], texts: int = 16) -> tuple[str, ...]:
    """Make texts of about these lengths in tokens, in turn."""
    words = random.Random(0)  # noqa: S311 - repeatable, not secret
    return tuple(" ".join(words.choices(WORDS, k=max(1, tokens[index % len(tokens)] - 2))) for index in range(texts))


def logits(entrant: Entrant, rows: Sequence[Row]) -> Logits:
    """Ask a model on the CPU, in batches of similar length as the runtime makes them.

    Returns:
        float32 of shape (rows, labels).

    Raises:
        CompressorError: The model does not load, fails, or does not answer with one score per label.
    """
    call = opened(entrant)
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))
    found: Logits = np.empty((len(rows), len(entrant.labels)), np.float32)
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        output = call(padded([rows[row] for row in chosen], entrant.pad_token_id))
        if output.shape != (len(chosen), found.shape[1]):
            raise ManifestError(
                f"{entrant.name} answers with shape {output.shape} where its {found.shape[1]} labels need "
                f"{(len(chosen), found.shape[1])}.",
                "It has no classification head, or its labels are not its own.",
            )
        found[chosen] = output
    return found


def torch_logits(home: Path) -> Callable[[Feed], Logits]:
    """Load the safetensors of a folder in torch.

    Raises:
        CompressorError: transformers cannot load it, or its head is not in the file.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    from compressor.quiet import first_line, quiet

    try:
        with quiet():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                home, dtype=torch.float32, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CompressorError(f"{home} cannot be loaded by transformers: {first_line(error)}.") from error
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise CompressorError(f"{home}: its safetensors lack weights of the model: {missing}.")
    model.eval()
    taken = tuple(inspect.signature(model.forward).parameters)

    def call(feed: Feed) -> Logits:
        with torch.inference_mode():
            output = model(**{name: torch.from_numpy(ids) for name, ids in feed.items() if name in taken}).logits
        return np.asarray(output.numpy(), np.float32)

    return call


def opened(entrant: Entrant) -> Callable[[Feed], Logits]:
    """Load a model as a function from a padded batch to its logits.

    Raises:
        CompressorError: It does not load, or takes an input that is not made here.
    """
    if entrant.kind == "torch":
        return torch_logits(entrant.home)
    session = open_session(entrant.path)
    types = {item.name: INPUT_TYPES.get(item.type, np.int64) for item in session.inner.get_inputs()}
    unknown = [name for name in types if name not in INPUT_NAMES]
    if unknown:
        raise ManifestError(
            f"{entrant.name} takes the input {unknown[0]}; this toolkit makes {', '.join(INPUT_NAMES)}.",
            "Export the model with these inputs alone.",
        )
    return lambda feed: session.run({name: feed[name].astype(kind) for name, kind in types.items()})


def padded(rows: Sequence[Row], pad_token_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """Pad rows on the right to the longest of them: int64 of shape (rows, tokens) for each input."""
    width = max([1, *(len(row["input_ids"]) for row in rows)])
    feed = {name: np.zeros((len(rows), width), np.int64) for name in INPUT_NAMES}  # [b, s]
    feed["input_ids"][:] = pad_token_id
    for index, row in enumerate(rows):
        for name, ids in feed.items():
            ids[index, : len(row[name])] = row[name]
    return feed
