"""``--trim-vocab``: what the student learns from where it gets fewer pieces than its teacher.

The teacher answers as it is, about texts as it cuts them. The student starts from a copy of it that has the fewer
pieces, and reads the same texts as the smaller tokenizer cuts them. All pieces of the training texts stay, so that
these are cut alike, and the teacher's answers about their tokens are about the student's tokens too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressor import data, processes, vocabulary
from compressor.errors import StageError
from compressor.events import Note, Warned
from compressor.report import words
from compressor.training import soft_labels
from compressor.training.batches import Collator

if TYPE_CHECKING:
    from compressor.answers import Answers
    from compressor.artifacts import Corpus, Split, SplitName, Teacher, Tokenized, Trimmed
    from compressor.events import Listener
    from compressor.lesson import Material
    from compressor.recipe import Recipe
    from compressor.teacher import TeacherFacts

TRAIN = "train"
"""What ``--trim-vocab`` is given where the training texts alone decide."""


@dataclass(frozen=True)
class Study:
    """What the student learns from.

    Attributes:
        tutor: The teacher with the student's vocabulary: the student is built from it, and it runs beside the student
            where more than answers is taught.
        material: The texts as the student's tokenizer cuts them.
        answers: Of the teacher, about the material's training and validation rows.
        trimmed: What was taken out of the vocabulary; ``None`` where nothing was.
    """

    tutor: Teacher
    material: Material
    answers: Mapping[SplitName, Answers | None]
    trimmed: Trimmed | None = None

    def shipped(self, tutor: Teacher) -> Teacher:
        """The teacher under whose name the student ships, with the tokenizer that ships."""
        return replace(tutor, tokenizer=self.tutor.tokenizer)


def check(recipe: Recipe, facts: TeacherFacts) -> None:
    """Make sure, before anything is trained, that the vocabulary can be trimmed.

    Raises:
        UserError: The tokenizer or the task does not allow it, or the texts are not there.
    """
    source = recipe.student.trim_vocab
    if source is None:
        return
    vocabulary.check(facts.tokenizer, facts.task)
    if source != TRAIN:
        for _ in vocabulary.read_texts(Path(source).expanduser()):
            pass


def prepare(
    recipe: Recipe,
    tutor: Teacher,
    material: Material,
    answers: Mapping[SplitName, Answers | None],
    listen: Listener,
) -> Study:
    """Trim what the student starts from, and cut its texts anew; where nothing is to be trimmed, all stays.

    Raises:
        UserError: The tokenizer cannot be trimmed, or the texts cannot be read.
        StageError: A text is cut or answered in another way than by the whole vocabulary.
    """
    source = recipe.student.trim_vocab
    if source is None:
        return Study(tutor, material, answers)
    cache = recipe.cache_dir.expanduser()
    with processes.in_turn():
        small, again, trimmed = _trimmed(recipe, source, tutor, material, listen)
    lean = replace(material, tokenized=again, collate=Collator(small.tokenizer.pad_token_id))
    heard = dict(answers)
    if material.corpus.task.unit == "token":
        # Validation texts may be cut in another way: an answer for each token needs the student's tokens.
        heard["validation"] = soft_labels.soft_labels(small, again, "validation", cache, recipe.device, listen)
    return Study(small, lean, heard, trimmed)


def _trimmed(
    recipe: Recipe, source: str, tutor: Teacher, material: Material, listen: Listener
) -> tuple[Teacher, Tokenized, Trimmed]:
    corpus, tokenized = material.corpus, material.tokenized
    small, trimmed = vocabulary.trim(
        tutor,
        _needed(corpus, source),
        [row for split in (corpus.splits["validation"], corpus.splits["test"]) for row in _rows(split)],
        source=source,
        input_names=tokenized.input_names,
        max_length=tokenized.max_length,
    )
    listen(Note(words.vocabulary(asdict(trimmed))))
    if trimmed.unknown_texts:
        listen(Warned(f"{trimmed.unknown_texts} held-out texts have pieces unknown to the trimmed tokenizer alone."))
    again = data.tokenize(
        corpus,
        small.tokenizer,
        tokenized.input_names,
        tokenized.max_length,
        recipe.cache_dir.expanduser(),
        listen,
        doc_stride=recipe.data.doc_stride,
        seed=recipe.seed,
    )
    if again.splits["train"]["length"][:] != tokenized.splits["train"]["length"][:]:
        raise StageError(
            "The trimmed tokenizer cuts training texts in another way.",
            "Please report the tokenizer; without --trim-vocab the run goes on.",
        )
    return small, again, trimmed


def _needed(corpus: Corpus, source: str) -> Iterator[str]:
    added = (corpus.added.split,) if corpus.added is not None else ()
    for split in (corpus.splits["train"], *added):
        for row in _rows(split):
            yield from row
    if source != TRAIN:
        yield from vocabulary.read_texts(Path(source).expanduser())


def _rows(split: Split) -> Iterator[tuple[str, ...]]:
    return zip(split.texts, split.pairs, strict=True) if split.pairs else ((text,) for text in split.texts)
