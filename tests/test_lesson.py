"""What a run says about its teacher once it has answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressor import lesson
from tests import tiny, tiny_data
from tests.test_enriching import material_of, recipe_of


@pytest.mark.parametrize(
    ("scale", "trained_here", "is_said"),
    [(0.01, True, True), (0.01, False, False), (1e5, True, False)],
    ids=["right and unsure", "not trained here", "right and sure"],
)
def test_a_teacher_that_was_trained_for_too_short_is_pointed_out(
    tmp_path: Path, scale: float, trained_here: bool, is_said: bool
) -> None:
    folder = tiny.teacher_folder(tmp_path / "teacher")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    recipe = recipe_of(folder, data, tmp_path, "single-label")
    _, tutor, material, journal = material_of(recipe)
    with torch.no_grad():
        for weight in tutor.model.classifier.parameters():
            weight.mul_(scale)
    tutor = replace(tutor, fine_tuned=trained_here, fingerprint=f"scaled by {scale}")
    answers = lesson.ask_teacher(recipe, tutor, material, journal)["validation"]
    assert answers is not None
    labels = answers.values.argmax(axis=-1)
    labels[0] = 1 - labels[0]
    right = replace(material.corpus.splits["validation"], labels=labels)
    corpus = replace(material.corpus, splits={**material.corpus.splits, "validation": right})
    journal.warnings.clear()
    lesson.ask_teacher(recipe, tutor, replace(material, corpus=corpus), journal)
    said = [text for text in journal.warnings if "has learnt too little" in text]
    assert len(said) == is_said
    if is_said:
        share = 100 * (1 - 1 / len(labels))
        sure = 100 * torch.tensor(answers.values).double().softmax(-1).amax(-1).mean().item()
        assert f"right about {share:.1f}% of the validation texts, but sure of its answers by {sure:.1f}%" in said[0]
        assert "--teacher-epochs" in said[0]
