"""Distils a tiny student step by step, for tests that kill it: FOLDER SPARSITY [SECONDS_PER_STEP]."""

import random
import sys
import time
from functools import cache
from pathlib import Path

import datasets
import numpy as np
import torch
from safetensors.torch import save_file

from compressor.answers import IGNORED, Answers, collect
from compressor.architectures import architecture_of
from compressor.artifacts import Student, Teacher, Tokenized
from compressor.heads import asking, build
from compressor.recipe import DistillRecipe, PruneRecipe, StudentRecipe
from compressor.student import build_student
from compressor.tasks import TASKS
from compressor.training.batches import Collator
from compressor.training.distill import distill
from tests import tiny

NAMES = ("input_ids", "attention_mask")


@cache
def teacher(kind="single-label"):
    model = tiny.model("bert", kind=kind)
    labels = tiny.LABELS.get(kind, ())
    return Teacher("tiny", Path(), model, tiny.tokenizer(), architecture_of(model.config), labels, 64, kind, False,
                   TASKS[kind])  # fmt: skip


def student_of(tutor):
    """Two layers of the teacher; built here, since only a classifier is cut by ``build_student`` in every tree."""
    if tutor.task.kind == "single-label":
        return build_student(tutor, StudentRecipe(layers=2), seed=0)
    config = type(tutor.model.config).from_dict({**tutor.model.config.to_dict(), "num_hidden_layers": 2})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build(tutor.task, config, getattr(tutor.model, "pooling", None))
    return Student(model, (), (1, 3))


def _labels(kind, ids, name, words):
    pieces = tiny.tokenizer().convert_ids_to_tokens(ids)
    moods = [place for place, piece in enumerate(pieces) if piece in tiny.POSITIVE + tiny.NEGATIVE]
    if kind == "single-label":
        return int(name == "positive")
    if kind == "multi-label":
        return [float(name == "negative"), float(name == "positive"), float(words > 10)]
    if kind == "regression":
        return len(moods) / len(pieces)
    if kind == "token-classification":
        tags = [1 if piece in tiny.POSITIVE else 3 if piece in tiny.NEGATIVE else 0 for piece in pieces]
        return [IGNORED, *tags[1:-1], IGNORED]
    if kind == "question-answering":
        return [moods[0], moods[0]]
    return None


def _hidden(ids, seed):
    chosen = random.Random(seed).sample(range(1, len(ids) - 1), 1 + len(ids) // 8)
    hidden = [tiny.SPECIAL.index("[MASK]") if place in chosen else piece for place, piece in enumerate(ids)]
    return hidden, [piece if place in chosen else IGNORED for place, piece in enumerate(ids)]


def rows(kind, count, seed, train=True):
    found = []
    for index, (text, name) in enumerate(tiny.reviews(count, seed)):
        ids = tiny.tokenizer()(text)["input_ids"]
        labels = _labels(kind, ids, name, len(text.split()))
        if kind == "fill-mask" and not train:
            ids, labels = _hidden(ids, index)
        row = {"input_ids": ids, "attention_mask": [1] * len(ids), "length": len(ids)}
        found.append(row if labels is None else {**row, "labels": labels})
    return datasets.Dataset.from_list(found)


def tokenized(train_rows=96, other_rows=24, kind="single-label"):
    splits = {"train": rows(kind, train_rows, 1)}
    splits |= {split: rows(kind, other_rows, seed, False) for split, seed in (("validation", 2), ("test", 3))}
    return Tokenized(splits, NAMES, 64, "tokens", {}, TASKS[kind])


def answers(data):
    """Soft labels that can be learnt: the truth, at some distance; for other kinds what the teacher says."""
    kind = data.task.kind
    if kind == "single-label":
        return {
            split: Answers.of([row[None] for row in np.eye(2, dtype=np.float32)[part["labels"]] * 4])
            for split, part in data.splits.items()
        }
    call = asking(teacher(kind).model, data.task, "cpu")
    return {
        split: None if (kind, split) == ("fill-mask", "train")
        else collect(call, part, data.task, names=NAMES, pad_token_id=0)
        for split, part in data.splits.items()
    }  # fmt: skip


def closeness(data, said):
    """Score of any kind: how near the answers about the validation rows are to the teacher's."""
    return lambda found: {data.task.metric: -float(np.square(found.values - said["validation"].values).mean())}


def run(folder, listen=lambda event: None, recipe=None, sparsity=0.0, data=None, kind="single-label"):
    data = data or tokenized(kind=kind)
    student, said = student_of(teacher(kind)), answers(data)
    recipe = recipe or DistillRecipe(epochs=2, batch_size=8, learning_rate=1e-3, checkpoint_minutes=0)
    score = None if kind == "single-label" else closeness(data, said)
    curve = distill(teacher(kind), student, data, said, Collator(0), recipe, PruneRecipe(sparsity=sparsity),
                    seed=3, device="cpu", folder=folder, listen=listen, score=score)  # fmt: skip
    return student, curve


if __name__ == "__main__":
    torch.set_num_threads(1)
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    trained, _ = run(Path(sys.argv[1]) / "training", lambda event: time.sleep(pause), sparsity=float(sys.argv[2]))
    save_file(trained.model.state_dict(), Path(sys.argv[1]) / "student.safetensors")
