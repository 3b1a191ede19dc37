"""Teaches tiny students in as many processes as a launcher has started, for tests that compare: FOLDER."""

import json
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from compressor import processes
from compressor.answers import Answers
from compressor.architectures import architecture_of
from compressor.artifacts import Teacher
from compressor.events import Progress, ignore
from compressor.familiarity import familiarity
from compressor.recipe import DistillRecipe, PruneRecipe, StudentRecipe
from compressor.slimming.plan import choice_for
from compressor.student import build_student
from compressor.tasks import TASKS
from compressor.training.batches import Collator
from compressor.training.distill import distill
from compressor.training.soft_labels import soft_labels
from tests import tiny
from tests.training_script import tokenized

BASE = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-3}
HINTS = {"hidden_weight": 1.0, "relation_weight": 1.0, "intermediate_epochs": 1, "ema": 0.9}
SAVED = "saved at every step"
RECIPES = {
    "plain": (BASE, PruneRecipe()),
    "accumulated": ({**BASE, "batch_size": 8, "gradient_accumulation_steps": 2}, PruneRecipe()),
    SAVED: ({**BASE, "checkpoint_minutes": 0}, PruneRecipe()),
    "bf16": ({**BASE, "precision": "bf16"}, PruneRecipe()),
    "hints and pruned heads": ({**BASE, **HINTS}, PruneRecipe(heads=0.5)),
}
DATA = tokenized(train_rows=98)
INTERRUPTED_AT = 9


@cache
def teacher(dropout):
    model = tiny.model("bert", hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return Teacher("tiny", Path(), model, tiny.tokenizer(), architecture_of(model.config), tiny.LABELS["single-label"],
                   64, f"tiny {dropout}", False, TASKS["single-label"])  # fmt: skip


def taught(name, folder, dropout=0.0, listen=ignore):
    values, prune = RECIPES[name]
    tutor = teacher(dropout)
    said = {
        split: soft_labels(tutor, DATA, split, folder / "cache", "cpu", ignore) for split in ("train", "validation")
    }
    pupil = build_student(tutor, StudentRecipe(layers=2), seed=0)
    # Values far from 0: those of a random teacher say nothing.
    loud = {split: Answers(answers.values * 20, answers.starts) for split, answers in said.items()}
    curve = distill(tutor, pupil, DATA, loud, Collator(0), DistillRecipe(**values), prune, slim=choice_for(prune),
                    seed=3, device="cpu", folder=folder / f"{name} {dropout}", listen=listen)  # fmt: skip
    weights = {key: value.detach().contiguous().clone() for key, value in pupil.model.named_parameters()}
    return weights, curve


def stop(event):
    if isinstance(event, Progress) and event.step == INTERRUPTED_AT:
        raise KeyboardInterrupt


def all_of_it(folder):
    """Every recipe; and one with dropout, whole and interrupted. The same weights have to be in all processes."""
    told = {"count": processes.here().count, "alike": {}, "losses": {}, "scores": {}}
    known = familiarity(teacher(0.0), DATA, "cpu")
    told["familiarity"] = processes.gathered([known.known, known.unknown])
    found = {}
    for name in [name for name in RECIPES if name != SAVED]:
        found[name], curve = taught(name, folder)
        told["losses"][name], told["scores"][name] = curve.losses, [dict(entry) for entry in curve.evaluations]
    found["whole"], _ = taught(SAVED, folder / "whole", dropout=0.1)
    with suppress(KeyboardInterrupt):
        taught(SAVED, folder / "resumed", dropout=0.1, listen=stop)
    found["resumed"], _ = taught(SAVED, folder / "resumed", dropout=0.1)
    for name, weights in found.items():
        sums = processes.gathered([float(value.double().sum()) for value in weights.values()])
        told["alike"][name] = all(other == sums[0] for other in sums)
        if processes.here().is_first:
            save_file(weights, folder / f"{name}.safetensors")
    if processes.here().is_first:
        (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes.joined():
        all_of_it(Path(sys.argv[1]))
