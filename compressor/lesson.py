"""The teacher's side of a run: who teaches, on what, what it answers, and what is kept of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressor import data, embedded, enriching, kept, student, teacher, trimming, tuning
from compressor.artifacts import SPLITS
from compressor.aside import one_at_a_time
from compressor.evaluation import metrics, statistics
from compressor.events import Note, Warned
from compressor.report import words
from compressor.slimming.blocks import check_family
from compressor.teacher import hub
from compressor.training import finetune, soft_labels
from compressor.training.batches import Collator
from compressor.training.hint_plan import check_hints
from compressor.training.objectives import check_teachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from compressor.answers import Answers, Ints
    from compressor.artifacts import Corpus, SplitName, Teacher, Tokenized, TrainingCurve
    from compressor.events import Listener
    from compressor.journal import Journal
    from compressor.recipe import Recipe
    from compressor.tasks import Kind
    from compressor.teacher import TeacherFacts
    from compressor.teacher.checkpoint import Checkpoint

# Tokens of a text where the recipe says nothing: a longer one costs more than it tells.
_USUAL_LENGTH: Mapping[Kind, int] = {"question-answering": 384, "fill-mask": 128}

# Training fits the classes first and their probabilities after them. Trained to the end, networks are surer than right,
# unless smoothed labels keep them from it, by a tenth (Guo et al. 2017, https://arxiv.org/abs/1706.04599; Mueller et
# al. 2019, https://arxiv.org/abs/1906.02629).
_UNSURE = 0.2


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

    @property
    def forms(self) -> Ints | None:
        """For each training row the text that it is a form of; ``None`` where each is its own."""
        return data.forms(self.corpus)

    @property
    def rows(self) -> int:
        """Training rows of an epoch: one form of each text."""
        return len(self.tokenized.splits["train"]) if self.forms is None else len(set(self.forms.tolist()))


def find_teacher(recipe: Recipe, listen: Listener) -> Candidate:
    """Find the teacher and its data, and make sure that it can teach.

    Raises:
        UserError: The teacher or the data cannot be found, or the student would not fit the teacher.
    """
    tuning.check(recipe)
    name, trusted = recipe.teacher.model, recipe.teacher.trust_remote_code
    if name == hub.DEMO:
        found = embedded.fetch_embedded(recipe.cache_dir.expanduser(), listen)
        checkpoint, source = hub.open_folder(found.teacher, name), recipe.data.source or str(found.data)
        data_name = recipe.data.source or "embedded movie-review snippets"
    else:
        source = data_name = recipe.data.source or hub.default_dataset(name, recipe.task or "text-classification")
        checkpoint = hub.locate(name, recipe.teacher.revision, listen, trust_remote_code=trusted)
    facts = teacher.inspect(
        checkpoint, listen, task=recipe.task, problem_type=recipe.problem_type, trust_remote_code=trusted
    )
    plan_student(recipe, facts)
    trimming.check(recipe, facts)
    enriching.check(recipe, facts)
    _check_teaching(recipe, facts)
    usual = _USUAL_LENGTH.get(facts.task.kind, facts.max_length)
    longest = min(recipe.data.max_seq_length or usual, facts.max_length)
    return Candidate(checkpoint, facts, source, data_name, longest)


def _check_teaching(recipe: Recipe, facts: TeacherFacts) -> None:
    """Make sure of what the training would refuse, before anything is trained."""
    if recipe.prune.is_slim:
        check_family(facts.architecture)
    check_teachable(facts.task.kind, recipe.distill)
    config = facts.config
    width = getattr(config, "true_hidden_size", config.hidden_size)  # MobileBERT's bottleneck
    check_hints(recipe.distill, facts.task, config.num_hidden_layers, width, facts.labels)


def plan_student(recipe: Recipe, facts: TeacherFacts) -> tuple[int, tuple[int, ...]]:
    """Count the student's layers, and name the teacher layers that they copy; none for a random start.

    Raises:
        RecipeError: The student would not fit the teacher.
    """
    row, config = facts.architecture, facts.config
    return student.plan_layers(recipe.student, config.num_hidden_layers, row, student.kinds_of_layers(config, row))


def default_output(candidate: Candidate, recipe: Recipe) -> Path:
    """Name the run folder: ``exported/<teacher>-<layers>l``."""
    count, _ = plan_student(recipe, candidate.facts)
    name = (
        Path(candidate.checkpoint.name).resolve().name
        if candidate.checkpoint.repository is None
        else candidate.checkpoint.name
    )
    return Path("exported") / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{count}l"


def read_material(recipe: Recipe, candidate: Candidate, listen: Listener) -> tuple[Candidate, Material]:
    """Read the data, with labels in the teacher's order, and tokenise them.

    Returns:
        The teacher, its task settled by the data where nothing else tells, and what is learnt from.
    """
    facts = candidate.facts
    if facts.problem_open:
        facts = replace(facts, task=data.detect_problem_type(recipe.data, candidate.source, listen))
        candidate = replace(candidate, facts=facts)
    corpus = data.read_corpus(
        recipe.data,
        candidate.source,
        facts.labels,
        recipe.seed,
        listen,
        task=facts.task,
        columns=recipe.evaluate.slice_columns or (),
    )
    _check_teaching(recipe, replace(facts, labels=corpus.labels if facts.task.named else None))
    tokenized = data.tokenize(
        corpus,
        facts.tokenizer,
        facts.input_names,
        candidate.max_length,
        recipe.cache_dir.expanduser(),
        listen,
        doc_stride=recipe.data.doc_stride,
        seed=recipe.seed,
    )
    # Tokenised before the rows without labels are there: a teacher's head is trained on the labelled ones alone.
    corpus = enriching.read(recipe, replace(corpus, source=candidate.data_name), listen)
    # On the right whatever the tokenizer says: so does the runtime, and positions are counted from the first token.
    return candidate, Material(corpus, tokenized, Collator(facts.tokenizer.pad_token_id))


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
                    fresh,
                    material.tokenized,
                    material.collate,
                    recipe,
                    kept.training_folder(where),
                    journal,
                    score=score_of(material),
                )
                kept.keep(where, lambda folder: _save(fresh, folder), curve)
    trusted = recipe.teacher.trust_remote_code  # the tokenizer is saved with what it was made by
    tuned = hub.open_folder(where, recipe.teacher.model, trust_remote_code=trusted)
    known = teacher.inspect(
        tuned, task=facts.task.name, problem_type=facts.task.problem_type, trust_remote_code=trusted
    )
    return teacher.load(tuned, known, fine_tuned=True), kept.read_curve(where)


def ask_teacher(
    recipe: Recipe, tutor: Teacher, material: Material, listen: Listener
) -> dict[SplitName, Answers | None]:
    """Collect the teacher's answers about every split; ``None`` for training texts whose masks change.

    Those that are learnt from are in the precision of the training, those that the student is judged by in fp32.
    """
    cache, precisions = recipe.cache_dir.expanduser(), {"train": recipe.distill.precision}
    answers = {
        split: soft_labels.soft_labels(
            tutor, material.tokenized, split, cache, recipe.device, listen, precisions.get(split, "fp32")
        )
        for split in SPLITS
    }
    if tutor.fine_tuned and tutor.task.kind == "single-label":
        _point_out_unsure(answers["validation"], material, listen)
    return answers


def _point_out_unsure(answers: Answers | None, material: Material, listen: Listener) -> None:
    """Warn where the training of the teacher, which is the user's to lengthen, was too short."""
    if answers is not None:
        right = score_of(material)(answers)["accuracy"]
        sure = float(statistics.softmax(answers.values).max(axis=1).mean())
        if right - sure > _UNSURE:
            listen(Warned(words.unsure(right, sure)))


def effort(epochs: float, rows: int) -> str:
    """Say how long a training will be: ``up to 3 epochs of 8,530 texts``."""
    return f"up to {epochs:g} epoch{'' if epochs == 1 else 's'} of {rows:,} texts"


def score_of(material: Material, reference: Answers | None = None) -> Callable[[Answers], dict[str, float]]:
    """What judges a model on the validation rows while it is trained; embeddings are judged by the teacher's."""
    corpus, tokenized = material.corpus, material.tokenized
    gold = metrics.gold_of(corpus, tokenized, "validation", reference=reference)
    return lambda answers: metrics.score(corpus.task, answers, gold)


def _save(tutor: Teacher, folder: Path) -> None:
    tutor.model.save_pretrained(folder)
    tutor.tokenizer.save_pretrained(folder)
