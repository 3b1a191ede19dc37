"""Layer choice and surgery."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from compressor import heads
from compressor.architectures import ARCHITECTURES, architecture_of
from compressor.artifacts import Teacher
from compressor.errors import RecipeError, TeacherError
from compressor.recipe import StudentRecipe
from compressor.student import build_student, keep_pattern, plan_layers, select_layers, taught_layers
from compressor.tasks import TASKS
from tests import tiny


def teacher(model_type="bert", kind="single-label", **changes):
    model = tiny.model(model_type, kind=kind, **changes)
    return Teacher("tiny", None, model, tiny.tokenizer(model_type), architecture_of(model.config),
                   tiny.LABELS.get(kind, ()), 64, "f", False, TASKS[kind])  # fmt: skip


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
    assert plan_layers(StudentRecipe(), 12) == (6, (0, 2, 4, 7, 9, 11))


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
    built = build_student(source, StudentRecipe(layers="0,3"), seed=0)
    ours, theirs = built.model.state_dict(), source.model.state_dict()
    prefix = source.architecture.layers
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name.replace(f"{prefix}.1.", f"{prefix}.3.")]), name
    assert built.layer_map == (0, 3)
    assert built.model.config.num_hidden_layers == 2


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_a_student_for_any_task_copies_head_and_layers(kind):
    source = teacher(kind=kind)
    built = build_student(source, StudentRecipe(layers="1,3"), seed=0)
    theirs = source.model.state_dict()
    for name, tensor in built.model.state_dict().items():
        origin = name.replace(".layer.0.", ".layer.one.").replace(".layer.1.", ".layer.3.").replace(".one.", ".1.")
        assert torch.equal(tensor, theirs[origin]), name
    assert type(built.model) is type(source.model)


def test_a_sentence_encoder_keeps_its_pooling_and_reloads(tmp_path):
    built = build_student(teacher("mpnet", "feature-extraction"), StudentRecipe(layers=2), seed=0)
    built.model.save_pretrained(tmp_path)
    again, info = heads.load(TASKS["feature-extraction"], tmp_path)
    assert not info["missing_keys"]
    assert (again.pooling.mode, again.pooling.normalize) == ("mean", True)
    assert all(torch.equal(a, b) for a, b in zip(built.model.parameters(), again.parameters(), strict=True))


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


def test_a_masked_language_model_reloads_with_its_decoder_tied(tmp_path):
    built = build_student(teacher("roberta", "fill-mask"), StudentRecipe(layers=2), seed=0)
    built.model.save_pretrained(tmp_path)
    again, _ = heads.load(TASKS["fill-mask"], tmp_path)
    assert again.lm_head.decoder.weight is again.roberta.embeddings.word_embeddings.weight
    assert torch.equal(again.lm_head.decoder.weight, built.model.lm_head.decoder.weight)


# --- families that are not like BERT ----------------------------------------------------------

MODERN = ("full", "local", "local") * 8


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ((0, 2, 4, 6, 8, 10), (0, 2, 4, 6, 8, 10)),  # every other layer keeps the pattern by itself
        ((0, 4, 8, 13, 17, 21), (0, 4, 8, 12, 17, 20)),
        ((0, 21), (0, 20)),
    ],
)
def test_a_student_has_its_kinds_of_layers_in_the_order_of_its_teacher(chosen, kept):
    found = keep_pattern(chosen, MODERN[:22])
    assert found == kept
    assert tuple(MODERN[layer] for layer in found) == MODERN[: len(chosen)]


def test_modernbert_keeps_global_and_local_layers_as_they_were(tmp_path):
    source = teacher("modernbert", num_hidden_layers=7)
    built = build_student(source, StudentRecipe(layers=4, layer_selection="spaced"), seed=0)
    types = source.model.config.layer_types
    assert types == ["full_attention", "sliding_attention", "sliding_attention"] * 2 + ["full_attention"]
    assert built.layer_map == (0, 2, 4, 6)
    assert built.model.config.layer_types == [types[layer] for layer in built.layer_map]
    built.model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.layer_types == built.model.config.layer_types
    assert [layer.attention_type for layer in again.model.layers] == built.model.config.layer_types


def test_a_modernbert_student_begins_with_the_layer_that_has_no_norm():
    source = teacher("modernbert")
    with pytest.raises(RecipeError, match="--layers 1,3: a ModernBERT student begins with layer 0") as caught:
        build_student(source, StudentRecipe(layers="1,3"), seed=0)
    assert caught.value.remedy == "Try --layers 0,3."
    assert build_student(source, StudentRecipe(layers=2, layer_selection="last"), seed=0).layer_map == (0, 3)


def test_albert_runs_its_one_layer_less_often_and_says_that_the_file_stays_large():
    heard = []
    source = teacher("albert")
    built = build_student(source, StudentRecipe(layers=2), seed=0, listen=heard.append)
    batch = tiny.tokenizer("albert")(["a good film"], return_tensors="pt")
    with torch.inference_mode():
        ours = built.model(**batch, output_hidden_states=True).hidden_states
        theirs = source.model(**batch, output_hidden_states=True).hidden_states
    assert (len(ours), len(theirs)) == (3, 5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
    assert sum(p.numel() for p in built.model.parameters()) == sum(p.numel() for p in source.model.parameters())
    assert [event.text for event in heard] == [
        "ALBERT: Its layers are one layer run again and again: fewer of them take less time, but the file stays as "
        "large as it was."
    ]


def test_an_albert_of_several_groups_is_refused():
    with pytest.raises(TeacherError, match="The albert model has num_hidden_groups = 2; only 1 is supported"):
        architecture_of(tiny.model("albert", num_hidden_groups=2).config)


def test_padding_is_silent_for_a_family_that_reads_its_neighbours():
    source = teacher("mobilebert")
    with torch.no_grad():
        source.model.get_input_embeddings().weight.normal_(0, 1)
    built = build_student(source, StudentRecipe(layers=2), seed=0)
    batch = tiny.tokenizer("mobilebert")(["a good film", "dull"], padding=True, return_tensors="pt")
    alone = tiny.tokenizer("mobilebert")(["dull"], return_tensors="pt")
    with torch.inference_mode():
        ours = [built.model(**feed).logits[-1] for feed in (batch, alone)]
        theirs = [source.model(**feed).logits[-1] for feed in (batch, alone)]
    torch.testing.assert_close(ours[0], ours[1])
    assert not torch.allclose(theirs[0], theirs[1])


def test_padding_stays_silent_where_a_decoder_is_tied_to_it():
    built = build_student(teacher("mobilebert", "fill-mask"), StudentRecipe(layers=1), seed=0)
    optimizer = torch.optim.AdamW(built.model.parameters(), lr=0.1)
    batch = tiny.tokenizer("mobilebert")(["a good film"], return_tensors="pt")
    built.model(**batch, labels=batch["input_ids"]).loss.backward()
    optimizer.step()
    weight = built.model.get_input_embeddings().weight
    assert not weight[0].any()
    assert weight[1].any()


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
