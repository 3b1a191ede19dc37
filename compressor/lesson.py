"""Everything between a recipe and a trained student: who teaches, on what, and what is kept of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressor import data, embedded, kept, student, teacher
from compressor.artifacts import SPLITS
from compressor.aside import one_at_a_time
from compressor.events import Note
from compressor.teacher import hub
from compressor.training import distill, finetune, soft_labels
from compressor.training.batches import Collator

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from compressor.artifacts import Corpus, SplitName, Student, Teacher, Tokenized, TrainingCurve
    from compressor.events import Listener
    from compressor.journal import Journal
    from compressor.recipe import Recipe
    from compressor.teacher import TeacherFacts
    from compressor.teacher.checkpoint import Checkpoint


@dataclass(frozen=True)
class Candidate:
    """A teacher before its weights are loaded, and the data that it will be asked about.

    Attributes:
        source: Path or hub name of the dataset.
        data_name: What the report calls it.
        max_length: Longest sequence of this run, in tokens, special tokens included.
    """

    checkpoint: Checkpoint
    facts: TeacherFacts
    source: str
    data_name: str
    max_length: int


@dataclass(frozen=True)
class Material:
    """What is learnt from."""

    corpus: Corpus
    tokenized: Tokenized
    collate: Collator


def find_teacher(recipe: Recipe, listen: Listener) -> Candidate:
    """Find the teacher and its data, and make sure that it can teach.

    Raises:
        UserError: The teacher or the data cannot be found, or the student would not fit the teacher.
    """
    name, trusted = recipe.teacher.model, recipe.teacher.trust_remote_code
    if name == hub.DEMO:
        found = embedded.fetch_embedded(recipe.cache_dir.expanduser(), listen)
        checkpoint, source = hub.open_folder(found.teacher, name), recipe.data.source or str(found.data)
        data_name = recipe.data.source or "embedded movie-review snippets"
    else:
        source = data_name = recipe.data.source or hub.default_dataset(name, recipe.task)
        checkpoint = hub.locate(name, recipe.teacher.revision, listen, trust_remote_code=trusted)
    facts = teacher.inspect(checkpoint, listen, trust_remote_code=trusted)
    student.plan_layers(recipe.student, facts.config.num_hidden_layers)
    longest = min(recipe.data.max_seq_length or facts.max_length, facts.max_length)
    return Candidate(checkpoint, facts, source, data_name, longest)


def default_output(candidate: Candidate, recipe: Recipe) -> Path:
    """Name the run folder: ``exported/<teacher>-<layers>l``."""
    count, _ = student.plan_layers(recipe.student, candidate.facts.config.num_hidden_layers)
    name = (
        Path(candidate.checkpoint.name).resolve().name
        if candidate.checkpoint.repository is None
        else candidate.checkpoint.name
    )
    return Path("exported") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{count}l"


def read_material(recipe: Recipe, candidate: Candidate, listen: Listener) -> Material:
    """Read the data, with labels in the teacher's order, and tokenise them."""
    facts = candidate.facts
    corpus = data.read_corpus(
        recipe.data,
        candidate.source,
        facts.labels,
        recipe.seed,
        listen,
        columns=recipe.evaluate.slice_columns or (),
    )
    tokenized = data.tokenize(
        corpus, facts.tokenizer, facts.input_names, candidate.max_length, recipe.cache_dir.expanduser(), listen
    )
    corpus = replace(corpus, source=candidate.data_name)
    # On the right whatever the tokenizer says: so does the runtime, and positions are counted from the first token.
    return Material(corpus, tokenized, Collator(facts.tokenizer.pad_token_id))


def teach_teacher(
    recipe: Recipe, candidate: Candidate, material: Material, journal: Journal
) -> tuple[Teacher, TrainingCurve | None]:
    """Load the teacher; one that has no head for the task is fine-tuned first, once for all runs.

    Returns:
        The teacher, and how its fine-tuning went, if there was one.
    """
    checkpoint, facts = candidate.checkpoint, candidate.facts
    if facts.has_head:
        return teacher.load(checkpoint, facts), None
    where = kept.place(
        recipe.cache_dir.expanduser(),
        "teachers",
        {
            "teacher": facts.fingerprint,
            "data": material.tokenized.fingerprint,
            "seed": recipe.seed,
            **recipe.teacher.model_dump(include={"epochs", "learning_rate"}),
            **recipe.distill.model_dump(include={"batch_size", "precision"}),
        },
    )
    with one_at_a_time(where, journal):
        if kept.is_kept(where):
            journal(Note(f"The teacher has no head for the task; the one that an earlier run trained is used: {where}"))
        else:
            journal(Note(f"The teacher has no head for the task: it is fine-tuned first, and kept in {where}"))
            work = effort(recipe.teacher.epochs, len(material.tokenized.splits["train"]))
            with journal.stage("fine-tune", f"the teacher, {work}"):
                fresh = teacher.with_new_head(checkpoint, facts, material.corpus.labels, recipe.seed)
                curve = finetune.fine_tune(
                    fresh, material.tokenized, material.collate, recipe, kept.training_folder(where), journal
                )
                kept.keep(where, lambda folder: _save(fresh, folder), curve)
    tuned = hub.open_folder(where, recipe.teacher.model)
    return teacher.load(tuned, teacher.inspect(tuned), fine_tuned=True), kept.read_curve(where)


def ask_teacher(
    recipe: Recipe, tutor: Teacher, material: Material, listen: Listener
) -> dict[SplitName, npt.NDArray[np.float32]]:
    """Collect the teacher's logits of every split, each of shape (rows, labels)."""
    return {
        split: soft_labels.soft_labels(
            tutor, material.tokenized, split, material.collate, recipe.cache_dir.expanduser(), recipe.device, listen
        )
        for split in SPLITS
    }


def teach_student(
    recipe: Recipe,
    tutor: Teacher,
    material: Material,
    answers: dict[SplitName, npt.NDArray[np.float32]],
    listen: Listener,
) -> tuple[Student, TrainingCurve]:
    """Build the student and distil it; a training that an earlier run has finished is taken up.

    Returns:
        The student, and how its training went.
    """
    pupil = student.build_student(tutor, recipe.student, recipe.seed)
    where = kept.place(
        recipe.cache_dir.expanduser(),
        "students",
        {
            "teacher": tutor.fingerprint,
            "data": material.tokenized.fingerprint,
            "layers": [pupil.model.config.num_hidden_layers, *pupil.layer_map],
            "seed": recipe.seed,
            "distill": recipe.distill.model_dump(exclude={"checkpoint_minutes"}),
            "prune": recipe.prune.model_dump(),
        },
    )
    with one_at_a_time(where, listen):
        if kept.is_kept(where):
            listen(Note(f"This student was distilled by an earlier run: {where}"))
            return replace(pupil, model=type(pupil.model).from_pretrained(where)), kept.read_curve(where)
        curve = distill.distill(
            tutor,
            pupil,
            material.tokenized,
            answers,
            material.collate,
            recipe.distill,
            recipe.prune,
            seed=recipe.seed,
            device=recipe.device,
            folder=kept.training_folder(where),
            listen=listen,
        )
        kept.keep(where, pupil.model.save_pretrained, curve)
        return pupil, curve


def effort(epochs: float, rows: int) -> str:
    """Say how long a training will be: ``up to 3 epochs of 8,530 texts``."""
    return f"up to {epochs:g} epoch{'' if epochs == 1 else 's'} of {rows:,} texts"


def _save(tutor: Teacher, folder: Path) -> None:
    tutor.model.save_pretrained(folder)
    tutor.tokenizer.save_pretrained(folder)
