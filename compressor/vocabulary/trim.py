"""A teacher with fewer pieces, of which everything else is the same."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from compressor.answers import Answers, cut, largest_difference, pad
from compressor.artifacts import Teacher, Trimmed
from compressor.aside import scratch
from compressor.errors import RecipeError, StageError
from compressor.heads import SentenceEncoder, asking
from compressor.vocabulary.pieces import REMEDY, State, kept_ids, trimmed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from compressor.heads import Model
    from compressor.tasks import Task

TOLERANCE = 1e-6
"""Largest difference of an output that the same rows of an embedding may make."""

_BATCH = 1000
_ASKED = 64
_TOKENIZER = "tokenizer.json"
_Pairs = Sequence[Sequence[str]]


def check(tokenizer: PreTrainedTokenizerBase, task: Task) -> None:
    """Make sure, before anything is trained, that a run can be trimmed.

    Raises:
        RecipeError: The tokenizer is of another kind, or the task answers with the vocabulary itself.
    """
    from compressor.vocabulary import pieces

    if task.unit == "masked token":
        raise RecipeError(
            f"--trim-vocab does not go with {task.name}: its student answers with pieces of the vocabulary, and "
            "whoever trains it further may need any of them.",
            "Trim the run that distils it for its task.",
        )
    pieces.check(_state(tokenizer))


def trim(
    teacher: Teacher,
    texts: Iterable[str],
    held_out: _Pairs,
    *,
    source: str,
    input_names: Sequence[str],
    max_length: int,
) -> tuple[Teacher, Trimmed]:
    """Take the pieces that texts do not use out of a teacher's tokenizer and embeddings, and prove it.

    Args:
        teacher: Is left as it is.
        texts: Their pieces stay, with what ``pieces`` says is needed for every other text.
        held_out: Other texts, each alone or with its pair. Those whose pieces all stay must be cut as before, and get
            the same answers.
        source: Where the texts came from, for the report.
        input_names: Inputs of the model.
        max_length: Of the held-out texts, in tokens.

    Returns:
        A teacher that shares all weights but the embeddings with the one given, and what was trimmed.

    Raises:
        RecipeError: The tokenizer is of a kind that cannot be trimmed.
        StageError: A text whose pieces all stay is cut in another way, or gets another answer.
    """
    tokenizer, config = teacher.tokenizer, teacher.model.config
    state = _state(tokenizer)
    more = {*tokenizer.all_special_ids, *_ids_of(config).values()}
    if teacher.architecture.reserved_positions:
        # Positions are counted from the padding's id: it must stay what it is.
        more |= set(range(int(config.pad_token_id) + 1))
    kept = kept_ids(state, _used(tokenizer, texts), more)
    small = _rebuilt(tokenizer, trimmed(state, kept))
    _check_ids(tokenizer, small, kept)
    model = _with_rows(teacher.model, kept)
    fewer = replace(
        teacher,
        model=model,
        tokenizer=small,
        fingerprint=hashlib.sha256(f"{teacher.fingerprint}:{kept}".encode()).hexdigest(),
    )
    reader = _Reader(teacher, fewer, input_names, max_length)
    unchanged, unknown = _compare(teacher, fewer, kept, held_out, reader)
    table = _encoder(teacher.model).get_input_embeddings().weight
    return fewer, Trimmed(
        source=source,
        pieces_before=len(table),
        pieces_after=len(kept),
        saved_bytes=(len(table) - len(kept)) * table.shape[1] * table.element_size(),
        texts=len(held_out),
        changed_texts=len(held_out) - len(unchanged),
        unknown_texts=unknown,
        max_abs_difference=_difference(teacher, fewer, held_out, unchanged, reader, input_names),
    )


# --- tokenizer ------------------------------------------------------------------------------


def _state(tokenizer: PreTrainedTokenizerBase) -> State:
    state: State = json.loads(cast("Any", tokenizer).backend_tokenizer.to_str())
    # Every call to the tokenizer leaves its own there.
    return {**state, "truncation": None, "padding": None}


def _used(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> set[int]:
    found: set[int] = set()
    part: list[str] = []

    def read() -> None:
        # verbose=False: texts may be longer than the model takes, it does not see them.
        rows = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        found.update(index for row in rows for index in row)
        part.clear()

    for text in texts:
        part.append(text)
        if len(part) == _BATCH:
            read()
    if part:
        read()
    return found


def _rebuilt(tokenizer: PreTrainedTokenizerBase, state: State) -> PreTrainedTokenizerBase:
    """Load the tokenizer as whoever gets the folder will."""
    from transformers import AutoTokenizer

    with scratch("vocabulary") as folder:
        tokenizer.save_pretrained(folder)
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        # Old forms of the vocabulary, which would say otherwise: all of it is in tokenizer.json.
        config.pop("added_tokens_decoder", None)
        for path in folder.iterdir():
            if path.suffix in (".txt", ".model") or path.name in ("vocab.json", "merges.txt", "added_tokens.json"):
                path.unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        (folder / _TOKENIZER).write_text(json.dumps(state), encoding="utf-8")
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return found


def _check_ids(before: PreTrainedTokenizerBase, after: PreTrainedTokenizerBase, kept: Sequence[int]) -> None:
    wanted = {cast("str", before.convert_ids_to_tokens(index)): place for place, index in enumerate(kept)}
    pad = before.convert_tokens_to_ids(before.pad_token)
    if after.get_vocab() != wanted or kept[cast("int", after.pad_token_id)] != pad:
        raise RecipeError(
            f"--trim-vocab cannot trim this {type(before).__name__}: transformers gives its pieces other ids when it "
            "loads the smaller one.",
            REMEDY,
        )


# --- model ----------------------------------------------------------------------------------


def _encoder(model: Model) -> Any:
    return model.encoder if isinstance(model, SentenceEncoder) else model


def _ids_of(config: Any) -> dict[str, int]:
    """Ids of tokens that a config names."""
    found = {name: value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    return {name: value for name, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}


def _with_rows(model: Model, kept: Sequence[int]) -> Model:
    """Copy a model with some rows of its embeddings; all other weights are shared with it."""
    table = _encoder(model).get_input_embeddings()
    shared: dict[int, Any] = {id(weight): weight for weight in model.parameters() if weight is not table.weight}
    shared[id(table.weight)] = nn.Parameter(table.weight.detach()[torch.tensor(kept)].clone())
    small = copy.deepcopy(model, shared)
    new = {before: after for after, before in enumerate(kept)}
    own = _encoder(small).get_input_embeddings()
    own.num_embeddings = len(kept)
    if own.padding_idx is not None:
        own.padding_idx = new[own.padding_idx]
    small.config.vocab_size = len(kept)
    for name, index in _ids_of(small.config).items():
        setattr(small.config, name, new.get(index))
    return small


# --- proof ----------------------------------------------------------------------------------


class _Reader:
    """Cuts texts with the tokenizers before and after, some at a time: a split of long texts would fill the memory."""

    def __init__(self, before: Teacher, after: Teacher, names: Sequence[str], max_length: int) -> None:
        self._tokenizers = before.tokenizer, after.tokenizer
        self._names, self._max_length = names, max_length

    def rows(self, part: _Pairs) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        columns = [list(column) for column in zip(*part, strict=True)]
        one, two = (tokenizer(*columns, truncation=True, max_length=self._max_length) for tokenizer in self._tokenizers)
        for row in range(len(part)):
            yield {name: one[name][row] for name in self._names}, {name: two[name][row] for name in self._names}


def _compare(
    before: Teacher, after: Teacher, kept: Sequence[int], held_out: _Pairs, reader: _Reader
) -> tuple[list[int], int]:
    """Cut the held-out texts with both tokenizers.

    Returns:
        Which texts are cut as before, and how many have more unknown pieces than before.

    Raises:
        StageError: A text whose pieces all stay is cut in another way.
    """
    new = {index: place for place, index in enumerate(kept)}
    unchanged, unknown = [], 0
    unknowns: tuple[Any, Any] = before.tokenizer.unk_token_id, after.tokenizer.unk_token_id
    rows = (row for start in range(0, len(held_out), _BATCH) for row in reader.rows(held_out[start : start + _BATCH]))
    for row, (one, two) in enumerate(rows):
        wanted = [new.get(index) for index in one["input_ids"]]
        if wanted == two["input_ids"]:
            unchanged.append(row)
        elif None not in wanted:
            raise StageError(
                f"The trimmed tokenizer cuts a text whose pieces all stay in another way: {held_out[row][0][:80]!r}.",
                "Please report the tokenizer; without --trim-vocab the run goes on.",
            )
        more = two["input_ids"].count(unknowns[1]) > one["input_ids"].count(unknowns[0])
        unknown += unknowns[0] is not None and more
    return unchanged, unknown


def _difference(
    before: Teacher,
    after: Teacher,
    held_out: _Pairs,
    unchanged: Sequence[int],
    reader: _Reader,
    names: Sequence[str],
) -> float:
    """Ask both models about texts that are cut as before.

    Returns:
        The largest difference of an output; 0 where no text is cut as before.

    Raises:
        StageError: It is above the tolerance.
    """
    if not unchanged:
        return 0.0
    spread = np.linspace(0, len(unchanged) - 1, min(_ASKED, len(unchanged))).astype(int)
    chosen = list(reader.rows([held_out[unchanged[place]] for place in np.unique(spread)]))
    found = [_ask(teacher, [pair[side] for pair in chosen], names) for side, teacher in enumerate((before, after))]
    largest = largest_difference(before.task, *found)
    if not largest <= TOLERANCE:
        raise StageError(
            f"The trimmed model answers otherwise about a text that is cut as before: outputs differ by {largest:.2g}.",
            "Please report the model type; without --trim-vocab the run goes on.",
        )
    return largest


def _ask(teacher: Teacher, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> Answers:
    call = asking(cast("nn.Module", teacher.model), teacher.task, "cpu")
    feed = pad(rows, names, cast("int", teacher.tokenizer.pad_token_id))
    return Answers.of(cut(teacher.task, call(feed), rows))
