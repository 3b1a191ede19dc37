"""Hints: what lies before the answers is taken from both models, compared, and nothing is left behind."""

import pytest
import torch

from compressor.architectures import ARCHITECTURES, architecture_of
from compressor.artifacts import Student, Teacher
from compressor.errors import RecipeError
from compressor.recipe import DistillRecipe
from compressor.training import losses
from compressor.training.hint_plan import KEY, QUERY, VALUE, HintPlan, layers_of, plan_hints
from compressor.training.hints import Hints, captured
from tests import tiny

ALL = {
    "hidden_weight": 1.0, "pkd_weight": 1.0, "attention_weight": 1.0, "relation_weight": 1.0, "embedding_weight": 1.0,
}  # fmt: skip
NAMES = {"hidden", "first_token", "attention", "relations", "embeddings"}
EXACT = ["bert", "roberta", "electra", "distilbert", "albert", "mobilebert"]


def teacher(model_type="bert", labels=("negative", "positive"), **changes):
    model = tiny.model(model_type, labels=labels, **changes)
    return Teacher(
        "tiny", None, model, tiny.tokenizer(model_type), architecture_of(model.config), labels, 64, "f", False
    )


def student(model_type="bert", taught=(1, 3), **changes):
    layers = "n_layers" if model_type == "distilbert" else "num_hidden_layers"
    return Student(tiny.model(model_type, seed=1, **{layers: len(taught), **changes}), taught, taught)


def batch(model_type="bert"):
    return dict(
        tiny.tokenizer(model_type)(["a good film with a very dull plot", "poor"], padding=True, return_tensors="pt")
    )


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_every_name_of_a_hint_has_a_weight():
    plan = plan_hints(DistillRecipe(**ALL), teacher(), student())
    assert set(plan.weights) == NAMES


def test_layers_are_compared_with_those_that_the_student_stands_for():
    plan = plan_hints(DistillRecipe(**ALL), teacher(), student())
    assert plan.hidden == plan.attention == ((0, 1), (1, 3))
    assert plan.first_token == ((0, 1),)
    assert plan.relations == ((1, 3),)


def test_hidden_states_of_the_last_layer_alone_are_compared_where_the_recipe_says_so():
    plan = plan_hints(DistillRecipe(hidden_weight=1, hidden_layers="last"), teacher(), student())
    assert plan.hidden == ((1, 3),)


def test_pkd_of_a_student_of_one_layer_compares_that_layer():
    assert plan_hints(DistillRecipe(pkd_weight=1), teacher(), student(taught=(3,))).first_token == ((0, 3),)


def test_relations_are_those_of_the_teacher_layer_that_was_chosen():
    assert plan_hints(DistillRecipe(relation_weight=1, relation_layer=2), teacher(), student()).relations == ((1, 2),)


@pytest.mark.parametrize(("width", "heads", "expected"), [(32, 4, 4), (24, 3, 2)])
def test_relations_are_cut_into_as_many_heads_as_both_widths_allow(width, heads, expected):
    pupil = student(hidden_size=width, num_attention_heads=heads)
    assert plan_hints(DistillRecipe(relation_weight=1), teacher(), pupil).relation_heads == expected


def test_what_cannot_be_compared_is_refused_with_the_way_out():
    fewer = student(num_attention_heads=2)
    with pytest.raises(RecipeError, match="the student has 2 heads and the teacher 4") as caught:
        plan_hints(DistillRecipe(attention_weight=1), teacher(), fewer)
    assert "--relation-weight" in caught.value.remedy
    with pytest.raises(RecipeError, match="--relation-layer 4: the teacher has no such layer") as caught:
        plan_hints(DistillRecipe(relation_weight=1, relation_layer=4), teacher(), student())
    assert "from 0 to 3" in caught.value.remedy
    with pytest.raises(RecipeError, match="--relation-heads 5 does not divide the widths 32"):
        plan_hints(DistillRecipe(relation_weight=1, relation_heads=5), teacher(), student())


def test_logits_of_two_labels_are_not_standardised():
    with pytest.raises(RecipeError, match="--standardize needs 3 labels or more; this teacher has 2"):
        plan_hints(DistillRecipe(standardize=True), teacher(), student())
    assert not plan_hints(DistillRecipe(standardize=True), teacher(labels=("a", "b", "c")), student()).wanted


def test_without_weights_the_teacher_does_not_run():
    tutor, pupil, inputs = teacher(), student(), batch()
    tutor.model.forward = None
    hints = Hints(plan_hints(DistillRecipe(), tutor, pupil), tutor, pupil, 0)
    with hints.attached(pupil.model, "cpu"):
        output, loss, figures = hints.forward(pupil.model, inputs)
    assert (loss.item(), figures) == (0, {})
    assert torch.equal(output.logits, pupil.model(**inputs).logits)


@pytest.mark.parametrize("model_type", EXACT)
def test_scores_of_captured_queries_and_keys_give_the_models_own_attention(model_type):
    model, inputs = tiny.model(model_type).eval(), batch(model_type)
    row = ARCHITECTURES[model_type]
    assert model.config._attn_implementation == "sdpa"
    products = [(layer, place) for layer in range(4) for place in (QUERY, KEY)]
    with torch.no_grad(), captured(layers_of(model, row), row, products) as found:
        model(**inputs)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(**inputs, output_attentions=True).attentions
    outside = ~inputs["attention_mask"].bool()[:, None, None, :]
    for layer, expected in enumerate(attentions):
        scores = losses.attention_scores(found[layer, QUERY], found[layer, KEY], 4)
        assert torch.allclose(scores.masked_fill(outside, -1e9).softmax(-1), expected, atol=1e-5)


def test_packed_products_are_parted_as_the_model_parts_them():
    model, inputs, row = tiny.model("modernbert"), batch("modernbert"), ARCHITECTURES["modernbert"]
    whole = []
    layers = layers_of(model, row)
    handle = layers[2].attn.Wqkv.register_forward_hook(lambda module, given, output: whole.append(output))
    with torch.no_grad(), captured(layers, row, [(2, QUERY), (2, KEY), (2, VALUE)]) as found:
        model(**inputs)
    handle.remove()
    parts = whole[0].view(*whole[0].shape[:2], 3, 4, 8).unbind(dim=-3)
    assert all(torch.equal(found[2, place], parts[place].flatten(-2)) for place in (QUERY, KEY, VALUE))


@pytest.mark.parametrize("model_type", sorted(tiny.CONFIGS))
def test_a_student_like_its_teacher_has_nothing_to_learn(model_type):
    tutor = teacher(model_type)
    same = Student(tiny.model(model_type), (0, 1, 2, 3), (0, 1, 2, 3))
    hints = Hints(plan_hints(DistillRecipe(**ALL), tutor, same), tutor, same, 0)
    _, loss, figures = hints.forward(same.model, batch(model_type))
    assert set(figures) == NAMES
    assert loss.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("model_type", sorted(tiny.CONFIGS))
def test_every_hint_reaches_the_student_of_every_family_and_spares_the_teacher(model_type):
    # MobileBERT is so narrow here that usual random weights would all but vanish.
    tutor, pupil = teacher(model_type, initializer_range=0.3), student(model_type, initializer_range=0.3)
    pupil.model.train()
    for name in ALL:
        hints = Hints(plan_hints(DistillRecipe(**{name: 1.0}), tutor, pupil), tutor, pupil, 0)
        output, loss, figures = hints.forward(pupil.model, batch(model_type))
        pupil.model.zero_grad()
        loss.backward()
        assert loss.item() > 1e-9, name
        assert figures[next(iter(figures))] == pytest.approx(loss.item())
        assert max(float(p.grad.abs().max()) for p in pupil.model.parameters() if p.grad is not None) > 0, name
        assert output.logits.shape == (2, 2)
    assert all(parameter.grad is None for parameter in tutor.model.parameters())


def test_the_losses_are_those_of_the_states_that_the_models_give_by_themselves():
    tutor, pupil, inputs = teacher(), student(), batch()
    recipe = DistillRecipe(hidden_weight=2, hidden_loss="mse", pkd_weight=300, embedding_weight=5)
    output, loss, figures = Hints(plan_hints(recipe, tutor, pupil), tutor, pupil, 0).forward(pupil.model, inputs)
    with torch.no_grad():
        own = pupil.model(**inputs, output_hidden_states=True).hidden_states
        other = tutor.model(**inputs, output_hidden_states=True).hidden_states
    mask = inputs["attention_mask"]
    hidden = (losses.hidden_mse(own[1], other[2], mask) + losses.hidden_mse(own[2], other[4], mask)) / 2
    first, embeddings = losses.first_token_mse(own[1], other[2]), losses.hidden_mse(own[0], other[0], mask)
    assert figures["hidden"] == pytest.approx(hidden.item(), rel=1e-5)
    assert loss.item() == pytest.approx((2 * hidden + 300 * first + 5 * embeddings).item(), rel=1e-5)
    assert torch.equal(output.logits, pupil.model(**inputs).logits)


def test_relations_are_the_sum_of_those_of_queries_keys_and_values():
    tutor, pupil, inputs = teacher(), student(num_attention_heads=2), batch()
    hints = Hints(plan_hints(DistillRecipe(relation_weight=1, relation_heads=8), tutor, pupil), tutor, pupil, 0)
    _, loss, _ = hints.forward(pupil.model, inputs)
    found = 0.0
    with torch.no_grad():
        own = pupil.model(**inputs, output_hidden_states=True).hidden_states[1]
        other = tutor.model(**inputs, output_hidden_states=True).hidden_states[3]
        for path in ("query", "key", "value"):
            ours = pupil.model.bert.encoder.layer[1].attention.self.get_submodule(path)(own)
            theirs = tutor.model.bert.encoder.layer[3].attention.self.get_submodule(path)(other)
            found += losses.relation_kl(ours, theirs, inputs["attention_mask"], 8).item()
    assert loss.item() == pytest.approx(found, rel=1e-4)


def test_a_narrower_student_is_projected_and_the_projections_learn():
    tutor, pupil, inputs = teacher(), student(hidden_size=16), batch()
    before = set(pupil.model.state_dict())
    hints = Hints(plan_hints(DistillRecipe(**ALL), tutor, pupil), tutor, pupil, seed=7)
    assert sorted(hints.modules) == ["embeddings", "hidden"]
    with hints.attached(pupil.model, "cpu"):
        added = set(pupil.model.state_dict()) - before
        optimizer = torch.optim.SGD(pupil.model.parameters(), lr=0.1)
        first = hints.forward(pupil.model, inputs)[1]
        first.backward()
        optimizer.step()
        assert hints.forward(pupil.model, inputs)[1] < first
    assert added == {f"hints.{name}.{part}" for name in ("embeddings", "hidden") for part in ("bias", "weight")}
    assert set(pupil.model.state_dict()) == before


def test_projections_are_the_same_for_the_same_seed_and_leave_the_random_numbers_alone():
    tutor, pupil = teacher(), student(hidden_size=16)
    plan = plan_hints(DistillRecipe(hidden_weight=1), tutor, pupil)
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    one, two = (Hints(plan, tutor, pupil, 5).modules["hidden"].weight for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.randn(2), expected)


def test_models_of_one_width_need_no_projection():
    tutor, pupil = teacher(), student()
    assert len(Hints(plan_hints(DistillRecipe(**ALL), tutor, pupil), tutor, pupil, 0).modules) == 0


def test_no_hook_is_left_on_the_models_even_when_the_forward_pass_fails():
    tutor, pupil, inputs = teacher(), student(), batch()
    hints = Hints(plan_hints(DistillRecipe(attention_weight=1, relation_weight=1), tutor, pupil), tutor, pupil, 0)
    hints.forward(pupil.model, inputs)
    assert (hooks(pupil.model), hooks(tutor.model)) == (0, 0)
    with pytest.raises(AttributeError):
        hints.forward(pupil.model, {**inputs, "attention_mask": "none"})
    assert (hooks(pupil.model), hooks(tutor.model)) == (0, 0)


def test_the_teacher_teaches_without_dropout():
    tutor, pupil = teacher(), student()
    tutor.model.train()
    hints = Hints(plan_hints(DistillRecipe(hidden_weight=1), tutor, pupil), tutor, pupil, 0)
    with hints.attached(pupil.model, "cpu"):
        assert not tutor.model.training
        first, second = (hints.forward(pupil.model, batch())[1] for _ in range(2))
    assert torch.equal(first, second)


def test_hints_are_computed_in_fp32_where_the_student_runs_in_bf16():
    tutor, pupil, inputs = teacher(), student(), batch()
    hints = Hints(plan_hints(DistillRecipe(**ALL), tutor, pupil), tutor, pupil, 0)
    exact = hints.forward(pupil.model, inputs)[1]

    def in_bf16(**given):
        with torch.autocast("cpu", torch.bfloat16):
            return pupil.model(**given)

    rough = hints.forward(in_bf16, inputs)[1]
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.1)


def test_an_empty_plan_wants_nothing():
    assert not HintPlan().wanted
    assert HintPlan(embeddings=True).wanted
    assert not HintPlan(attention=((0, 0),)).compares_states
