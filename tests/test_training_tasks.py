"""Every task can be fine-tuned, distilled, killed and continued."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compressor import heads
from compressor.answers import IGNORED, Answers, collect
from compressor.errors import OutputError, RecipeError
from compressor.events import Note, Progress
from compressor.recipe import DistillRecipe, Recipe, TeacherRecipe
from compressor.tasks import TASKS, Kind
from compressor.training import losses, objectives
from compressor.training.batches import Collator
from compressor.training.distill import WithSoftLabels, masked_objective_for, objective_for
from compressor.training.finetune import fine_tune
from compressor.training.hint_plan import plan_hints
from compressor.training.hints import Hints
from compressor.training.masking import Masked, Vocabulary, mask_tokens
from compressor.training.on_cpu import fast_on_cpu
from compressor.training.soft_labels import soft_labels
from tests import tiny, training_script
from tests.training_script import closeness, tokenized

HEADED = [kind for kind in TASKS if TASKS[kind].head]
VOCABULARY = Vocabulary.of(tiny.tokenizer())
OTHERS: list[Kind] = [kind for kind in TASKS if kind != "single-label"]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(student: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in student.model.named_parameters()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def tutor(kind: Kind) -> Any:
    """A teacher whose weights a test may change."""
    found = training_script.teacher(kind)
    return replace(found, model=tiny.model("bert", kind=kind))


# --- learning -------------------------------------------------------------------------------


def learn(model: Any, objective: Any, batch: Any, steps: int = 20) -> tuple[float, float]:
    """Loss of a batch before and after some steps on it alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    found = []
    for _ in range(steps):
        loss, _ = objective(model.eval(), batch)  # without dropout
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found[0], found[-1]


def batch_of(kind: Kind, said: Answers | None = None) -> dict[str, torch.Tensor]:
    rows: Any = training_script.rows(kind, 8, 1)
    rows = Masked(rows, VOCABULARY, 0) if kind == "fill-mask" else rows
    rows = rows if said is None else WithSoftLabels(rows, said, TASKS[kind])
    return Collator(0)([rows[index] for index in range(8)])


@pytest.mark.parametrize("kind", HEADED)
def test_labels_can_be_learnt(kind: Kind) -> None:
    before, after = learn(tutor(kind).model, objectives.supervised(TASKS[kind]), batch_of(kind))
    assert after < 0.7 * before


@pytest.mark.parametrize("kind", TASKS)
def test_a_teacher_can_be_imitated(kind: Kind) -> None:
    found = training_script.teacher(kind)
    student = training_script.student_of(found)
    recipe = DistillRecipe(soft_weight=1, hard_weight=0)
    hints = Hints(plan_hints(recipe, found, student), found, student, 0)
    said = training_script.answers(tokenized(8, 8, kind=kind))["train"]
    if kind == "regression":
        said = Answers(said.values + 1, said.starts)  # the student's random start answers much as the teacher's
    objective = (
        masked_objective_for(found.task, recipe, hints, found.model)
        if kind == "fill-mask"
        else objective_for(found.task, recipe, hints)
    )
    before, after = learn(student.model, objective, batch_of(kind, said))
    # Of independent labels the teacher's entropy remains.
    assert after < before if kind == "multi-label" else after < 0.5 * before


@pytest.mark.parametrize("kind", HEADED)
def test_a_head_of_every_task_is_fine_tuned_and_judged_by_the_given_score(kind: Kind, tmp_path: Path) -> None:
    data, figure = tokenized(32, 8, kind=kind), TASKS[kind].metric
    seen: list[Answers] = []

    def score(found: Answers) -> dict[str, float]:
        seen.append(found)
        return {figure: float(len(seen) == 1), "other": 7.0}

    recipe = Recipe(teacher=TeacherRecipe(model="tiny", epochs=2), distill=DistillRecipe(batch_size=16))
    model = tutor(kind)
    curve = fine_tune(model, data, Collator(0), recipe, tmp_path, lambda event: None, score=score)
    assert [dict(entry) for entry in curve.evaluations] == [
        {"step": 2, figure: 1, "other": 7}, {"step": 4, figure: 0, "other": 7}
    ]  # fmt: skip
    assert np.isfinite(curve.losses).all()
    call = heads.asking(model.model, TASKS[kind], "cpu", VOCABULARY.mask)
    with fast_on_cpu(model.model, "cpu", longest=64):  # as it was validated, so that the answers are equal bit for bit
        best = collect(call, data.splits["validation"], data.task, names=training_script.NAMES, pad_token_id=0)
    assert np.array_equal(best.values, seen[0].values), "the weights that scored best are kept"


def test_a_sentence_encoder_has_nothing_to_be_fine_tuned_with(tmp_path: Path) -> None:
    data = tokenized(8, 8, kind="feature-extraction")
    recipe = Recipe(teacher=TeacherRecipe(model="tiny"))
    with pytest.raises(ValueError, match="feature-extraction has no labels to fine-tune with"):
        fine_tune(tutor("feature-extraction"), data, Collator(0), recipe, tmp_path, lambda event: None)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_student_of_every_task_is_distilled(kind: Kind, tmp_path: Path) -> None:
    events: list[Any] = []
    recipe = DistillRecipe(epochs=1, batch_size=16)
    before = weights(training_script.student_of(training_script.teacher(kind)))
    student, curve = training_script.run(tmp_path, events.append, recipe, data=tokenized(32, 16, kind=kind), kind=kind)
    assert all(torch.isfinite(weight).all() for weight in student.model.parameters())
    assert any(not torch.equal(weight, before[name]) for name, weight in weights(student).items())
    shown = [event.figures for event in events if isinstance(event, Progress)][-1]
    assert set(shown) - {"agreement", "cosine"} == {"loss"}
    decides = kind not in ("regression", "feature-extraction")
    assert [set(entry) - {"agreement"} for entry in curve.evaluations] == [{"step", TASKS[kind].metric}]
    assert ("agreement" in curve.evaluations[0]) == decides


@pytest.mark.parametrize("kind", ["fill-mask", "token-classification"])
def test_hidden_states_can_be_taught_beside_the_answers_in_half_precision(kind: Kind, tmp_path: Path) -> None:
    recipe = DistillRecipe(preset="distilbert", epochs=1, batch_size=8, precision="bf16", gradient_accumulation_steps=2)
    events: list[Any] = []
    with computed_in(training_script.teacher(kind).model) as types:
        training_script.run(tmp_path, events.append, recipe, data=tokenized(32, 8, kind=kind), kind=kind)
    assert types[-1] == torch.bfloat16
    figures = [event.figures for event in events if isinstance(event, Progress)][-1]
    assert {"loss", "agreement", "hidden"} <= set(figures)
    assert all(np.isfinite(value) for value in figures.values())


def test_a_teacher_that_answers_beside_a_student_in_half_precision_does_so_too(tmp_path: Path) -> None:
    recipe = DistillRecipe(epochs=1, batch_size=8, precision="bf16")
    with computed_in(training_script.teacher("fill-mask").model) as types:
        training_script.run(tmp_path, recipe=recipe, data=tokenized(16, 8, kind="fill-mask"), kind="fill-mask")
    assert types[-1] == torch.bfloat16


@contextmanager
def computed_in(model: torch.nn.Module) -> Iterator[list[torch.dtype]]:
    """Types of what a model's first linear product gave while the block ran."""
    types: list[torch.dtype] = []
    product = next(part for part in model.modules() if isinstance(part, torch.nn.Linear))
    handle = product.register_forward_hook(lambda module, given, output: types.append(output.dtype))
    try:
        yield types
    finally:
        handle.remove()


def test_inner_states_come_first_in_a_training_of_two_stages(tmp_path: Path) -> None:
    recipe = DistillRecipe(epochs=1, batch_size=16, hidden_weight=1, intermediate_epochs=2)
    events: list[Any] = []
    _, curve = training_script.run(tmp_path, events.append, recipe, data=tokenized(32, 8))
    steps = [event for event in events if isinstance(event, Progress)]
    assert [event.stage for event in steps] == ["intermediate"] * 4 + ["distil"] * 2
    assert set(steps[0].figures) == {"loss", "hidden"}
    assert [entry["step"] for entry in curve.evaluations] == [2, 4, 6]


def test_a_moving_average_and_rates_by_layer_belong_to_the_recipe(tmp_path: Path) -> None:
    data = tokenized(32, 8)
    base = DistillRecipe(epochs=1, batch_size=16)
    plain, _ = training_script.run(tmp_path / "plain", recipe=base, data=data)
    average, _ = training_script.run(tmp_path / "ema", recipe=base.model_copy(update={"ema": 0.9}), data=data)
    decayed, _ = training_script.run(
        tmp_path / "rates", recipe=base.model_copy(update={"layer_learning_rate_decay": 0.5}), data=data
    )
    name = "bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(weights(plain)[name], weights(average)[name])
    assert not torch.equal(weights(plain)[name], weights(decayed)[name])


def test_a_task_without_labels_has_nothing_to_learn_from_them(tmp_path: Path) -> None:
    recipe = DistillRecipe(soft_weight=0, hard_weight=1)
    with pytest.raises(RecipeError, match="there are no labels for feature-extraction: there is nothing to learn from"):
        training_script.run(tmp_path, recipe=recipe, kind="feature-extraction")


def test_other_tasks_need_a_score(tmp_path: Path) -> None:
    recipe = Recipe(teacher=TeacherRecipe(model="tiny"))
    with pytest.raises(ValueError, match="a regression model needs a score"):
        fine_tune(tutor("regression"), tokenized(8, 8, kind="regression"), Collator(0), recipe, tmp_path, print)


# --- one seed, one student ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["token-classification", "fill-mask"])
def test_an_interrupted_training_continues_to_the_same_weights(kind: Kind, tmp_path: Path) -> None:
    data = tokenized(48, 8, kind=kind)  # 6 steps an epoch
    whole, _ = training_script.run(tmp_path / "whole", kind=kind, data=data)

    def interrupt(event: Any) -> None:
        if isinstance(event, Progress) and event.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training_script.run(tmp_path / "cut", interrupt, kind=kind, data=data)
    events: list[Any] = []
    again, _ = training_script.run(tmp_path / "cut", events.append, kind=kind, data=data)
    assert events[0] == Note("Continued distil from step 8 of an interrupted run.")
    assert_equal(weights(whole), weights(again))


# --- masking --------------------------------------------------------------------------------


def test_fifteen_in_a_hundred_tokens_are_asked_about() -> None:
    ids = np.array([2, *np.tile(np.arange(5, 41), 1000)[:20000], 3])
    hidden, labels = mask_tokens(ids, VOCABULARY, np.random.default_rng(0))
    chosen = labels != IGNORED
    assert chosen.sum() == 3000
    assert np.array_equal(labels[chosen], ids[chosen])
    assert np.array_equal(hidden[~chosen], ids[~chosen])
    masked = hidden[chosen] == VOCABULARY.mask
    other = (hidden[chosen] != ids[chosen]) & ~masked
    assert masked.mean() == pytest.approx(0.8, abs=0.03)
    assert other.mean() == pytest.approx(0.1 * 35 / 36, abs=0.02)
    assert not np.isin(hidden[chosen][other], VOCABULARY.special).any()


def test_special_tokens_are_never_asked_about_and_one_word_always_is() -> None:
    for seed in range(30):
        _, labels = mask_tokens(np.array([2, 9, 3, 0]), VOCABULARY, np.random.default_rng(seed))
        assert labels.tolist() == [IGNORED, 9, IGNORED, IGNORED]
    _, labels = mask_tokens(np.array([2, 3]), VOCABULARY, np.random.default_rng(0))
    assert (labels == IGNORED).all()


def test_what_is_masked_is_a_function_of_seed_epoch_and_row() -> None:
    rows = [{"input_ids": list(range(5, 35))}] * 2
    first, again, other = Masked(rows, VOCABULARY, 1), Masked(rows, VOCABULARY, 1), Masked(rows, VOCABULARY, 2)

    def seen(data: Masked, index: int) -> list[int]:
        return np.flatnonzero(data[index]["labels"] != IGNORED).tolist()  # type: ignore[no-any-return]

    assert seen(first, 0) == seen(again, 0) != seen(first, 1)
    assert seen(first, 0) != seen(other, 0)
    before = seen(first, 0)
    first.set_epoch(1)
    assert seen(first, 0) != before
    again.set_epoch(1)
    assert seen(first, 0) == seen(again, 0)


# --- objectives -----------------------------------------------------------------------------


def masked_batch() -> dict[str, torch.Tensor]:
    data = Masked(training_script.rows("fill-mask", 6, 1), VOCABULARY, 0)
    return Collator(0)([data[index] for index in range(6)])


@pytest.mark.parametrize("hidden_weight", [0, 3])
def test_masked_words_are_taught_with_distilberts_three_losses(hidden_weight: float) -> None:
    found = training_script.teacher("fill-mask")
    student = training_script.student_of(found)
    student.model.eval()
    recipe = DistillRecipe(soft_weight=5, hard_weight=2, hidden_weight=hidden_weight, temperature=2)
    hints = Hints(plan_hints(recipe, found, student), found, student, 0)
    batch = masked_batch()
    calls: list[int] = []
    handle = found.model.bert.encoder.register_forward_hook(lambda *_: calls.append(1))
    loss, figures = masked_objective_for(found.task, recipe, hints, found.model)(student.model, batch)
    handle.remove()
    assert len(calls) == 1, "the teacher runs once a step"
    inputs, chosen = objectives.forward_inputs(batch), batch["labels"] != IGNORED
    with torch.no_grad():
        own, other = (model(**inputs, output_hidden_states=True) for model in (student.model, found.model))
        expected = 5 * losses.soft_label_kl(own.logits[chosen], other.logits[chosen], 2.0)
        expected += 2 * torch.nn.functional.cross_entropy(own.logits[chosen], batch["labels"][chosen])
        expected += hidden_weight * torch.stack(
            [losses.hidden_cosine(own.hidden_states[s + 1], other.hidden_states[t + 1], inputs["attention_mask"])
             for s, t in enumerate(student.taught)]
        ).mean()  # fmt: skip
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert figures["agreement"] == pytest.approx(losses.agreement(own.logits[chosen], other.logits[chosen]))


def test_the_head_of_a_masked_language_model_gives_its_gradient_to_all_tokens() -> None:
    model = tiny.model(kind="fill-mask")
    loss, _ = objectives.supervised(TASKS["fill-mask"])(model, masked_batch())
    loss.backward()
    one = model.bert.encoder.layer[0].attention.self.query.weight.grad.clone()
    model.zero_grad()
    batch = masked_batch()
    chosen = batch["labels"] != IGNORED
    logits = model(**objectives.forward_inputs(batch)).logits
    torch.nn.functional.cross_entropy(logits[chosen], batch["labels"][chosen]).backward()
    assert torch.allclose(one, model.bert.encoder.layer[0].attention.self.query.weight.grad, atol=1e-6)


@pytest.mark.parametrize("kind", TASKS)
def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn_from_it(kind: Kind) -> None:
    """For independent labels the loss is then the teacher's entropy, which is its least value."""
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    row, token = torch.randn(2, 3), torch.randn(2, 4, 3)
    found: tuple[torch.Tensor, ...] = {
        "token-classification": (token,),
        "question-answering": (token[..., 0], token[..., 1]),
        "fill-mask": (token[:1],),
        "regression": (row[:, :1],),
    }.get(kind, (row,))
    soft = {
        "token-classification": token, "question-answering": token[..., :2], "fill-mask": token[0],
        "regression": row[:, :1],
    }.get(kind, row)  # fmt: skip
    batch = {"soft_labels": soft, "attention_mask": mask, "labels": torch.zeros(1, 4, dtype=torch.int64)}
    recipe = DistillRecipe(soft_weight=1, hard_weight=0, logit_weight=2)
    leaves = tuple(item.clone().requires_grad_() for item in found)
    loss, figures = objectives.compare(kind, leaves, batch, recipe)
    loss.backward()
    assert all(leaf.grad is not None and leaf.grad.abs().max() < 1e-6 for leaf in leaves)
    if kind != "multi-label":
        assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(value == pytest.approx(1) for value in figures.values())


@pytest.mark.parametrize("kind", ["token-classification", "question-answering"])
def test_padding_does_not_change_what_is_learnt(kind: Kind) -> None:
    task, model = TASKS[kind], training_script.student_of(training_script.teacher(kind)).model.eval()
    data = training_script.rows(kind, 4, 1)
    recipe = DistillRecipe(logit_weight=1)
    rng = np.random.default_rng(0)
    width = 2 if kind == "question-answering" else 5
    rows = [
        {**data[i], "soft_labels": rng.normal(size=(data[i]["length"], width)).astype(np.float32)} for i in range(4)
    ]

    def loss(multiple: int) -> float:
        batch = Collator(0, pad_to_multiple_of=multiple)(rows)
        output = model(**objectives.forward_inputs(batch))
        found = tuple(getattr(output, name) for name in task.outputs)
        return objectives.compare(kind, found, batch, recipe)[0].item()

    assert loss(1) == pytest.approx(loss(64), rel=1e-5)


# --- soft labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TASKS)
def test_the_teachers_answers_are_stored_for_every_task(kind: Kind, tmp_path: Path) -> None:
    data, found = tokenized(40, 12, kind=kind), training_script.teacher(kind)
    for split in ("train", "validation"):
        told: list[Any] = []
        one = soft_labels(found, data, split, tmp_path, "cpu", told.append)
        if (kind, split) == ("fill-mask", "train"):
            assert one is None
            continue
        two = soft_labels(found, data, split, tmp_path, "cpu", told.append)
        expected = training_script.answers(data)[split] if kind != "single-label" else None
        assert isinstance(one, Answers)
        assert isinstance(two, Answers)
        assert len(one) == len(data.splits[split])
        assert np.array_equal(one.values, two.values)
        assert np.array_equal(one.starts, two.starts)
        assert len(told) == -(-len(one) // 32), "the second time nothing is computed"
        if expected is not None:
            assert np.array_equal(one.starts, expected.starts)
            assert np.allclose(one.values, expected.values, atol=1e-5)


def test_stored_logits_of_a_classifier_are_a_plain_matrix(tmp_path: Path) -> None:
    data, found = tokenized(40, 12), training_script.teacher()
    answers = soft_labels(found, data, "train", tmp_path, "cpu", lambda event: None)
    (path,) = (tmp_path / "soft_labels").glob("*.npy")
    assert np.load(path).shape == (40, 2)
    with torch.inference_mode():
        row = data.splits["train"][7]
        logits = found.model(input_ids=torch.tensor([row["input_ids"]])).logits.numpy()
    assert answers is not None
    assert np.allclose(answers.row(7), logits, atol=1e-5)


def test_answers_in_another_precision_are_close_and_kept_apart(tmp_path: Path) -> None:
    data, found = tokenized(40, 12), training_script.teacher()

    def ask(precision: str) -> Any:
        answers = soft_labels(found, data, "train", tmp_path, "cpu", lambda event: None, precision)
        assert answers is not None
        return answers.values

    full, half = ask("fp32"), ask("bf16")
    assert 1e-7 < np.abs(full - half).max() < 0.02 * np.abs(full).max()
    assert np.array_equal(ask("fp32"), full)
    assert np.array_equal(ask("bf16"), half)


def test_a_record_of_answers_that_are_gone_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, found = tokenized(100, 12), training_script.teacher()
    whole = soft_labels(found, data, "train", tmp_path / "other", "cpu", lambda event: None)
    (finished,) = (tmp_path / "other" / "soft_labels").glob("*.npy")
    (tmp_path / "soft_labels").mkdir()
    (tmp_path / "soft_labels" / f"{finished.stem}.json").write_text("64", encoding="utf-8")

    def killed(event: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # before anything was recorded
        soft_labels(found, data, "train", tmp_path, "cpu", killed)
    again = soft_labels(found, data, "train", tmp_path, "cpu", lambda event: None)
    assert again is not None
    assert whole is not None
    assert np.array_equal(again.values, whole.values)


def test_a_pass_that_was_cut_short_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.training.soft_labels.FLUSH_EVERY", 1)
    data, found = tokenized(100, 12, kind="token-classification"), training_script.teacher("token-classification")

    def killed(event: Any) -> None:
        if event.step == 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        soft_labels(found, data, "train", tmp_path, "cpu", killed)
    told: list[Any] = []
    again = soft_labels(found, data, "train", tmp_path, "cpu", told.append)
    assert [event.step for event in told] == [96, 100]
    whole = soft_labels(found, data, "train", tmp_path / "other", "cpu", lambda event: None)
    assert again is not None
    assert whole is not None
    assert np.array_equal(again.values, whole.values)


@pytest.mark.parametrize("is_early", [True, False])
def test_a_full_disk_is_an_error_in_words(is_early: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory-mapped files that outgrow the disk kill the process otherwise."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC if is_early else errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("compressor.training.soft_labels.shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(OutputError) as caught:
        soft_labels(training_script.teacher(), tokenized(40, 12), "train", tmp_path, "cpu", lambda event: None)
    assert caught.value.message == f"No space left on the disk of {tmp_path / 'soft_labels'}."
    assert "another --cache-dir" in caught.value.remedy
    assert not list((tmp_path / "soft_labels").glob("*.npy"))


# --- batches --------------------------------------------------------------------------------


def test_labels_are_collated_by_what_they_are() -> None:
    def labels(*values: Any) -> torch.Tensor:
        rows = [{"input_ids": [5] * (index + 3), "labels": value} for index, value in enumerate(values)]
        return Collator(0)(rows)["labels"]

    assert labels([IGNORED, 1, 2], [0, 3, 4, IGNORED]).tolist() == [[-100, 1, 2, -100], [0, 3, 4, -100]]
    assert labels([1, 2], [0, 3]).tolist() == [[1, 2], [0, 3]]
    assert labels([1.0, 0.0, 1.0], [0.0, 1.0, 1.0]).dtype == torch.float32
    assert labels(0.25, 2.5).tolist() == [0.25, 2.5]
    assert labels(1, 0).dtype == torch.int64


def test_answers_about_tokens_are_padded_and_origins_left_out() -> None:
    rows = [
        {"input_ids": [5] * n, "words": [0] * n, "row": 0, "offsets": [0] * 2 * n, "length": n,
         "soft_labels": np.full((n, 2), n, np.float32)}
        for n in (1, 3)
    ]  # fmt: skip
    batch = Collator(0)(rows)
    assert set(batch) == {"input_ids", "soft_labels"}
    assert batch["soft_labels"].tolist() == [[[1, 1], [0, 0], [0, 0]], [[3, 3]] * 3]


def test_scores_see_the_answers_in_the_order_of_the_rows() -> None:
    data = tokenized(8, 20, kind="regression")
    said = training_script.answers(data)
    assert closeness(data, said)(said["validation"]) == {"spearman": 0}
