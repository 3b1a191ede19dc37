"""``--unlabelled`` and ``--augment``: more rows for the student than are labelled, answered by its teacher alone.

The teacher is trained, and everything is judged, on the labelled rows as they are. Only what is made of the rows for
the student changes: its token ids have a fingerprint of their own, which names the soft labels and the trainings too.

A student that never reads the same text twice, and always as its teacher read it, learns the teacher's function rather
than its answers by heart (Beyer et al. 2022, https://arxiv.org/abs/2106.05237): where the teacher itself knows its
training texts by heart, and nothing else is asked for, every epoch has other copies and nothing is dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor import augmentation, data, kept, teacher
from compressor.aside import one_at_a_time
from compressor.errors import RecipeError, UserError
from compressor.events import Note
from compressor.familiarity import familiarity
from compressor.report import words
from compressor.training.engine import arithmetic, resolve_device
from compressor.training.learning_rates import peak_of
from compressor.training.masking import mask_token_of
from compressor.training.objectives import asks_teacher

if TYPE_CHECKING:
    from pathlib import Path

    from compressor.artifacts import Corpus, Teacher, Tokenized
    from compressor.events import Listener
    from compressor.lesson import Candidate, Material
    from compressor.recipe import Recipe
    from compressor.tasks import Kind
    from compressor.teacher import TeacherFacts
    from compressor.teacher.checkpoint import Checkpoint

_FORMAT = 1

MOST_TEXTS = 20_000
"""Of a training split whose texts are altered without being asked: the gain was measured on 8,500 to 15,000."""

LEAST_EPOCHS = 6
"""Of a training whose texts are altered without being asked: the gain was measured with 6 to 10."""

BY_HEART = 0.9
"""Texts are altered without being asked where the teacher's familiarity with them is below this.

At 0.51 to 0.86 copies were worth up to four points, at 0.92 it cannot be told, at 0.99 they cost two to three
(docs/accuracy.md).
"""

NEIGHBOURS, MASKED = "neighbours in the word embeddings", "the masked-language-model head"
_SHARES = {NEIGHBOURS: 0.4, MASKED: 0.15}
"""Of the words: as TinyBERT has it, and as masked language models learn it."""

_REFUSED: dict[Kind, str] = {
    "question-answering": "an answer needs a question and a context, and its place in it",
    "fill-mask": "plain text is its own label: put all texts into --data",
}
_SPANS: dict[Kind, str] = {
    "token-classification": "altered words would have to keep their tags",
    "question-answering": "an altered context would have to keep the place of its answer",
    "fill-mask": "other words are masked in every epoch already",
}


def is_wanted(recipe: Recipe) -> bool:
    """Tell whether the student is to have more rows."""
    return recipe.data.unlabelled is not None or _count(recipe) > 0


def settle(recipe: Recipe, tutor: Teacher, material: Material, listen: Listener) -> Recipe:
    """Decide what the recipe leaves to the data and the teacher.

    A copy of each text for every epoch after the first, where that was found to help; dropout where there are none; and
    the learning rate.

    Args:
        recipe: As it was asked for.
        tutor: The teacher as it teaches.
        material: The labelled rows.
        listen: Told of what decided.
    """
    count, learning = recipe.data.augment, recipe.distill
    if count is None:
        count = _unasked(recipe, tutor.task.kind)
        split = material.corpus.splits["train"]
        is_measured = not split.pairs and len(split.texts) <= MOST_TEXTS
        if not is_measured or (count > 0 and not _by_heart(recipe, tutor, material, listen)):
            count = 0
    decided = {
        "dropout": count == 0 if learning.dropout is None else learning.dropout,
        "learning_rate": learning.learning_rate or peak_of(tutor.model.config.hidden_size),
    }
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"augment": count}),
            "distill": learning.model_copy(update=decided),
        }
    )


def as_asked(recipe: Recipe, asked: Recipe) -> Recipe:
    """Leave to data and machine again what they decided: with other epochs, texts or devices it is something else.

    What a tuning found stays.
    """
    left: dict[str, float | None] = {"dropout": asked.distill.dropout}
    if asked.tune.trials is None:
        left["learning_rate"] = asked.distill.learning_rate
    return recipe.model_copy(
        update={
            "device": asked.device,
            "data": recipe.data.model_copy(update={"augment": asked.data.augment}),
            "distill": recipe.distill.model_copy(update=left),
        }
    )


def _count(recipe: Recipe) -> int:
    return recipe.data.augment or 0


def _unasked(recipe: Recipe, kind: Kind) -> int:
    """How many copies there are where the recipe does not say. Presets are as they were published."""
    learning = recipe.distill
    by_soft_labels = learning.preset == "default" and learning.soft_weight > 0
    if kind != "single-label" or not by_soft_labels or learning.logit_weight > 0 or learning.has_hints:
        return 0
    if learning.epochs < LEAST_EPOCHS or recipe.student.trim_vocab is not None:
        return 0
    return math.ceil(learning.epochs) - 1


def _by_heart(recipe: Recipe, tutor: Teacher, material: Material, listen: Listener) -> bool:
    found = familiarity(tutor, material.tokenized, recipe.device, listen)
    listen(Note(words.by_heart(found.known, found.unknown, is_altered=found.ratio < BY_HEART)))
    return found.ratio < BY_HEART


def check(recipe: Recipe, facts: TeacherFacts) -> None:
    """Make sure, before anything is trained, that the task can learn from rows without labels.

    Raises:
        RecipeError: It cannot, or no loss of the recipe asks the teacher.
        DataError: There is no such file.
    """
    if not is_wanted(recipe):
        return
    kind = facts.task.kind
    for flag, given, reasons in (
        ("--unlabelled", recipe.data.unlabelled is not None, _REFUSED),
        ("--augment", _count(recipe) > 0, _SPANS),
    ):
        if given and kind in reasons:
            able = ", ".join(name for name in data.ANSWERABLE if name not in reasons)
            raise RecipeError(
                f"{flag} does not go with {kind}: {reasons[kind]}.", f"It works for {able}. Drop {flag} here."
            )
    if not asks_teacher(recipe.distill) and not recipe.distill.has_hints:
        raise RecipeError(
            "Rows without labels teach by the teacher's answers, but --soft-weight and --logit-weight are 0.",
            "Give one of them a weight above 0, or drop --unlabelled and --augment.",
        )
    if recipe.data.unlabelled is not None:
        data.find_unlabelled(recipe.data.unlabelled)


def read(recipe: Recipe, corpus: Corpus, listen: Listener) -> Corpus:
    """Read the texts without labels, if there are any, and put them beside the training rows.

    Raises:
        DataError: As in ``data.read_unlabelled``.
    """
    source = recipe.data.unlabelled
    return corpus if source is None else data.read_unlabelled(recipe.data, source, corpus, listen)


def extend(recipe: Recipe, candidate: Candidate, tutor: Teacher, material: Material, listen: Listener) -> Material:
    """Add altered copies of the training rows, and tokenise all that the student is to learn from.

    Args:
        recipe: Says what is added.
        candidate: The teacher as it was found; its checkpoint may have a head for masked words.
        tutor: The teacher as it teaches.
        material: The labelled rows, and the ones that were read without labels.
        listen: Told of what was added and left out.

    Returns:
        The material with the added rows; as it was where nothing is wanted.
    """
    if not is_wanted(recipe):
        return material
    corpus, tokenized = material.corpus, material.tokenized
    if _count(recipe) > 0:
        copies, method = _copies(recipe, candidate, tutor, corpus, tokenized, listen)
        origins = np.repeat(np.arange(len(corpus.splits["train"].texts)), _count(recipe)).tolist()
        corpus = data.add(corpus, copies, "augmented", f"{_count(recipe)} copies each, by {method}", origins)
    for part in corpus.added.parts if corpus.added is not None else ():
        listen(Note(words.addition(asdict(part))))
    again = data.tokenize(
        corpus,
        tutor.tokenizer,
        tokenized.input_names,
        tokenized.max_length,
        recipe.cache_dir.expanduser(),
        listen,
        doc_stride=recipe.data.doc_stride,
        seed=recipe.seed,
    )
    return replace(material, corpus=corpus, tokenized=again)


def in_words(recipe: Recipe, kind: Kind) -> Iterator[str]:
    """What will be added to a task's texts, for the plan; what the data will settle has its condition."""
    if recipe.data.unlabelled is not None:
        yield f"the texts of {recipe.data.unlabelled}, labelled by the teacher alone"
    is_open = recipe.data.augment is None
    count = _unasked(recipe, kind) if is_open else _count(recipe)
    if count > 0:
        copies = f"{count} altered cop{'y' if count == 1 else 'ies'} of each training text"
        yield f"{copies}, labelled by the teacher alone" + (
            f", if these are up to {MOST_TEXTS:,}, no pairs, and known to it by heart" if is_open else ""
        )


def _copies(
    recipe: Recipe, candidate: Candidate, tutor: Teacher, corpus: Corpus, tokenized: Tokenized, listen: Listener
) -> tuple[list[data.Row], str]:
    """Make the copies, or read those that an earlier run has made."""
    path = kept.place(
        recipe.cache_dir.expanduser(),
        "augmented",
        {
            "augmentation": _FORMAT,
            "teacher": [tutor.fingerprint, candidate.facts.fingerprint],
            "data": [corpus.fingerprint, tokenized.fingerprint],
            "copies": _count(recipe),
            "precision": recipe.distill.precision,
            "seed": recipe.seed,
        },
    ).with_suffix(".json")
    with one_at_a_time(path, listen):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return [tuple(row) for row in stored["rows"]], str(stored["method"])
        except (OSError, ValueError, KeyError, TypeError):
            rows, method = _make(recipe, candidate, tutor, corpus, tokenized.max_length, listen)
            _write(path, {"method": method, "rows": rows})
            return rows, method


def _make(
    recipe: Recipe, candidate: Candidate, tutor: Teacher, corpus: Corpus, max_length: int, listen: Listener
) -> tuple[list[data.Row], str]:
    lexicon = augmentation.Lexicon(tutor.tokenizer, max_length)
    head = _masked_head(candidate.checkpoint)
    device, mask = resolve_device(recipe.device), mask_token_of(tutor.tokenizer)
    padding: Any = tutor.tokenizer.pad_token_id
    if head is not None and mask is not None:
        method = MASKED
        propose = augmentation.by_masked_head(head.to(device), lexicon, mask, padding, device)
    else:
        method = NEIGHBOURS
        encoder: Any = tutor.model.get_submodule(tutor.model.base_model_prefix)
        table = encoder.get_input_embeddings()
        propose = augmentation.by_neighbours(table.weight, lexicon)
    sides = list(zip(*data.rows_of(corpus.splits["train"]), strict=True))
    with arithmetic(device, recipe.distill.precision if method == MASKED else "fp32"):
        altered = [
            augmentation.alter(side, _count(recipe), lexicon, propose, _SHARES[method], recipe.seed + place, listen)
            for place, side in enumerate(sides)
        ]
    # A copy of a pair has both texts altered.
    rows = [tuple(side[row][copy] for side in altered)
            for row in range(len(sides[0])) for copy in range(_count(recipe))]  # fmt: skip
    return rows, method


def _masked_head(checkpoint: Checkpoint) -> Any:
    """The checkpoint as a masked language model, in eval mode; ``None`` where it has no head for that."""
    try:
        facts = teacher.inspect(checkpoint, task="fill-mask")
        return teacher.load(checkpoint, facts).model.eval() if facts.has_head else None
    except UserError:
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
