"""What each kind of task is judged by: one module for each, one row of ``METRICS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.answers import Answers
from compressor.evaluation.figures import Floats, Ints
from compressor.evaluation.metrics import classes, embeddings, label_sets, numbers, pieces, spans, tags
from compressor.evaluation.metrics.classes import labelled
from compressor.evaluation.metrics.gold import Gold, Marks, Source, Spell
from compressor.evaluation.verdict import Wording
from compressor.tasks import Kind, Task

if TYPE_CHECKING:
    from compressor.artifacts import Corpus, SplitName, Tokenized

__all__ = ["METRICS", "TITLES", "Gold", "Judging", "Marks", "Title", "gold_of", "labelled", "score"]


@dataclass(frozen=True)
class Title:
    """How a metric is spoken of.

    Attributes:
        text: In words.
        share: It is a share, shown in per cent; otherwise a plain number.
        lower_is_better: As of a loss.
    """

    text: str
    share: bool = True
    lower_is_better: bool = False


TITLES: dict[str, Title] = {
    "accuracy": Title("accuracy"),
    "macro_f1": Title("macro F1"),
    "micro_f1": Title("micro F1"),
    "subset_accuracy": Title("subset accuracy"),
    "spearman": Title("Spearman correlation", share=False),
    "pearson": Title("Pearson correlation", share=False),
    "mse": Title("mean squared error", share=False, lower_is_better=True),
    "entity_f1": Title("entity F1"),
    "precision": Title("entity precision"),
    "recall": Title("entity recall"),
    "word_accuracy": Title("word accuracy"),
    "answer_f1": Title("answer F1"),
    "exact_match": Title("exact match"),
    "masked_accuracy": Title("masked accuracy"),
    "mlm_loss": Title("masked language model loss", share=False, lower_is_better=True),
    "perplexity": Title("perplexity", share=False, lower_is_better=True),
    "similarity_spearman": Title("Spearman of similarities with the teacher's", share=False),
    "recall_at_1": Title("recall@1 in the teacher's index"),
    "recall_at_10": Title("recall@10 in the teacher's index"),
    "mean_cosine": Title("mean cosine with the teacher's embedding", share=False),
}


def _text(gold: Gold, item: int) -> str:
    return gold.texts[item]


def _wording(metric: str, **others: str) -> Wording:
    return Wording(f"its {metric} differs from the teacher's by", **others)


@dataclass(frozen=True)
class Judging:
    """How a kind of task is judged.

    Attributes:
        read: From a tokenised split to gold.
        mark: From answers, gold and thresholds to marks.
        show: From gold, an item and what was decided about it to words.
        truth: From gold and an item to what is right, in words.
        wording: Of the verdict.
        text: From gold and an item to the text that it is about.
        decides: Two decisions can be told apart; otherwise answers are numbers.
        shift: Mean Jensen-Shannon divergence of the probabilities of each item [n], where there are any.
        calibration_error: From answers, gold and a temperature, where there are probabilities.
        temperature: Fits a temperature on validation rows; ``None`` where it cannot.
        thresholds: Fits a threshold for each label on validation rows; ``None`` where they do not help.
        label_names: Names of what ``Marks.by_label`` counts.
        absent: Those of them that the split does not have.
        width: Width of the answers; ``None`` where any will do.
    """

    read: Callable[[Source], Gold]
    mark: Callable[[Answers, Gold, Sequence[float]], Marks]
    show: Callable[[Gold, int, Any], str]
    truth: Callable[[Gold, int], str]
    width: Callable[[Gold], int | None]
    wording: Wording = field(default_factory=Wording)
    text: Callable[[Gold, int], str] = _text
    decides: bool = True
    shift: Callable[[Answers, Answers, Gold], Floats] | None = None
    calibration_error: Callable[[Answers, Gold, float], float] | None = None
    temperature: Callable[[Answers, Gold], float | None] | None = None
    thresholds: Callable[[Answers, Gold], tuple[float, ...] | None] | None = None
    label_names: Callable[[Gold], Sequence[str]] = lambda gold: gold.labels
    absent: Callable[[Gold], list[str]] = lambda gold: []


METRICS: dict[Kind, Judging] = {
    "single-label": Judging(
        classes.read, classes.mark, classes.show, classes.truth, lambda gold: len(gold.labels),
        shift=classes.shift, calibration_error=classes.calibration_error, temperature=classes.temperature,
        absent=classes.absent,
    ),
    "multi-label": Judging(
        label_sets.read, label_sets.mark, label_sets.show, label_sets.truth, lambda gold: len(gold.labels),
        _wording("micro F1"), shift=label_sets.shift, calibration_error=label_sets.calibration_error,
        thresholds=label_sets.thresholds, absent=label_sets.absent,
    ),
    "regression": Judging(
        numbers.read, numbers.mark, numbers.show, numbers.truth, lambda gold: 1,
        _wording("Spearman correlation"), decides=False,
    ),
    "token-classification": Judging(
        tags.read, tags.mark, tags.show, tags.truth, lambda gold: len(gold.labels),
        _wording("entity F1"), shift=tags.shift, label_names=tags.types, absent=tags.absent,
    ),
    "question-answering": Judging(
        spans.read, spans.mark, spans.show, spans.truth, lambda gold: 2,
        _wording("answer F1", row="test question", group="context"), spans.text,
    ),
    "fill-mask": Judging(
        pieces.read, pieces.mark, pieces.show, pieces.truth, lambda gold: 3,
        _wording("masked accuracy", row="masked token", group="block"), pieces.text,
    ),
    "feature-extraction": Judging(
        embeddings.read, embeddings.mark, embeddings.show, embeddings.truth, lambda gold: None,
        Wording(
            "the rank correlation of its similarities with the teacher's differs from a perfect one by",
            group="text group",
        ),
    ),
}  # fmt: skip


def gold_of(
    corpus: Corpus,
    tokenized: Tokenized,
    split: SplitName,
    rows: Ints | None = None,
    *,
    reference: Answers | None = None,
    spell: Spell | None = None,
    seed: int = 0,
) -> Gold:
    """Read what is right about a split.

    Args:
        corpus: The texts and their labels.
        tokenized: The same as token ids.
        split: Which split.
        rows: Indices of some of the tokenised rows; ``None`` for all.
        reference: The teacher's answers about these rows; embeddings are judged by them. ``evaluate`` takes them
            from the teacher itself.
        spell: From token ids to text, for showing masked tokens.
        seed: Of the pairs of texts whose similarities are compared.
    """
    dataset = tokenized.splits[split]
    chosen = np.arange(len(dataset["length"])) if rows is None else np.asarray(rows, dtype=np.int64)
    lack = spans.may_lack(corpus) if corpus.task.kind == "question-answering" else None
    source = Source(corpus.task, corpus.splits[split], dataset, chosen, corpus.labels, reference, spell, seed, lack)
    return METRICS[corpus.task.kind].read(source)


def score(task: Task, answers: Answers, gold: Gold) -> dict[str, float]:
    """Compute every metric of a task, without intervals.

    Args:
        task: What the model does.
        answers: About the rows of ``gold``.
        gold: From ``gold_of``.

    Returns:
        Metrics by name; ``task.metric``, which decides, comes first.
    """
    return {figure.name: figure.value for figure in METRICS[task.kind].mark(answers, gold, ()).figures}
