"""Torch models for every task: built, loaded, saved and asked in one way, whatever the head."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel
from transformers.utils.generic import ModelOutput

from compressor.answers import INPUT_NAMES, Call, Feed, Floats
from compressor.architectures import architecture_of
from compressor.pooling import Pooling, read_pooling, write_pooling
from compressor.slimming.loading import load_student
from compressor.slimming.widths import needs_load_student
from compressor.tasks import Task


@dataclass
class SentenceOutput(ModelOutput):
    """What a sentence encoder answers.

    Attributes:
        sentence_embedding: float of shape (batch, hidden).
        last_hidden_state: What was pooled, of shape (batch, tokens, hidden); sentence-transformers' ONNX backend asks
            a file for it.
        hidden_states: As the encoder gives them, where they were asked for.
    """

    sentence_embedding: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class SentenceEncoder(nn.Module):
    """An encoder with pooling and normalisation behind it, so that the ONNX file holds them too.

    The encoder hangs under its family's prefix (``bert``, ``mpnet``, ...), so that its layers have the same paths as
    in a model with a head.

    Args:
        encoder: As ``AutoModel`` loads it.
        pooling: How tokens become one vector.
    """

    def __init__(self, encoder: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.base_model_prefix: str = encoder.base_model_prefix
        self.add_module(self.base_model_prefix, encoder)
        self.config = encoder.config
        self.pooling = pooling

    @property
    def encoder(self) -> PreTrainedModel:
        """The encoder alone."""
        return cast("PreTrainedModel", self.get_submodule(self.base_model_prefix))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.device

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> SentenceOutput:
        """Embed texts.

        Args:
            input_ids: Of shape (batch, tokens).
            attention_mask: 1 for tokens, 0 for padding, of shape (batch, tokens).
            token_type_ids: Of shape (batch, tokens), for an encoder that takes them.
            output_hidden_states: Give the hidden states too.
        """
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=output_hidden_states, **types
        )
        states = output.last_hidden_state
        return SentenceOutput(
            sentence_embedding=pool(states, attention_mask, self.pooling),
            last_hidden_state=states,
            hidden_states=output.hidden_states if output_hidden_states else None,
        )

    def save_pretrained(self, folder: Path | str, **options: Any) -> None:
        """Write a folder that transformers and sentence-transformers load."""
        self.encoder.save_pretrained(folder, **options)
        longest = self.config.max_position_embeddings - architecture_of(self.config).reserved_positions
        write_pooling(Path(folder), self.pooling, self.config.hidden_size, longest)


Model = PreTrainedModel | SentenceEncoder


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Make one vector of the token states.

    Args:
        states: Of shape (batch, tokens, hidden).
        mask: 1 for tokens, 0 for padding, of shape (batch, tokens).
        pooling: How.

    Returns:
        Of shape (batch, hidden).
    """
    weight = mask.unsqueeze(-1).to(states.dtype)  # [b, s, 1]
    if pooling.mode == "cls":
        found = states[:, 0]
    elif pooling.mode == "max":
        found = (states + (1 - weight) * -1e9).amax(dim=1)
    else:
        # Flattened, so that onnxruntime adds row after row, and padding adds zeros: it would else choose an order of
        # the additions by the shape, and a text's embedding would change with its neighbours in the last digit.
        rows = (states * weight).transpose(0, 1).flatten(1)  # [s, b * h]
        total = rows.sum(dim=0).reshape(-1, states.shape[-1])  # [b, h]
        found = total / weight.sum(dim=1).clamp(min=1e-9)
    return functional.normalize(found, dim=-1) if pooling.normalize else found


def build(task: Task, config: Any, pooling: Pooling | None = None) -> Model:
    """Build a model with random weights; seeding is the caller's.

    Args:
        task: Which head.
        config: Of the encoder, with ``num_labels`` where the head has names.
        pooling: Of a sentence encoder.
    """
    model = _auto_class(task).from_config(config, dtype=torch.float32, trust_remote_code=False)
    return SentenceEncoder(model, pooling or Pooling()) if is_headless(task) else model


def load(task: Task, folder: Path, **options: Any) -> tuple[Model, Mapping[str, Any]]:
    """Load a model of transformers' own class in fp32 from a local folder, safetensors only.

    Args:
        task: Which head.
        folder: As ``save_pretrained`` wrote it.
        options: More of ``from_pretrained``'s, such as ``config``.

    Returns:
        The model in eval mode, and what transformers says about missing and unexpected weights.
    """
    model: Any
    info: Mapping[str, Any]
    if needs_load_student(folder):
        model = load_student(folder).to(options.get("dtype", torch.float32))
        info = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
    else:
        model, info = _auto_class(task).from_pretrained(
            folder,
            **{"dtype": torch.float32, "local_files_only": True, "use_safetensors": True, **options},
            trust_remote_code=False,
            output_loading_info=True,
        )
    if is_headless(task):
        model = SentenceEncoder(model, read_pooling(folder))
        # Its weights are named as in the wrapper.
        info = {**info, "missing_keys": {f"{model.base_model_prefix}.{key}" for key in info["missing_keys"]}}
    return model.eval(), info


def outputs(task: Task, found: Any) -> tuple[Tensor, ...]:
    """Take a model's answers out of what its ``forward`` gave, in the order of ``task.outputs``."""
    return tuple(getattr(found, name) for name in task.outputs)


def asking(model: nn.Module, task: Task, device: str, mask_token_id: int | None = None) -> Call:
    """Turn a torch model into what ``answers.collect`` calls.

    Args:
        model: In eval mode, on the device.
        task: Its head.
        device: ``cpu`` or ``cuda``.
        mask_token_id: Of a masked language model: its head then sees the masked tokens alone, and the answers about
            all others are 0. Projecting every token onto the vocabulary would cost most of the pass.
    """

    def call(feed: Feed) -> Sequence[Floats]:
        batch = {name: torch.from_numpy(array).to(device) for name, array in feed.items()}
        with torch.inference_mode():
            if task.unit != "masked token" or mask_token_id is None:
                return [found.float().cpu().numpy() for found in outputs(task, model(**batch))]
            selected = batch["input_ids"] == mask_token_id
            with answering_at(model, selected):
                logits = model(**batch).logits[0].float().cpu().numpy()  # [selected, vocabulary]
        found = np.zeros((*feed["input_ids"].shape, logits.shape[-1]), np.float32)  # pages that stay 0 cost nothing
        found[selected.cpu().numpy()] = logits
        return [found]

    return call


@contextmanager
def answering_at(model: nn.Module, selected: Tensor) -> Iterator[None]:
    """Let the head of a model see some tokens only, while the block runs.

    Args:
        model: With a head on token states, such as a masked language model; wrapped for several devices or not.
        selected: True for the tokens that the head sees, of shape (batch, tokens). Its answers then have the shape
            (1, selected tokens, width), the tokens in reading order.
    """

    def choose(module: nn.Module, inputs: Any, found: Any) -> Any:
        found["last_hidden_state"] = found.last_hidden_state[selected].unsqueeze(0)  # [1, selected, hidden]
        return found

    inner: Any = getattr(model, "module", model)
    handle = inner.base_model.register_forward_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def inputs_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the inputs that a model takes, in the order of its ``forward``."""
    inner: nn.Module = model.encoder if isinstance(model, SentenceEncoder) else model
    return tuple(name for name in inspect.signature(inner.forward).parameters if name in INPUT_NAMES)


def is_headless(task: Task) -> bool:
    """Tell whether a task needs the encoder without a head of transformers'."""
    return not task.head


def _auto_class(task: Task) -> Any:
    return getattr(transformers, task.auto_class) if task.head else AutoModel
