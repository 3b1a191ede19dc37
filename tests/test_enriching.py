"""More texts than are labelled: the teacher answers them, the student learns from them, the report tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from compressor import compress, enriching, lesson, practice, trimming
from compressor.answers import IGNORED
from compressor.cli import main
from compressor.familiarity import familiarity
from compressor.journal import Journal
from compressor.lesson import Candidate, Material
from compressor.recipe import DistillRecipe, Recipe, build, read
from compressor.tasks import TASKS, Kind
from compressor.training.objectives import compare
from tests import tiny, tiny_data, tiny_tokenizers
from tests.test_end_to_end_tasks import SCHEMA, run

MORE = "".join(f"the {noun} was {word} and {other}\n" for noun in ("film", "plot")
               for word, other in zip(tiny.POSITIVE, tiny.NEGATIVE, strict=True))  # fmt: skip


def recipe_of(teacher: Path, data: Path, place: Path, kind: Kind, **flags: Any) -> Recipe:
    given = {"teacher": str(teacher), "data": str(data), "task": TASKS[kind].name, "layers": 1, "epochs": 1.0,
             "device": "cpu", "cache-dir": str(place / "cache"), "learning-rate": 1e-3}  # fmt: skip
    return build({}, {**given, **flags})


def material_of(recipe: Recipe) -> tuple[Candidate, Any, Material, Journal]:
    journal = Journal(lambda event: None)
    candidate = lesson.find_teacher(recipe, journal)
    candidate, material = lesson.read_material(recipe, candidate, journal)
    tutor, _ = lesson.teach_teacher(recipe, candidate, material, journal)
    return candidate, tutor, enriching.extend(recipe, candidate, tutor, material, journal), journal


@pytest.mark.parametrize(
    ("kind", "pairs", "augment"),
    [
        ("single-label", True, 2),
        ("multi-label", False, 2),
        ("regression", False, 2),
        ("token-classification", False, 0),
        ("feature-extraction", False, 2),
    ],
)
def test_students_of_every_kind_learn_from_rows_without_labels(
    tmp_path: Path, kind: Kind, pairs: bool, augment: int
) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher", kind=kind)
    data = tiny_data.write(kind, tmp_path / "data", train=48, pairs=pairs)
    more = tmp_path / "more.jsonl"
    lines = MORE.splitlines()
    rows = [{"sentence1": "the film", "sentence2": line} if pairs else {"text": line} for line in lines]
    more.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = recipe_of(teacher, data, tmp_path, kind, unlabelled=str(more), augment=augment)
    _, tutor, material, journal = material_of(recipe)
    answers = lesson.ask_teacher(recipe, tutor, material, journal)
    added = material.corpus.added
    assert added is not None
    assert sum(part.rows for part in added.parts) == len(added.split.texts) > (48 if augment else 19)
    assert len(answers["train"] or ()) == 48 + len(added.split.texts)
    pupil, curve = practice.teach_student(recipe, tutor, material, answers, journal)
    assert np.isfinite(curve.losses).all()
    assert all(bool(weight.isfinite().all()) for weight in pupil.model.parameters())


def test_an_epoch_has_each_text_once_labelled_or_altered(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    more = tmp_path / "more.txt"
    more.write_text(MORE, encoding="utf-8")
    recipe = recipe_of(teacher, data, tmp_path, "single-label", unlabelled=str(more), augment=2)
    _, tutor, material, journal = material_of(recipe)
    corpus, texts = material.corpus, material.corpus.splits["train"].texts
    assert corpus.added is not None
    assert material.forms is not None
    altered = np.flatnonzero(np.array(corpus.added.altered) >= 0)
    assert len(altered) > 48
    forms, copies = material.forms, corpus.added.split.texts

    def alike(shift: int) -> float:
        """How many words a copy shares with the text that it is said to be of, or with one some places on."""
        pairs = [(copies[row].split(), texts[(forms[48 + row] + shift) % 48].split()) for row in altered]
        return float(np.mean([len(set(copy) & set(text)) / len(set(text)) for copy, text in pairs]))

    assert alike(0) > 0.55 > max(alike(shift) for shift in range(1, 48))
    assert material.rows == 48 + len(MORE.splitlines())
    answers = lesson.ask_teacher(recipe, tutor, material, journal)
    _, curve = practice.teach_student(recipe, tutor, material, answers, journal)
    assert curve.evaluations[-1]["step"] == -(-material.rows // recipe.distill.batch_size)


def test_what_students_are_judged_by_is_answered_in_fp32(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    found = []
    for precision in ("fp32", "bf16"):
        recipe = recipe_of(teacher, data, tmp_path, "single-label", augment=1, precision=precision)
        _, tutor, material, journal = material_of(recipe)
        found.append(lesson.ask_teacher(recipe, tutor, material, journal))
    full, half = (({name: part.values for name, part in one.items() if part is not None}) for one in found)
    assert np.array_equal(full["validation"], half["validation"])
    assert np.array_equal(full["test"], half["test"])
    assert not np.array_equal(full["train"], half["train"])
    assert np.allclose(full["train"], half["train"], atol=0.05)


@pytest.fixture
def by_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count every teacher as one that knows its training texts by heart: tiny ones have learnt nothing."""
    monkeypatch.setattr(enriching, "BY_HEART", np.inf)


def settled(tmp_path: Path, kind: Kind = "single-label", *, pairs: bool = False, **flags: Any) -> tuple[Any, Any]:
    if "trim-vocab" in flags:
        teacher = tiny_tokenizers.teacher_folder(tmp_path / "teacher", "WordPiece")
    else:
        teacher = tiny.teacher_folder(tmp_path / "teacher", kind=kind)
    data = tiny_data.write(kind, tmp_path / "data", train=48, pairs=pairs)
    recipe = recipe_of(teacher, data, tmp_path, kind, **{"epochs": 6.0, **flags})
    journal = Journal(lambda event: None)
    candidate, material = lesson.read_material(recipe, lesson.find_teacher(recipe, journal), journal)
    tutor, _ = lesson.teach_teacher(recipe, candidate, material, journal)
    found = enriching.settle(recipe, tutor, material, journal)
    assert enriching.settle(found, tutor, material, journal) == found
    return found.data.augment, found.distill.dropout


@pytest.mark.usefixtures("by_heart")
def test_every_epoch_has_other_copies_and_nothing_is_dropped_where_the_teacher_knows_its_texts(tmp_path: Path) -> None:
    assert settled(tmp_path / "usual") == (5, False)
    assert settled(tmp_path / "part", epochs=6.5) == (6, False)
    assert settled(tmp_path / "few", epochs=5.0) == (0, True)
    assert settled(tmp_path / "asked", augment=2, epochs=3.0) == (2, False)
    assert settled(tmp_path / "dropout", dropout=True) == (5, True)
    assert settled(tmp_path / "neither", augment=0, dropout=False) == (0, False)


def test_copies_are_made_where_the_teacher_is_surer_of_its_training_texts_than_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(
        tiny.teacher_folder(tmp_path / "teacher"), tiny_data.write("single-label", tmp_path / "data", train=48),
        tmp_path, "single-label", epochs=6.0,
    )  # fmt: skip
    heard: list[Any] = []
    candidate, material = lesson.read_material(recipe, lesson.find_teacher(recipe, heard.append), heard.append)
    tutor, _ = lesson.teach_teacher(recipe, candidate, material, Journal(heard.append))
    ratio = familiarity(tutor, material.tokenized, "cpu").ratio
    for limit, count, said in ((ratio * 1.01, 5, "knows its"), (ratio * 0.99, 0, "does not know")):
        monkeypatch.setattr(enriching, "BY_HEART", limit)
        assert enriching.settle(recipe, tutor, material, heard.append).data.augment == count
        assert said in heard[-1].text


@pytest.mark.usefixtures("by_heart")
def test_what_the_data_settled_is_left_to_them_again_in_the_recipe_of_the_run(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    out = tmp_path / "out"
    given = {"epochs": 6.0, "benchmark": False, "device": "auto", "learning-rate": None}
    report = compress(recipe_of(teacher, data, tmp_path, "single-label", **given, **{"output-dir": str(out)})).report
    told = report["recipe"]["distill"]
    assert (report["recipe"]["data"]["augment"], told["dropout"], told["learning_rate"]) == (5, False, 2e-4)
    left = build(read(out / "recipe.toml"), {"epochs": 4.0})
    assert (left.data.augment, left.distill.dropout, left.distill.learning_rate) == (None, None, None)
    assert left.device == "auto"


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        ("single-label", {"augment": 0}),
        ("single-label", {"preset": "distilbert"}),
        ("single-label", {"hidden-weight": 1.0}),
        ("single-label", {"logit-weight": 1.0}),
        ("single-label", {"soft-weight": 0.0, "hard-weight": 1.0}),
        ("single-label", {"trim-vocab": "train"}),
        ("single-label", {"pairs": True}),
        ("multi-label", {}),
        ("regression", {}),
        ("token-classification", {}),
        ("feature-extraction", {}),
    ],
)
@pytest.mark.usefixtures("by_heart")
def test_elsewhere_students_learn_from_the_texts_alone_with_dropout(
    tmp_path: Path, kind: Kind, flags: dict[str, Any]
) -> None:
    assert settled(tmp_path, kind, **flags) == (0, True)


@pytest.mark.usefixtures("by_heart")
def test_many_texts_are_altered_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enriching, "MOST_TEXTS", 47)
    assert settled(tmp_path / "many") == (0, True)
    assert settled(tmp_path / "asked", augment=1) == (1, False)


def test_a_head_for_masked_words_in_the_checkpoint_proposes_the_words(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher", kind="fill-mask")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    recipe = recipe_of(teacher, data, tmp_path, "single-label", augment=1, **{"teacher-epochs": 1.0})
    _, _, material, _ = material_of(recipe)
    assert material.corpus.added is not None
    assert "masked-language-model head" in material.corpus.added.parts[0].source
    again = material_of(recipe)[2]
    assert again.corpus.added is not None
    assert again.corpus.added.split.texts == material.corpus.added.split.texts
    assert again.tokenized.fingerprint == material.tokenized.fingerprint


@pytest.mark.slow
def test_the_report_tells_what_was_added(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    more = tmp_path / "more.txt"
    more.write_text(MORE, encoding="utf-8")
    found = run(teacher, data, tmp_path, quantize=False, unlabelled=str(more), augment=1)
    report, folder = found.report, found.output_dir
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    parts = report["data"]["added"]
    assert [part["kind"] for part in parts] == ["unlabelled", "augmented"]
    assert parts[0]["rows"] == len(MORE.splitlines())
    assert report["data"]["rows"]["train"] == 48
    text = f"{parts[0]['rows']} rows of "
    for page in ("report/report.md", "report/report.html", "README.md"):
        assert text in (folder / page).read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_student_is_taken_for_one_that_learnt_from_other_rows(tmp_path: Path) -> None:
    teacher = tiny.teacher_folder(tmp_path / "teacher")
    data = tiny_data.write("single-label", tmp_path / "data", train=48)
    more = tmp_path / "more.txt"
    more.write_text(MORE, encoding="utf-8")

    def is_new(**flags: Any) -> bool:
        recipe = recipe_of(teacher, data, tmp_path, "single-label", **flags)
        _, tutor, material, journal = material_of(recipe)
        answers = lesson.ask_teacher(recipe, tutor, material, journal)
        assert len(answers["train"] or ()) == len(material.tokenized.splits["train"])
        practice.teach_student(recipe, tutor, material, answers, journal)
        return not any("distilled by an earlier run" in note for note in journal.notes)

    both = {"unlabelled": str(more), "augment": 1}
    assert all(is_new(**flags) for flags in ({}, {"augment": 1}, {"augment": 2}, {"unlabelled": str(more)}, both))
    assert not is_new(**both)
    more.write_text(MORE + "another film\n", encoding="utf-8")
    assert is_new(**both)


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("question-answering", ["--unlabelled", "more.txt"], "--unlabelled does not go with question-answering"),
        ("fill-mask", ["--unlabelled", "more.txt"], "put all texts into --data"),
        ("token-classification", ["--augment", "2"], "--augment does not go with token-classification"),
        ("question-answering", ["--augment", "2"], "--augment does not go with question-answering"),
        ("single-label", ["--unlabelled", "nowhere.txt"], "nowhere.txt does not exist"),
        ("single-label", ["--augment", "2", "--soft-weight", "0"], "--soft-weight and --logit-weight are 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, kind: Kind, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.teacher_folder(tmp_path / "teacher", kind=kind)
    argv = ["--teacher", str(tmp_path / "teacher"), "--data", "data", "--task", TASKS[kind].name, "--dry-run"]
    assert main([*argv, *flags]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_plan_names_what_is_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.teacher_folder(tmp_path / "teacher")
    (tmp_path / "more.txt").write_text(MORE, encoding="utf-8")
    argv = ["--teacher", str(tmp_path / "teacher"), "--data", "data", "--dry-run"]
    assert main([*argv, "--unlabelled", str(tmp_path / "more.txt"), "--augment", "3"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "3 altered copies of each training text, labelled by the teacher alone" in told
    assert "more.txt" in told


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression", "token-classification"])
def test_rows_without_labels_have_no_hard_loss_and_leave_that_of_the_others_as_it_was(kind: Kind) -> None:
    torch.manual_seed(0)
    empty = float("nan")
    shape, labels = {
        "single-label": ((4, 3), torch.tensor([0, 2, IGNORED, IGNORED])),
        "multi-label": ((4, 3), torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [empty] * 3, [empty] * 3])),
        "regression": ((4, 1), torch.tensor([0.5, 1.5, empty, empty])),
        "token-classification": ((4, 2, 3), torch.tensor([[0, 1], [2, 1], [IGNORED] * 2, [IGNORED] * 2])),
    }[kind]
    logits = torch.randn(shape, requires_grad=True)
    recipe = DistillRecipe(soft_weight=0.0, hard_weight=1.0)
    loss, _ = compare(kind, (logits,), {"labels": labels}, recipe)
    alone, _ = compare(kind, (logits[:2],), {"labels": labels[:2]}, recipe)
    assert torch.allclose(loss, alone / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:2].all()
    assert not logits.grad[2:].any()


def test_a_trimmed_vocabulary_keeps_the_pieces_of_texts_without_labels(tmp_path: Path) -> None:
    teacher = tiny_tokenizers.teacher_folder(tmp_path / "teacher", "WordPiece")
    data, more = tiny_data.write("single-label", tmp_path / "data", train=48), tmp_path / "more.txt"
    more.write_text(" ".join(tiny_tokenizers.invented(3)) + "\n", encoding="utf-8")
    recipe = recipe_of(teacher, data, tmp_path, "single-label", unlabelled=str(more), **{"trim-vocab": "train"})
    _, tutor, material, journal = material_of(recipe)
    answers = lesson.ask_teacher(recipe, tutor, material, journal)
    study = trimming.prepare(recipe, tutor, material, answers, journal)
    kept = study.tutor.tokenizer
    assert kept.tokenize(more.read_text()) == tutor.tokenizer.tokenize(more.read_text())
    assert len(study.material.tokenized.splits["train"]) == 49
