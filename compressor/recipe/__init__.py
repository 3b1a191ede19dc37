"""The recipe: every choice of a run, frozen and validated, each default written once.

A field's text is its ``--help`` and its line in the reference docs; its ``Flag`` is its name on
the command line. The sections are what the stages receive.
"""

from compressor.recipe.learning import DistillRecipe, LayerSelection, PruneRecipe, StudentRecipe, TuneRecipe
from compressor.recipe.material import DataRecipe, TeacherRecipe
from compressor.recipe.section import Flag, Section
from compressor.recipe.shipping import BenchmarkRecipe, EvaluateRecipe, ExportRecipe, QuantizeRecipe, Target
from compressor.recipe.whole import Recipe, as_toml, build, flags, read

__all__ = [
    "BenchmarkRecipe",
    "DataRecipe",
    "DistillRecipe",
    "EvaluateRecipe",
    "ExportRecipe",
    "Flag",
    "LayerSelection",
    "PruneRecipe",
    "QuantizeRecipe",
    "Recipe",
    "Section",
    "StudentRecipe",
    "Target",
    "TeacherRecipe",
    "TuneRecipe",
    "as_toml",
    "build",
    "flags",
    "read",
]
