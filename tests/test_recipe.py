"""The recipe: defaults, flags over file, messages."""

import pytest

from compressor import recipe as recipes
from compressor.errors import RecipeError
from compressor.recipe import Recipe


def test_a_flag_overrides_the_file_and_leaves_the_rest():
    built = recipes.build(
        {"teacher": {"model": "bert-base", "epochs": 5}, "distill": {"temperature": 4}}, {"teacher-epochs": 2.0}
    )
    assert (built.teacher.epochs, built.distill.temperature, built.teacher.model) == (2.0, 4.0, "bert-base")


def test_building_does_not_change_the_values_of_the_file():
    values = {"teacher": {"model": "bert-base"}}
    recipes.build(values, {"teacher-epochs": 2.0, "layers": "3"})
    assert values == {"teacher": {"model": "bert-base"}}


def test_every_field_has_a_flag_of_its_own_and_a_text():
    assert len(set(recipes.flags().values())) == len(recipes.flags())
    for place in recipes.flags().values():
        section = Recipe
        for name in place[:-1]:
            section = section.model_fields[name].annotation
        assert section.model_fields[place[-1]].description.endswith("."), place


def test_a_recipe_is_frozen():
    built = recipes.build({}, {"teacher": "x"})
    with pytest.raises(ValueError, match="frozen"):
        built.seed = 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"layers": "0"}, "--layers 0: a student needs at least 1 layer, not 0."),
        ({"layers": "-2"}, "--layers -2: a student needs at least 1 layer, not -2."),
        ({"layers": "2,2"}, "--layers 2,2: layer list 2,2 names a layer twice."),
        ({"layers": "4,2"}, "--layers 4,2: layer list 4,2 is not in ascending order."),
        ({"layers": "1,-1"}, "--layers 1,-1: layers are counted from 0; -1 is not one."),
        ({"layers": "six"}, "--layers six: 'six' is neither a number nor a list such as 0,2,4."),
        ({"prune": 1.5}, "--prune 1.5: input should be less than 1."),
        ({"prune": -0.1}, "--prune -0.1: input should be greater than or equal to 0."),
        ({"temperature": 0.0}, "--temperature 0.0: input should be greater than 0."),
        ({"epochs": 0.0}, "--epochs 0.0: input should be greater than 0."),
        ({"batch-sizes": "1,0"}, "--batch-sizes 1,0: expected distinct numbers from 1 up, as in 1,8,32."),
        ({"batch-sizes": "1,1"}, "--batch-sizes 1,1: expected distinct numbers from 1 up, as in 1,8,32."),
        ({"layer-selection": "odd"}, "--layer-selection odd: input should be 'spaced', 'alternate'"),
        ({"target": "sse2"}, "--target sse2: input should be 'auto', 'any'"),
        ({"opset": 11}, "--opset 11: input should be greater than or equal to 18."),
        ({"seed": -1}, "--seed -1: input should be greater than or equal to 0."),
        (
            {"soft-weight": 0, "hard-weight": 0},
            "the weights of all losses are 0: there is nothing to learn from.",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_flag(overrides, message):
    with pytest.raises(RecipeError) as caught:
        recipes.build({}, {"teacher": "x", **overrides})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distil": {}}, "Unknown recipe key distil. Did you mean distill?"),
        ({"distill": {"temprature": 3}}, "Unknown recipe key distill.temprature. Did you mean distill.temperature?"),
        ({"zzz": 1}, "Unknown recipe key zzz."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(values, message):
    with pytest.raises(RecipeError) as caught:
        recipes.build({"teacher": {"model": "x"}, **values})
    assert str(caught.value) == message


def test_a_section_that_is_no_table_is_refused():
    with pytest.raises(RecipeError, match="distill"):
        recipes.build({"teacher": {"model": "x"}, "distill": 3})
    with pytest.raises(RecipeError, match="teacher"):
        recipes.build({"teacher": "bert-base"}, {"teacher-epochs": 1.0})


def test_a_recipe_without_a_teacher_is_refused():
    with pytest.raises(RecipeError, match=r"No teacher given\.\nName one with --teacher"):
        recipes.build({})


def test_a_missing_a_binary_and_a_broken_recipe_file_are_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml does not exist"):
        recipes.read(tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"odd\.toml cannot be read"):
        recipes.read(tmp_path / "odd.toml")
    (tmp_path / "broken.toml").write_text("teacher = ")
    with pytest.raises(RecipeError, match=r"broken\.toml is not valid TOML"):
        recipes.read(tmp_path / "broken.toml")


def test_a_saved_recipe_reads_back_as_itself(tmp_path):
    built = recipes.build({}, {"teacher": "x", "layers": "0,2", "prune": 0.4, "batch-sizes": "1,8"})
    (tmp_path / "recipe.toml").write_text(recipes.as_toml(built))
    assert recipes.build(recipes.read(tmp_path / "recipe.toml")) == built


def test_columns_to_slice_by_are_a_list_of_distinct_free_names():
    built = recipes.build({}, {"teacher": "x", "slice-columns": "source, lang"})
    assert built.evaluate.slice_columns == ("source", "lang")
    for wrong, reason in (
        ("source,source", "distinct names"),
        ("a,,b", "distinct names"),
        ("length", "rename the column"),
    ):
        with pytest.raises(RecipeError, match=f"--slice-columns.*{reason}"):
            recipes.build({}, {"teacher": "x", "slice-columns": wrong})
