"""From texts to what the model says about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from compressor.errors import ManifestError, UserError
from compressor.runtime.batches import INPUTS, batches, feeds
from compressor.runtime.kinds import WAYS, Asked, Floats, Model, Wish, read, takes, width
from compressor.runtime.lanes import Lanes
from compressor.runtime.manifest import MANIFEST, TOKENIZER, Manifest, locate, read_manifest
from compressor.runtime.manifest import verify as check
from compressor.runtime.session import Provider, Session, open_session
from compressor.runtime.texts import open_tokenizer
from compressor.runtime.warm import kept_graph
from compressor.runtime.windows import Window
from compressor.tasks import NAMES, TASKS, Kind, kinds_of


class Predictor:
    """A compressed model, ready to be asked; safe for concurrent callers.

    Args:
        folder: A folder that compress has written; a snapshot of one from the hub will do.
        model: Which of its models: a precision such as ``fp32`` or ``int8``, or a file such as
            ``onnx/model.onnx``. Default: the manifest's ``default_model``.
        provider: Where it must run: ``cpu`` or ``cuda``.
        threads: Threads of one call. Default: the cores that this process may use.
        verify: Compare the files that are loaded with their checksums.
        batch_size: Most texts in a batch.
        max_batch_tokens: Most tokens in a batch, padding included; a longer text runs alone. Default: 256 on up to
            two threads, so that a layer's activations stay in the cores' caches, more with more threads.
        calibrated: Divide the logits by the model's temperature before they become scores, so that a score
            of 0.9 is right about nine times in ten on texts like those it was fitted on. Labels and their
            order stay.
        parallel_batches: Run the batches of a long list side by side, each on one core, which takes a second copy of
            the weights in memory. Default: where the file has at most 256 MB.
        warm_start: A folder that keeps the graph as onnxruntime has optimised it for this machine, for the next
            process. ``verify`` looks at the model that the graph was made from: protect this folder as that one.

    Attributes:
        kind: Of the task, as in ``compressor.tasks``.
        takes: Names of the texts of one input: one, or the two of a pair.
        temperature: What the logits are divided by; 1.0 unless ``calibrated``.

    Raises:
        ManifestError: The folder is incomplete, damaged or of another format, or ``calibrated`` was asked for
            and no temperature was fitted.
        ProviderError: The provider is not there.
        UserError: A number is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str | None = None,
        provider: Provider = "cpu",
        threads: int | None = None,
        verify: bool = True,
        batch_size: int = 32,
        max_batch_tokens: int | None = None,
        calibrated: bool = False,
        parallel_batches: bool | None = None,
        warm_start: str | Path | None = None,
    ) -> None:
        if batch_size < 1 or (max_batch_tokens is not None and max_batch_tokens < 1):
            raise UserError(
                f"batch_size {batch_size} and max_batch_tokens {max_batch_tokens} leave no text in a batch.",
                "Both must be at least 1.",
            )
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.kind: Kind = _supported(self.folder, self.manifest)
        self._way = WAYS[self.kind]
        name = _choose(self.folder, self.manifest, model)
        self.temperature = _temperature(self.folder, self.manifest, name) if calibrated else 1.0
        files = _files(self.manifest, name)
        if verify:
            check(self.folder, self.manifest, [*files, TOKENIZER])
        sha256 = [self.manifest.files[file].sha256 for file in files]
        kept = None if warm_start is None else kept_graph(Path(warm_start), sha256, provider)
        self._model = Model.of(self.manifest, _open_tokenizer(self.folder, self.manifest, self.kind))
        self.takes = takes(self._model)
        self.session = open_session(locate(self.folder, name), provider=provider, threads=threads, kept=kept)
        _match(self.session, self.manifest)
        self._lanes = Lanes(self.session, parallel_batches)
        self._batch_size = batch_size
        self._max_batch_tokens = max_batch_tokens or min(_budget(self.session), self._way.batch_tokens)
        self._lane_tokens = max_batch_tokens or min(_LEAST_BUDGET, self._way.batch_tokens)

    def __call__(self, inputs: Any, top_k: int | None = 1) -> Any:
        """Ask the model about texts.

        Unpaired surrogates are read as U+FFFD. What is longer than the model takes is truncated, except for questions
        and entities: there it is read in windows.

        Args:
            inputs: One text or several. Where the model takes pairs, ``(text, pair)`` or several of them; for
                question answering ``(question, context)``.
            top_k: How many labels the ``scores`` hold, how many answers there are, or how many pieces for each mask;
                ``None`` for all. Nothing else depends on it.

        Returns:
            One result for each input, in the order given, in a list also for a single input:

            - text-classification: a ``Prediction``; with several labels a ``MultiLabelPrediction``; of a regression
              or a reranker a ``Score``.
            - token-classification: a list of ``Entity``.
            - question-answering: an ``Answer``.
            - fill-mask: for each mask a list of ``Fill``.
            - feature-extraction: a row of one float32 matrix of shape (texts, dimension), in place of the list.

        Raises:
            UserError: Something is not a text, a text has no mask where one is needed, or ``top_k`` is below 1.
        """
        if top_k is not None and top_k < 1:
            raise UserError(f"top_k is {top_k}.", "Ask for at least 1 label, or for None to get all.")
        wish = Wish(top_k, self.temperature)
        found = [result for asked in self._ask(inputs) for result in self._way.decode(self._model, asked, wish)]
        return self._way.gather(found, self._model)

    def logits(self, inputs: Any) -> Floats:
        """Compute the raw output of a model that answers about whole texts; ``calibrated`` does not change it.

        Args:
            inputs: As in a call.

        Returns:
            float32 of shape (texts, labels), rows in the order given.

        Raises:
            UserError: Something is not a text, or the model answers about tokens.
        """
        if TASKS[self.kind].unit != "row":
            raise UserError(
                f"A model for {self.manifest.task} answers about each {TASKS[self.kind].unit}.",
                "Use raw(...), which gives one array for each row.",
            )
        found = [asked.matrix() for asked in self._ask(inputs)]
        return np.concatenate(found) if found else np.empty((0, width(self._model) or 0), dtype=np.float32)

    def raw(self, inputs: Any) -> list[Floats]:
        """Compute the raw output as the toolkit judges it, without padding.

        Args:
            inputs: As in a call.

        Returns:
            For each text, pair or window, in order, float32 of shape (units, width): its labels' logits, those of
            each token, start and end of each token, the vocabulary of each mask, or the embedding. A text that is
            longer than the model takes is one row, cut, except for question answering.

        Raises:
            UserError: Something is not a text.
        """
        return [value for asked in self._ask(inputs, judged=True) for values in asked.values for value in values]

    def _ask(self, inputs: Any, *, judged: bool = False) -> Iterator[Asked]:
        items = read(self._model, inputs)
        windows_of = self._way.judged if judged and self._way.judged else self._way.windows
        for first in range(0, len(items), self._way.chunk):
            chunk = items[first : first + self._way.chunk]
            windows = windows_of(self._model, chunk)
            flat = iter(self._run([window for found in windows for window in found]))
            yield Asked(first, chunk, windows, [[next(flat) for _ in found] for found in windows])

    def _run(self, windows: Sequence[Window]) -> list[Floats]:
        """Answer about every window, in the order given: [units, width] each."""

        def answer(session: Session, rows: list[int]) -> list[Floats]:
            batch = [windows[row] for row in rows]
            feed = feeds(batch, session.inputs, self.manifest.pad_token_id)
            return self._cut(session.run_all(feed, self.manifest.outputs), batch)

        lengths = [len(window) for window in windows]
        planned = list(batches(lengths, self._batch_size, self._lane_tokens))
        if not self._lanes.worth(len(planned)):
            planned = list(batches(lengths, self._batch_size, self._max_batch_tokens))
            answers = [answer(self.session, rows) for rows in planned]
        else:
            answers = self._lanes.map(answer, planned)
        found: list[Floats] = [np.empty((0, 0), np.float32)] * len(windows)
        for rows, values in zip(planned, answers, strict=True):
            for row, value in zip(rows, values, strict=True):
                found[row] = value
        return found

    def _cut(self, outputs: Sequence[Floats], batch: Sequence[Window]) -> list[Floats]:
        """Cut a batch's outputs into what was said about each window, padding left out."""
        unit = TASKS[self.kind].unit
        joined = outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=-1)  # [b, k], [b, s, k] or [b, s, v]
        size = len(batch) if unit == "row" else (len(batch), max([1, *map(len, batch)]))
        self._fits(joined, size if isinstance(size, tuple) else (size,))
        if unit == "row":
            return list(joined[:, None])
        if unit == "token":
            return [values[: len(window)] for values, window in zip(joined, batch, strict=True)]
        mask = self._model.settings["mask_token_id"]
        places = [[place for place, token in enumerate(window.ids) if token == mask] for window in batch]
        # Copies of the few rows that are asked about, so that the vocabularies of all others can go.
        return [values[found] for values, found in zip(joined, places, strict=True)]

    def _fits(self, values: npt.NDArray[Any], size: tuple[int, ...]) -> None:
        expected = width(self._model)
        if values.ndim == len(size) + 1 and values.shape[:-1] == size and expected in (None, values.shape[-1]):
            return
        name = " and ".join(self.manifest.outputs)
        last = "any" if expected is None else expected
        raise ManifestError(
            f"{self.session.path} gives {name} of shape {values.shape} where the manifest's labels "
            f"need ({', '.join(map(str, (*size, last)))}).",
            "Export the model anew.",
        )


_LEAST_BUDGET = 256


def _budget(session: Session) -> int:
    # Measured at one thread on texts of 11 and 28 tokens: at 256 tokens a small encoder takes 4 to 15% less time than
    # at 1024 and a base one 27%, about as much as at 128. With more threads a batch has to feed them all.
    return 1024 if session.provider == "cuda" else min(1024, max(_LEAST_BUDGET, 128 * session.threads))


def _supported(folder: Path, manifest: Manifest) -> Kind:
    for kind in WAYS:
        if kind == manifest.kind and TASKS[kind].name == manifest.task:
            return kind
    what = f"kind {manifest.kind!r} of task" if kinds_of(manifest.task) else "task"
    raise ManifestError(
        f"{folder / MANIFEST}: {what} {manifest.task!r} is not one that this runtime knows.",
        f"It knows {', '.join(NAMES)}. A newer compressor may know more.",
    )


def _choose(folder: Path, manifest: Manifest, model: str | None) -> str:
    if model is None:
        return manifest.default_model
    models = {name: entry for name, entry in manifest.files.items() if name.endswith(".onnx")}
    found = [name for name, entry in models.items() if model in (name, entry.precision)]
    if not found:
        have = ", ".join(f"{name} ({entry.precision})" for name, entry in models.items())
        raise ManifestError(f"{folder} has no model {model!r}.", f"It has {have}.")
    return manifest.default_model if manifest.default_model in found else found[0]


def _temperature(folder: Path, manifest: Manifest, name: str) -> float:
    found = manifest.files[name].temperature
    if found is None:
        raise ManifestError(
            f"{folder / MANIFEST} has no temperature for {name}: its scores cannot be calibrated.",
            "Ask for scores as they are. A temperature is fitted where validation texts show at least ten mistakes.",
        )
    return found


def _files(manifest: Manifest, name: str) -> list[str]:
    # Only what is loaded, so that a folder may be deployed without the other weights. A large model
    # keeps its weights in files named after it.
    return [name, *(other for other in manifest.files if other.startswith((f"{name}.", f"{name}_")))]


def _open_tokenizer(folder: Path, manifest: Manifest, kind: Kind) -> Tokenizer:
    tokenizer = open_tokenizer(locate(folder, TOKENIZER))
    tokenizer.no_padding()
    if TASKS[kind].unit == "token":  # cut by its windows
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(manifest.max_length, direction=manifest.truncation_side)
    return tokenizer


def _match(session: Session, manifest: Manifest) -> None:
    unknown = [name for name in session.inputs if name not in INPUTS]
    if unknown or set(session.inputs) != set(manifest.inputs):
        raise ManifestError(
            f"{session.path} takes {', '.join(session.inputs)}; the manifest says {', '.join(manifest.inputs)}, "
            f"and this runtime makes {', '.join(INPUTS)}.",
            "Export the model anew.",
        )
    if not set(manifest.outputs) <= set(session.outputs):
        raise ManifestError(
            f"{session.path} gives {', '.join(session.outputs)}; the manifest says {', '.join(manifest.outputs)}.",
            "Export the model anew.",
        )
