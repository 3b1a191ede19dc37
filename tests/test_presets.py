"""Presets: they fill what the user has not set, and say where they are from."""

import typing

import pytest

from compressor import recipe as recipes
from compressor.errors import RecipeError
from compressor.recipe import DistillRecipe
from compressor.recipe.presets import PRESETS, PresetName


def distill(**flags):
    return recipes.build({}, {"teacher": "x", **flags}).distill


def test_every_preset_can_be_asked_for_and_names_its_source():
    assert set(typing.get_args(PresetName)) == set(PRESETS)
    for name, preset in PRESETS.items():
        built = distill(preset=name)
        assert {field: getattr(built, field) for field in preset.values} == dict(preset.values), name
        assert preset.source.endswith("."), name
        assert ("https://arxiv.org/" in preset.source) == (name != "default"), name


def test_the_default_preset_leaves_the_defaults_of_the_fields():
    assert distill() == DistillRecipe() == DistillRecipe(preset="default")
    assert (distill().soft_weight, distill().hard_weight, distill().temperature) == (0.9, 0.1, 2.0)
    assert not distill().has_hints


def test_a_preset_changes_nothing_but_the_losses_and_their_stages():
    effort = {"epochs", "learning_rate", "batch_size", "warmup_ratio", "lr_scheduler", "weight_decay", "patience"}
    for preset in PRESETS.values():
        assert not effort & set(preset.values)


def test_distilbert_weighs_soft_labels_labels_and_the_last_hidden_states_5_2_1():
    built = distill(preset="distilbert")
    assert (built.soft_weight, built.hard_weight, built.hidden_weight) == (5.0, 2.0, 1.0)
    assert (built.hidden_loss, built.hidden_layers, built.temperature) == ("cosine", "last", 2.0)


def test_pkd_has_alpha_7_tenths_beta_500_and_temperature_10():
    built = distill(preset="pkd")
    assert (built.soft_weight, built.hard_weight, built.pkd_weight, built.temperature) == (0.7, 0.3, 500.0, 10.0)


def test_tinybert_and_minilm_teach_what_lies_before_the_answers_first():
    assert distill(preset="tinybert").intermediate_epochs == 10
    assert distill(preset="tinybert").has_hints
    assert distill(preset="minilm").intermediate_epochs == 3
    assert distill(preset="minilm").relation_weight == 1


def test_what_the_user_gives_wins_over_the_preset():
    built = distill(**{"preset": "pkd", "temperature": 3.0, "hard-weight": 0.0})
    assert (built.temperature, built.hard_weight, built.pkd_weight) == (3.0, 0.0, 500.0)


def test_what_the_user_gives_wins_even_where_it_is_the_fields_default():
    assert distill(preset="pkd", temperature=2.0).temperature == 2.0


def test_a_flag_changes_the_preset_of_a_recipe_file_but_not_what_else_is_in_it():
    built = recipes.build(
        {"teacher": {"model": "x"}, "distill": {"preset": "pkd", "soft_weight": 4}}, {"preset": "minilm"}
    )
    assert (built.distill.preset, built.distill.soft_weight, built.distill.pkd_weight) == ("minilm", 4.0, 0.0)


def test_a_saved_recipe_with_a_preset_reads_back_as_itself(tmp_path):
    for name in PRESETS:
        built = recipes.build({}, {"teacher": "x", "preset": name, "temperature": 5.0})
        (tmp_path / "recipe.toml").write_text(recipes.as_toml(built))
        assert recipes.build(recipes.read(tmp_path / "recipe.toml")) == built


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_beside_a_saved_recipe_has_its_own_losses(tmp_path, name):
    given = {"teacher": "x", "temperature": 5.0, "epochs": 7.0}
    (tmp_path / "recipe.toml").write_text(recipes.as_toml(recipes.build({}, {**given, "preset": "tinybert"})))
    again = recipes.build(recipes.read(tmp_path / "recipe.toml"), {"preset": name})
    assert again == recipes.build({}, {**given, "preset": name})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"preset": "bert-pkd"}, "--preset bert-pkd: input should be 'default', 'distilbert', 'pkd', 'tinybert' or"),
        (
            {"soft-weight": 0, "hard-weight": 0},
            "Recipe section distill: the weights of all losses are 0: there is nothing to learn from.",
        ),
        (
            {"intermediate-epochs": 2},
            "intermediate epochs need a hidden, pkd, attention, relation or embedding weight above 0.",
        ),
        (
            {"preset": "tinybert", "soft-weight": 0},
            "the epochs after the intermediate ones need a soft, hard or logit weight above 0.",
        ),
        (
            {"soft-weight": 0, "standardize": True},
            "standardize changes the loss of the soft labels, whose weight is 0.",
        ),
        ({"relation-heads": 8}, "relation heads and relation layer need a relation weight above 0."),
        ({"hidden-loss": "l1"}, "--hidden-loss l1: input should be 'cosine' or 'mse'."),
        ({"ema": 1.0}, "--ema 1.0: input should be less than 1."),
        (
            {"layer-learning-rate-decay": 1.5},
            "--layer-learning-rate-decay 1.5: input should be less than or equal to 1.",
        ),
        ({"layer-selection": "auto", "layers": "0,2"}, "layers 0,2 are chosen already: auto needs their number."),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(flags, message):
    with pytest.raises(RecipeError) as caught:
        recipes.build({}, {"teacher": "x", **flags})
    assert message in str(caught.value)


def test_a_preset_that_is_no_text_is_refused_like_any_other_value():
    with pytest.raises(RecipeError, match=r"--preset .*input should be 'default'"):
        recipes.build({"teacher": {"model": "x"}, "distill": {"preset": ["pkd"]}})
