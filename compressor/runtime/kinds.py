"""How each kind of task is asked and answered: one row of functions for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from compressor.errors import UserError
from compressor.runtime import decode
from compressor.runtime.manifest import Manifest
from compressor.runtime.results import Answer, Entity, Fill, MultiLabelPrediction, Prediction, Score
from compressor.runtime.settings import DEFAULTS
from compressor.runtime.texts import Item, mended, places, read_pairs, read_texts
from compressor.runtime.windows import Window, context_windows, rows, stitched, text_rows, text_windows
from compressor.tasks import Kind

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Model:
    """What asking and answering need to know of a folder.

    Attributes:
        manifest: Of the folder.
        tokenizer: Cuts rows of ``windows.rows`` and nothing else.
        settings: Of the manifest, with the defaults of its kind.
    """

    manifest: Manifest
    tokenizer: Tokenizer
    settings: Mapping[str, Any]

    @staticmethod
    def of(manifest: Manifest, tokenizer: Tokenizer) -> Model:
        """Fill in the settings on which the manifest is silent."""
        return Model(manifest, tokenizer, {**DEFAULTS.get(manifest.kind, {}), **manifest.settings})


@dataclass(frozen=True, slots=True)
class Asked:
    """Some inputs and what the model answered.

    Attributes:
        first: How many inputs came before them.
        items: The inputs.
        windows: Of each input.
        values: Answers about the units of each window, of shape (units, width).
    """

    first: int
    items: Sequence[Item]
    windows: Sequence[Sequence[Window]]
    values: Sequence[Sequence[Floats]]

    def matrix(self) -> Floats:
        """The answers of a task that answers about rows, of shape (inputs, width)."""
        return np.concatenate([value for found in self.values for value in found])


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants to know.

    Attributes:
        top_k: How many alternatives; ``None`` for all.
        temperature: Divides the logits before they become scores.
    """

    top_k: int | None = 1
    temperature: float = 1.0


Windows = Callable[[Model, Sequence[Item]], list[list[Window]]]


@dataclass(frozen=True)
class Way:
    """How one kind of task is asked and answered.

    Attributes:
        windows: From inputs to what the model sees.
        decode: From what it answered to one result for each input.
        gather: From all results to what the caller gets.
        judged: What the model sees where it is judged by the toolkit: as ``windows``, but for tags, which are judged
            on one row of each text.
        chunk: Inputs that are tokenised and sorted together: enough to fill even batches, and bounded memory.
        batch_tokens: Most tokens of a batch, unless the caller says otherwise.
    """

    windows: Windows
    decode: Callable[[Model, Asked, Wish], list[Any]]
    gather: Callable[[list[Any], Model], Any] = lambda found, _: found
    judged: Windows | None = None
    chunk: int = 4096
    batch_tokens: int = 1024


def width(model: Model) -> int | None:
    """How many numbers the model answers with for each unit; ``None`` where only the file knows."""
    if model.manifest.kind == "feature-extraction":
        return model.settings.get("dimension")
    return {"question-answering": 2, "regression": 1}.get(model.manifest.kind, len(model.manifest.labels)) or None


# --- asking ---------------------------------------------------------------------------------


def takes(model: Model) -> tuple[str, ...]:
    """Name the texts of one input."""
    if model.manifest.kind == "question-answering":
        return ("question", "context")
    return ("text", "pair") if model.settings.get("pairs") else ("text",)


def read(model: Model, inputs: Any) -> list[Item]:
    """Take what the caller hands in.

    Raises:
        UserError: It is not what the model takes.
    """
    names = takes(model)
    return read_texts(inputs) if len(names) == 1 else read_pairs(inputs, names)


def _rows(model: Model, items: Sequence[Item]) -> list[list[Window]]:
    return rows(model.tokenizer, items)


def _text_windows(model: Model, items: Sequence[Item]) -> list[list[Window]]:
    return text_windows(model.tokenizer, items, model.manifest.max_length, model.settings["doc_stride"])


def _text_rows(model: Model, items: Sequence[Item]) -> list[list[Window]]:
    return text_rows(model.tokenizer, items, model.manifest.max_length, model.manifest.truncation_side)


def _context_windows(model: Model, items: Sequence[Item]) -> list[list[Window]]:
    manifest = model.manifest
    stride = model.settings["doc_stride"]
    return context_windows(model.tokenizer, items, manifest.max_length, stride, manifest.truncation_side)


# --- answering ------------------------------------------------------------------------------


def _single_label(model: Model, asked: Asked, wish: Wish) -> list[Prediction]:
    labels = model.manifest.labels
    probabilities = decode.softmax(asked.matrix() / np.float32(wish.temperature))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : wish.top_k]
    scores = np.take_along_axis(probabilities, order, axis=1)
    return [
        Prediction(labels[best[0]], row[0], {labels[index]: score for index, score in zip(best, row, strict=True)})
        for best, row in zip(order.tolist(), scores.tolist(), strict=True)
    ]


def _multi_label(model: Model, asked: Asked, wish: Wish) -> list[MultiLabelPrediction]:
    labels, logits = model.manifest.labels, asked.matrix()
    # Thresholds were fitted on scores as they are: a temperature must not change the labels.
    applies = decode.chosen(logits, model.settings["thresholds"])
    probabilities = decode.sigmoid(logits / np.float32(wish.temperature))
    found = []
    for yes, row in zip(applies, probabilities, strict=True):
        order = np.argsort(-row, kind="stable").tolist()
        kept = [index for place, index in enumerate(order) if yes[index] or wish.top_k is None or place < wish.top_k]
        scores = {labels[index]: float(row[index]) for index in kept}
        found.append(MultiLabelPrediction(tuple(labels[index] for index in order if yes[index]), scores))
    return found


def _regression(model: Model, asked: Asked, wish: Wish) -> list[Score]:
    return [Score(value) for value in asked.matrix()[:, 0].tolist()]


def _entities(model: Model, asked: Asked, wish: Wish) -> list[list[Entity]]:
    found = []
    for item, windows, values in zip(asked.items, asked.windows, asked.values, strict=True):
        how = (model.manifest.max_length, model.settings["doc_stride"])
        offsets = stitched(model.tokenizer, windows, [window.offsets for window in windows], *how)
        logits = stitched(model.tokenizer, windows, values, *how)
        at = places(item.text)
        found.append(
            [
                Entity(one.label, one.score, item.text[at[one.start] : at[one.end]], at[one.start], at[one.end])
                for one in decode.entities(mended(item.text), offsets, logits, model.manifest.labels)
            ]
        )
    return found


def _answers(model: Model, asked: Asked, wish: Wish) -> list[Answer]:
    found = []
    for item, windows, values in zip(asked.items, asked.windows, asked.values, strict=True):
        context = item.pair or ""
        spans = decode.best_spans(
            values,
            [window.offsets for window in windows],
            most_tokens=model.settings["max_answer_tokens"],
            count=wish.top_k,
            may_lack=model.settings["null_score"],
        )
        at = places(context)
        stretches = [(at[span.start], at[span.end], span.score) for span in spans]
        best, *others = [Answer(context[start:end], score, start, end) for start, end, score in stretches]
        found.append(Answer(best.text, best.score, best.start, best.end, tuple(others)))
    return found


def _fills(model: Model, asked: Asked, wish: Wish) -> list[list[list[Fill]]]:
    token, length = model.settings["mask_token_id"], model.manifest.max_length
    mask = model.tokenizer.id_to_token(token) or f"token {token}"
    found = []
    for index, (item, values) in enumerate(zip(asked.items, asked.values, strict=True), asked.first):
        seen, written = len(values[0]), item.text.count(mask)
        if not seen or seen < written:
            what = f"{written} times {mask}, but {seen} in its first {length} tokens" if written else f"no {mask}"
            raise UserError(
                f"Text {index} has {what}.",
                f"Write {mask} where a piece is missing: at least once, and where the model sees it.",
            )
        tokens, scores = decode.top_pieces(values[0], wish.top_k)
        found.append(
            [
                [Fill(model.tokenizer.decode([token], skip_special_tokens=False), score, token) for token, score in row]
                for row in (zip(*pair, strict=True) for pair in zip(tokens.tolist(), scores.tolist(), strict=True))
            ]
        )
    return found


def _embeddings(model: Model, asked: Asked, wish: Wish) -> list[Floats]:
    return list(asked.matrix())


def _stacked(found: list[Floats], model: Model) -> Floats:
    return np.stack(found) if found else np.empty((0, width(model) or 0), dtype=np.float32)


WAYS: Mapping[Kind, Way] = {
    "single-label": Way(_rows, _single_label),
    "multi-label": Way(_rows, _multi_label),
    "regression": Way(_rows, _regression),
    "token-classification": Way(_text_windows, _entities, judged=_text_rows),
    "question-answering": Way(_context_windows, _answers, chunk=512),
    # A vocabulary of scores for each token: 120 MB for a thousand tokens of BERT's.
    "fill-mask": Way(_rows, _fills, chunk=256, batch_tokens=256),
    "feature-extraction": Way(_rows, _embeddings, gather=_stacked),
}
