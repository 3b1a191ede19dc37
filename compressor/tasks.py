"""What encoders are deployed for, as data: one row per kind of task.

A row says which head a model needs, what its ONNX file answers with, and what it is judged by. Names are those of
transformers' pipelines; ``text-classification`` has three kinds, told apart by ``problem_type`` as in its configs.
The rest of a task lives in one small module each, found by ``kind``: reading (``data``), loss (``training``), metric
(``evaluation``), and decoding (``runtime``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "single-label",
    "multi-label",
    "regression",
    "token-classification",
    "question-answering",
    "fill-mask",
    "feature-extraction",
]
TaskName = Literal[
    "text-classification", "token-classification", "question-answering", "fill-mask", "feature-extraction"
]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Unit = Literal["row", "token", "masked token"]


@dataclass(frozen=True)
class Task:
    """One kind of task.

    Attributes:
        kind: Its key.
        name: Of the pipeline in transformers.
        head: How transformers ends the name of a model class with this head; empty for a bare encoder.
        outputs: Names of the ONNX outputs, which are those of the torch model's output.
        unit: What a model answers about: each row, each token, or each masked token of a row.
        metric: Key of the metric that decides, higher is better.
        metric_title: The metric in words.
        problem_type: As transformers' configs have it, for text classification.
        labelled: The data say what is right; otherwise the teacher is the only judge, or the text itself.
        named: The outputs have names (``id2label``).
    """

    kind: Kind
    name: TaskName
    head: str
    outputs: tuple[str, ...]
    unit: Unit
    metric: str
    metric_title: str
    problem_type: ProblemType | None = None
    labelled: bool = True
    named: bool = True

    @property
    def auto_class(self) -> str:
        """Name of the class in transformers that builds and loads such a model."""
        return f"AutoModel{self.head}"

    @property
    def decides(self) -> bool:
        """A model chooses: a label, tag, span or piece, rather than giving numbers alone."""
        return self.kind not in ("regression", "feature-extraction")


TASKS: dict[Kind, Task] = {
    row.kind: row
    for row in (
        Task(
            "single-label", "text-classification", "ForSequenceClassification", ("logits",), "row",
            "accuracy", "accuracy", "single_label_classification",
        ),
        Task(
            "multi-label", "text-classification", "ForSequenceClassification", ("logits",), "row",
            "micro_f1", "micro F1", "multi_label_classification",
        ),
        Task(
            "regression", "text-classification", "ForSequenceClassification", ("logits",), "row",
            "spearman", "Spearman correlation", "regression",
        ),
        Task(
            "token-classification", "token-classification", "ForTokenClassification", ("logits",), "token",
            "entity_f1", "entity F1",
        ),
        Task(
            "question-answering", "question-answering", "ForQuestionAnswering", ("start_logits", "end_logits"), "token",
            "answer_f1", "answer F1", named=False,
        ),
        Task(
            "fill-mask", "fill-mask", "ForMaskedLM", ("logits",), "masked token",
            "masked_accuracy", "masked accuracy", labelled=False, named=False,
        ),
        Task(
            "feature-extraction", "feature-extraction", "", ("sentence_embedding",), "row",
            "similarity_spearman", "Spearman of similarities with the teacher's", labelled=False, named=False,
        ),
    )
}  # fmt: skip

NAMES: tuple[TaskName, ...] = tuple(dict.fromkeys(row.name for row in TASKS.values()))


def kinds_of(name: str) -> tuple[Task, ...]:
    """Every kind of the task that a pipeline's name stands for."""
    return tuple(row for row in TASKS.values() if row.name == name)
