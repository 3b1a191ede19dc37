"""One process of ``step_cost.py``: trains a student for some steps; job on stdin, seconds of each step on stdout.

python -m benchmarks.step_cost_worker
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast

from compressor.answers import Answers
from compressor.architectures import architecture_of
from compressor.artifacts import Teacher, Tokenized
from compressor.events import Event, Progress
from compressor.quiet import quiet
from compressor.recipe import DistillRecipe, PruneRecipe, StudentRecipe
from compressor.student import build_student
from compressor.training import engine
from compressor.training.batches import Collator
from compressor.training.distill import distill

VOCABULARY = 30522
NAMES = ("input_ids", "attention_mask", "token_type_ids")


def teacher_of(shape: dict[str, int], labels: int) -> Teacher:
    """A BERT of this shape with random weights: they do not change what a step costs."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(BertConfig(**shape, num_labels=labels)).eval()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0, "[MASK]": 1}, unk_token="[PAD]")),
        pad_token="[PAD]",
        mask_token="[MASK]",
    )
    names = tuple(model.config.id2label.values())
    return Teacher("shape", Path(), model, tokenizer, architecture_of(model.config), names, 128, "shape", False)


def rows_of(lengths: list[int], labels: int) -> datasets.Dataset:
    """Random tokens of these lengths, with labels."""
    rng = np.random.default_rng(0)
    return datasets.Dataset.from_dict(
        {
            "input_ids": [rng.integers(5, VOCABULARY, length) for length in lengths],
            "attention_mask": [[1] * length for length in lengths],
            "token_type_ids": [[0] * length for length in lengths],
            "labels": rng.integers(0, labels, len(lengths)),
            "length": lengths,
        }
    )


def measure(job: dict[str, Any]) -> dict[str, list[float]]:
    """Train through the toolkit's own engine, and take the time at the end of every step.

    Returns:
        Seconds of each step by stage; where soft labels are taught they are read from a file, as in any run.
    """
    torch.set_num_threads(job["threads"])
    if job.get("as_it_comes"):
        engine.fast_on_cpu = lambda *_: nullcontext()
    lengths, labels = job["lengths"], job["labels"]
    tutor = teacher_of(job["shape"], labels)
    pupil = build_student(tutor, StudentRecipe(layers=job["layers"]), 0)
    rows = rows_of(lengths, labels)
    data = Tokenized({"train": rows, "validation": rows.select([0])}, NAMES, 128, "lengths", {})
    marks: dict[str, list[float]] = {}

    def hear(event: Event) -> None:
        if isinstance(event, Progress):
            marks.setdefault(event.stage, []).append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "soft_labels.npy"
        np.save(stored, np.random.default_rng(1).standard_normal((len(lengths), labels)).astype(np.float32))
        answers = Answers(np.load(stored, mmap_mode="r"), np.arange(len(lengths) + 1))
        recipe = DistillRecipe(
            **{**job["distill"], "epochs": 1.0, "batch_size": job["batch"], "checkpoint_minutes": 1e6}
        )
        if recipe.intermediate_epochs:
            recipe = recipe.model_copy(update={"intermediate_epochs": 1.0})
        distill(
            tutor, pupil, data, {"train": answers if job["soft"] else None, "validation": None}, Collator(0), recipe,
            PruneRecipe(), seed=0, device="cpu", folder=Path(folder) / "training", listen=hear,
        )  # fmt: skip
    return {stage: np.diff(found).tolist() for stage, found in marks.items()}


def main() -> None:
    """Measure one job; the first steps, in which memory is found, are left out."""
    job: dict[str, Any] = json.load(sys.stdin)
    with quiet():
        found = measure(job)
    json.dump({stage: seconds[job["warmup"] :] for stage, seconds in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()
