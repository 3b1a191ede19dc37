"""Ask any model that was found in a folder: from texts to its answers, in onnxruntime or torch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.answers import INPUT_NAMES, Answers, Call, Feed, Floats, collect
from compressor.benchmark import TokenRows
from compressor.benchmark.engines import INPUT_TYPES
from compressor.errors import CompressorError, ManifestError
from compressor.runtime import open_session
from compressor.runtime.manifest import TOKENIZER
from compressor.runtime.texts import mended, open_tokenizer
from compressor.tasks import TASKS, Task
from compressor.upkeep.home import Home
from compressor.upkeep.lineup import Entrant

if TYPE_CHECKING:
    from compressor.heads import Model

Row = dict[str, Any]

WORDS = ("the", "a", "film", "is", "was", "it", "and", "very", "good", "bad", "this", "story", "with", "time")
"""Stand in for texts where there are no data; the time that a model takes does not depend on its words."""


@dataclass(frozen=True)
class Rows:
    """Rows of token ids as ``compressor.answers.collect`` and the metrics read them: by number, or one column."""

    rows: Sequence[Row]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        """A row by its number, or the values of a column, of which ``length`` counts the tokens."""
        if key == "length":
            return [len(row["input_ids"]) for row in self.rows]
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]


def encode(home: Home, texts: Sequence[str], pairs: Sequence[str] = ()) -> list[Row]:
    """Tokenise texts, or pairs, with the folder's own tokenizer, cut at the model's length, not padded.

    Raises:
        ManifestError: The folder has no tokenizer that can be read.
    """
    tokenizer = open_tokenizer(home.path / TOKENIZER)
    tokenizer.no_padding()
    tokenizer.enable_truncation(home.max_length, direction=home.truncation_side)
    whole = [mended(text) for text in texts]
    given: list[Any] = list(zip(whole, map(mended, pairs), strict=True)) if pairs else whole
    return [
        {"input_ids": item.ids, "attention_mask": item.attention_mask, "token_type_ids": item.type_ids}
        for item in tokenizer.encode_batch(given)
    ]


def token_rows(home: Home, texts: Sequence[str], pairs: Sequence[str] = ()) -> TokenRows:
    """Tokenise texts, or pairs, for the benchmark."""
    return TokenRows(encode(home, texts, pairs), INPUT_NAMES, home.max_length, home.pad_token_id)


def filler(tokens: Sequence[int], texts: int = 16) -> tuple[str, ...]:
    """Make texts of about these lengths in tokens, in turn."""
    words = random.Random(0)  # noqa: S311 - repeatable, not secret
    return tuple(" ".join(words.choices(WORDS, k=max(1, tokens[index % len(tokens)] - 2))) for index in range(texts))


def ask(entrant: Entrant, rows: Rows) -> Answers:
    """Ask a model about rows of token ids, on the CPU, in batches of similar length.

    Raises:
        CompressorError: The model does not load, fails, or answers something else than its task has.
    """
    task = task_of(entrant)
    return collect(opened(entrant), rows, task, names=INPUT_NAMES, pad_token_id=entrant.home.pad_token_id)


def task_of(entrant: Entrant) -> Task:
    """What a model does.

    Raises:
        ManifestError: Its folder does not say.
    """
    if entrant.home.task is None:
        raise ManifestError(
            f"{entrant.home.path} does not say what its model does.",
            "Its config.json names no head, and there is no modules.json of a sentence encoder.",
        )
    return entrant.home.task


def load_torch(home: Path, task: Task) -> Model:
    """Load the safetensors of a folder in torch.

    Raises:
        CompressorError: transformers cannot load it, or its head is not in the file.
    """
    from safetensors import SafetensorError

    from compressor import heads
    from compressor.quiet import first_line, quiet

    try:
        with quiet():
            model, loading = heads.load(task, home)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CompressorError(f"{home} cannot be loaded by transformers: {first_line(error)}.") from error
    # What is pooled for an embedding are the tokens: BERT's own pooler may be missing.
    missing = sorted(name for name in loading["missing_keys"] if task.head or ".pooler." not in name)
    if missing:
        raise CompressorError(f"{home}: its safetensors lack weights of the model: {', '.join(missing[:3])}.")
    return model


def opened(entrant: Entrant) -> Call:
    """Load a model as a function from a padded batch to its outputs, in the order of its task's.

    Raises:
        CompressorError: It does not load, takes an input that is not made here, or lacks an output.
    """
    task = task_of(entrant)
    call = _torch(entrant, task) if entrant.kind == "torch" else _onnx(entrant, task)

    def checked(feed: Feed) -> Sequence[Floats]:
        found = call(feed)
        _check_shapes(entrant, task, found, feed)
        return found

    return checked


def _torch(entrant: Entrant, task: Task) -> Call:
    from compressor import heads

    model = load_torch(entrant.path, task)
    taken = heads.inputs_of(model)
    inner = heads.asking(model, task, "cpu", entrant.home.settings.get("mask_token_id"))
    return lambda feed: inner({name: feed[name] for name in taken})


def _onnx(entrant: Entrant, task: Task) -> Call:
    session = open_session(entrant.path)
    types = {item.name: INPUT_TYPES.get(item.type, np.int64) for item in session.inner.get_inputs()}
    unknown = [name for name in types if name not in INPUT_NAMES]
    if unknown:
        raise ManifestError(
            f"{entrant.name} takes the input {unknown[0]}; this toolkit makes {', '.join(INPUT_NAMES)}.",
            "Export the model with these inputs alone.",
        )
    outputs = task.outputs
    if not set(outputs) <= set(session.outputs):
        if len(outputs) > 1 or task is TASKS["feature-extraction"]:
            raise ManifestError(
                f"{entrant.name} answers with {', '.join(session.outputs)}; {task.name} needs {', '.join(outputs)}.",
                "Pool inside the graph, as compress does it." if task.unit == "row" else "Export the model anew.",
            )
        outputs = session.outputs[:1]  # exporters give the one output names of their own
    return lambda feed: session.run_all({name: feed[name].astype(kind) for name, kind in types.items()}, outputs)


def _check_shapes(entrant: Entrant, task: Task, found: Sequence[Floats], feed: Feed) -> None:
    rows, tokens = feed["input_ids"].shape
    shape: tuple[int | None, ...] = (rows,) if task.unit == "row" else (rows, tokens)
    labels = len(entrant.home.labels)
    if task.kind != "question-answering":
        shape += (labels if task.named and labels else 1 if task.kind == "regression" else None,)
    for output in found:
        fits = [wanted in (None, size) for wanted, size in zip(shape, output.shape, strict=False)]
        if output.ndim != len(shape) or not all(fits):
            needed = str(tuple("any" if size is None else size for size in shape)).replace("'", "")
            what = f"its {labels} labels need" if task.named and labels else f"{task.name} needs"
            raise ManifestError(
                f"{entrant.name} answers with shape {output.shape} where {what} {needed}.",
                f"It has no {task.name.replace('text-', '')} head, or its labels are not its own.",
            )
