"""Distils a tiny student step by step, for tests that kill it: FOLDER SPARSITY [SECONDS_PER_STEP]."""

import sys
import time
from functools import cache
from pathlib import Path

import datasets
import numpy as np
import torch
from safetensors.torch import save_file

from compressor.architectures import architecture_of
from compressor.artifacts import Teacher, Tokenized
from compressor.recipe import DistillRecipe, PruneRecipe, StudentRecipe
from compressor.student import build_student
from compressor.training.batches import Collator
from compressor.training.distill import distill
from tests import tiny


@cache
def teacher():
    model = tiny.model("bert")
    return Teacher("tiny", Path(), model, tiny.tokenizer(), architecture_of(model.config),
                   ("negative", "positive"), 64, "f", False)  # fmt: skip


def tokenized(train_rows=96, other_rows=24):
    def rows(count, seed):
        texts, names = zip(*tiny.reviews(count, seed), strict=True)
        found = tiny.tokenizer()(list(texts), return_token_type_ids=False)
        return datasets.Dataset.from_dict({
            "input_ids": found["input_ids"], "attention_mask": found["attention_mask"],
            "labels": [int(name == "positive") for name in names], "length": [len(row) for row in found["input_ids"]],
        })  # fmt: skip

    splits = {"train": rows(train_rows, 1), "validation": rows(other_rows, 2), "test": rows(other_rows, 3)}
    return Tokenized(splits, ("input_ids", "attention_mask"), 64, "tokens", {})


def answers(data):
    """Soft labels that can be learnt: the truth, at some distance."""
    return {split: np.eye(2, dtype=np.float32)[rows["labels"]] * 4 for split, rows in data.splits.items()}


def run(folder, listen=lambda event: None, recipe=None, sparsity=0.0, data=None):
    data = data or tokenized()
    student = build_student(teacher(), StudentRecipe(layers=2), seed=0)
    recipe = recipe or DistillRecipe(epochs=2, batch_size=8, learning_rate=1e-3, checkpoint_minutes=0)
    curve = distill(teacher(), student, data, answers(data), Collator(0), recipe, PruneRecipe(sparsity=sparsity),
                    seed=3, device="cpu", folder=folder, listen=listen)  # fmt: skip
    return student, curve


if __name__ == "__main__":
    torch.set_num_threads(1)
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    trained, _ = run(Path(sys.argv[1]) / "training", lambda event: time.sleep(pause), sparsity=float(sys.argv[2]))
    save_file(trained.model.state_dict(), Path(sys.argv[1]) / "student.safetensors")
