"""Layer choice and surgery."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from compressor.architectures import ARCHITECTURES, architecture_of
from compressor.artifacts import Teacher
from compressor.errors import RecipeError, TeacherError
from compressor.recipe import StudentRecipe
from compressor.student import build_student, plan_layers, select_layers, taught_layers
from tests import tiny


def teacher(model_type="bert", **changes):
    model = tiny.model(model_type, **changes)
    return Teacher("tiny", None, model, tiny.tokenizer(model_type), architecture_of(model.config),
                   ("negative", "positive"), 64, "f", False)  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "count", "total", "expected"),
    [
        ("alternate", 6, 12, (0, 2, 4, 6, 8, 10)),
        ("alternate", 3, 6, (0, 2, 4)),
        ("alternate", 4, 7, (0, 2, 4, 6)),
        ("alternate", 4, 12, (0, 4, 7, 11)),
        ("alternate", 1, 12, (0,)),
        ("spaced", 6, 12, (0, 2, 4, 7, 9, 11)),
        ("spaced", 12, 12, tuple(range(12))),
        ("first", 3, 12, (0, 1, 2)),
        ("last", 3, 12, (9, 10, 11)),
        ("random-init", 3, 12, ()),
    ],
)
def test_selection_names_the_layers_that_its_rule_says(selection, count, total, expected):
    assert select_layers(selection, count, total) == expected


def test_half_of_the_layers_is_the_default():
    assert plan_layers(StudentRecipe(), 12) == (6, (0, 2, 4, 6, 8, 10))


def test_more_layers_than_the_teacher_has_are_refused():
    with pytest.raises(RecipeError, match="--layers 13: the teacher has 12 layers"):
        plan_layers(StudentRecipe(layers=13), 12)


def test_a_layer_beyond_the_last_is_refused():
    with pytest.raises(RecipeError, match=r"--layers 0,12: the teacher has no layer 12\.\nIts 12 layers"):
        plan_layers(StudentRecipe(layers="0,12"), 12)


@pytest.mark.parametrize(
    ("layer_map", "count", "total", "expected"),
    [((0, 2, 4), 3, 6, (1, 3, 5)), ((0, 4, 7, 11), 4, 12, (3, 6, 10, 11)), ((), 3, 6, (1, 3, 5)), ((5,), 1, 6, (5,))],
)
def test_a_student_layer_is_compared_with_the_end_of_its_span(layer_map, count, total, expected):
    assert taught_layers(layer_map, count, total) == expected


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_student_copies_chosen_layers_and_everything_around_them(model_type):
    source = teacher(model_type)
    built = build_student(source, StudentRecipe(layers="1,3"), seed=0)
    ours, theirs = built.model.state_dict(), source.model.state_dict()
    prefix = source.architecture.layers
    for name, tensor in ours.items():
        origin = name.replace(f"{prefix}.0.", f"{prefix}.1.") if f"{prefix}.0." in name else name.replace(
            f"{prefix}.1.", f"{prefix}.3."
        )  # fmt: skip
        assert torch.equal(tensor, theirs[origin]), name
    assert built.layer_map == (1, 3)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_a_student_of_all_layers_answers_like_its_teacher(model_type):
    source = teacher(model_type)
    built = build_student(source, StudentRecipe(layers=4), seed=0)
    batch = tiny.tokenizer(model_type)(["a good film", "dull"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(built.model(**batch).logits, source.model(**batch).logits)


@pytest.mark.parametrize("model_type", sorted(ARCHITECTURES))
def test_plain_transformers_reloads_the_student(model_type, tmp_path):
    built = build_student(teacher(model_type), StudentRecipe(layers=2), seed=0)
    built.model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(built.model.parameters(), again.parameters(), strict=True))
    assert again.config.id2label == {0: "negative", 1: "positive"}


def test_random_init_leaves_layers_random_and_reproducible():
    source = teacher()
    first, second, other = (
        build_student(source, StudentRecipe(layers=2, layer_selection="random-init"), seed=seed).model.state_dict()
        for seed in (1, 1, 2)
    )
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], source.model.state_dict()[name])
    assert torch.equal(first["classifier.weight"], source.model.state_dict()["classifier.weight"])


def test_the_teacher_is_left_as_it_was():
    source = teacher()
    before = {name: tensor.clone() for name, tensor in source.model.state_dict().items()}
    build_student(source, StudentRecipe(layers=2), seed=0)
    assert source.model.config.num_hidden_layers == 4
    assert all(torch.equal(before[name], tensor) for name, tensor in source.model.state_dict().items())


def test_an_unknown_family_is_refused_by_name():
    config = tiny.model().config
    config.model_type = "gpt2"
    with pytest.raises(TeacherError, match="Model type 'gpt2' is not supported") as caught:
        architecture_of(config)
    assert "one row in compressor/architectures.py" in caught.value.remedy
