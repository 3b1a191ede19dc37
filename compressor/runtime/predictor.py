"""From texts to labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from compressor.errors import ManifestError, UserError
from compressor.runtime.manifest import MANIFEST, TOKENIZER, Manifest, locate, read_manifest, verify
from compressor.runtime.session import Provider, Session, open_session

TASKS = ("text-classification",)

# What each input is made of, and what pads it; None stands for the manifest's pad_token_id.
_INPUTS: dict[str, tuple[str, int | None]] = {
    "input_ids": ("ids", None),
    "attention_mask": ("attention_mask", 0),
    "token_type_ids": ("type_ids", 0),
}

# Texts that are tokenised and sorted together: enough to fill even batches, and bounded memory.
_WINDOW = 4096


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one text.

    Attributes:
        label: The most probable label.
        score: Its probability.
        scores: Probabilities by label, the most probable first: as many as ``top_k`` asked for.
    """

    label: str
    score: float
    scores: Mapping[str, float]


class Predictor:
    """A compressed model, ready to label texts; safe for concurrent callers.

    Args:
        folder: A folder that compress has written; a snapshot of one from the hub will do.
        model: Which of its models: a precision such as ``fp32`` or ``int8``, or a file such as
            ``onnx/model.onnx``. Default: the manifest's ``default_model``.
        provider: Where it must run: ``cpu`` or ``cuda``.
        threads: Threads of one call. Default: the cores that this process may use.
        verify: Compare the files that are loaded with their checksums.
        batch_size: Most texts in a batch.
        max_batch_tokens: Most tokens in a batch, padding included; a longer text runs alone.
        calibrated: Divide the logits by the model's temperature before they become scores, so that a score
            of 0.9 is right about nine times in ten on texts like those it was fitted on. Labels and their
            order stay.

    Attributes:
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
        max_batch_tokens: int = 1024,
        calibrated: bool = False,
    ) -> None:
        if batch_size < 1 or max_batch_tokens < 1:
            raise UserError(
                f"batch_size {batch_size} and max_batch_tokens {max_batch_tokens} leave no text in a batch.",
                "Both must be at least 1.",
            )
        self.folder = Path(folder)
        self.manifest = _supported(self.folder, read_manifest(self.folder))
        name = _choose(self.folder, self.manifest, model)
        self.temperature = _temperature(self.folder, self.manifest, name) if calibrated else 1.0
        if verify:
            _verify(self.folder, self.manifest, name)
        self._tokenizer = _open_tokenizer(self.folder, self.manifest)
        self.session = open_session(locate(self.folder, name), provider=provider, threads=threads)
        _match(self.session, self.manifest)
        self._batch_size = batch_size
        self._max_batch_tokens = max_batch_tokens

    def __call__(self, texts: str | Iterable[str], top_k: int | None = 1) -> list[Prediction]:
        """Label texts.

        Args:
            texts: One text or several. Longer ones than the model takes are truncated; unpaired
                surrogates are read as U+FFFD.
            top_k: How many labels each prediction's ``scores`` hold; ``None`` for all.

        Returns:
            One prediction for each text, in the order given; a list for a single text as well.

        Raises:
            UserError: Something is not a text, or ``top_k`` is below 1.
        """
        if top_k is not None and top_k < 1:
            raise UserError(f"top_k is {top_k}.", "Ask for at least 1 label, or for None to get all.")
        probabilities = _softmax(self.logits(texts) / np.float32(self.temperature))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [_prediction(self.manifest.labels, order, row) for order, row in zip(best, probabilities, strict=True)]

    def logits(self, texts: str | Iterable[str]) -> npt.NDArray[np.float32]:
        """Compute the model's raw output; ``calibrated`` does not change it.

        Args:
            texts: As in a call.

        Returns:
            float32 of shape (texts, labels), rows in the order given.

        Raises:
            UserError: Something is not a text.
        """
        checked = _checked(texts)
        logits = np.empty((len(checked), len(self.manifest.labels)), dtype=np.float32)
        for start in range(0, len(checked), _WINDOW):
            encodings = self._encode(checked[start : start + _WINDOW])
            for rows in _batches([len(item) for item in encodings], self._batch_size, self._max_batch_tokens):
                output = self.session.run(self._feeds([encodings[row] for row in rows]))
                if output.shape != (len(rows), logits.shape[1]):
                    raise ManifestError(
                        f"{self.session.path} gives logits of shape {output.shape} where the manifest's labels "
                        f"need {(len(rows), logits.shape[1])}.",
                        "Export the model anew.",
                    )
                logits[start + np.asarray(rows)] = output
        return logits

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        if len(texts) == 1:  # does not wake the tokenizer's thread pool
            return [self._tokenizer.encode(_mended(texts[0]))]
        return self._tokenizer.encode_batch_fast([_mended(text) for text in texts])

    def _feeds(self, encodings: Sequence[Encoding]) -> dict[str, npt.NDArray[np.int64]]:
        # A tokenizer without special tokens makes no token of an empty text: it becomes one of padding.
        width = max(1, *(len(item) for item in encodings))
        feeds = {}
        for name in self.session.inputs:
            attribute, padding = _INPUTS[name]
            fill = self.manifest.pad_token_id if padding is None else padding
            array = np.full((len(encodings), width), fill, dtype=np.int64)  # [b, s]
            for row, item in enumerate(encodings):
                array[row, : len(item)] = getattr(item, attribute)
            feeds[name] = array
        return feeds


def _supported(folder: Path, manifest: Manifest) -> Manifest:
    if manifest.task not in TASKS:
        raise ManifestError(
            f"{folder / MANIFEST}: task {manifest.task!r} is not one that this runtime knows.",
            f"It knows {', '.join(TASKS)}. A newer compressor may know more: pip install --upgrade compressor.",
        )
    return manifest


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


def _verify(folder: Path, manifest: Manifest, name: str) -> None:
    # Only what is loaded, so that a folder may be deployed without the other weights. A large model
    # keeps its weights in files named after it.
    beside = [other for other in manifest.files if other.startswith((f"{name}.", f"{name}_"))]
    verify(folder, manifest, [name, *beside, TOKENIZER])


def _open_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    path = locate(folder, TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise ManifestError(f"{path} cannot be read: {error}.", "Download or copy the folder again.") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(manifest.max_length, direction=manifest.truncation_side)
    return tokenizer


def _match(session: Session, manifest: Manifest) -> None:
    unknown = [name for name in session.inputs if name not in _INPUTS]
    if unknown or set(session.inputs) != set(manifest.inputs):
        raise ManifestError(
            f"{session.path} takes {', '.join(session.inputs)}; the manifest says {', '.join(manifest.inputs)}, "
            f"and this runtime makes {', '.join(_INPUTS)}.",
            "Export the model anew.",
        )


def _checked(texts: str | Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
        raise UserError(f"Expected texts, not {_kind(texts)}.", "Pass a str or a list of str.")
    found = list(texts)
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(f"Text {index} is {_kind(text)}, not a str.", "Pass a str or a list of str.")
    return found


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _mended(text: str) -> str:
    # Surrogates come from JSON that was cut in the middle of a pair; tokenizers refuses them.
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _batches(lengths: Sequence[int], most: int, tokens: int) -> Iterator[list[int]]:
    """Cut rows into batches of similar length; the longest come first, so that memory grows once."""
    batch: list[int] = []
    width = 0
    for row in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) == most or (len(batch) + 1) * width > tokens):
            yield batch
            batch = []
        width = width if batch else lengths[row]
        batch.append(row)
    if batch:
        yield batch


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    shifted: npt.NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def _prediction(
    labels: Sequence[str], order: npt.NDArray[np.intp], probabilities: npt.NDArray[np.float32]
) -> Prediction:
    scores = {labels[index]: float(probabilities[index]) for index in order}
    return Prediction(labels[order[0]], float(probabilities[order[0]]), scores)
