"""The whole recipe: from flags and TOML to one frozen, validated value, and back."""

from __future__ import annotations

import difflib
import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from compressor.errors import RecipeError
from compressor.recipe.learning import DistillRecipe, PruneRecipe, StudentRecipe, TuneRecipe
from compressor.recipe.material import DataRecipe, TeacherRecipe
from compressor.recipe.presets import without_preset
from compressor.recipe.section import Flag, Section
from compressor.recipe.shipping import BenchmarkRecipe, EvaluateRecipe, ExportRecipe, QuantizeRecipe
from compressor.tasks import ProblemType, TaskName


class Recipe(Section):
    """Every choice of a run."""

    task: Annotated[TaskName | None, Flag("task")] = Field(
        default=None,
        description="What the model does, named as transformers pipelines name it. "
        "Default: what the teacher's head is for, else text-classification.",
    )
    problem_type: Annotated[ProblemType | None, Flag("problem-type")] = Field(
        default=None,
        description="Kind of text classification. Default: as the teacher's head has it, else as the labels look.",
    )
    output_dir: Annotated[Path | None, Flag("output-dir")] = Field(
        default=None, description="Folder to write. Default: exported/<teacher>-<layers>l."
    )
    overwrite: Annotated[bool, Flag("overwrite")] = Field(
        default=False, description="Replace an earlier run in the output folder."
    )
    cache_dir: Annotated[Path, Flag("cache-dir")] = Field(
        default=Path("~/.cache/compressor"),
        description="Fine-tuned teachers, soft labels and unfinished training, keyed by content.",
    )
    seed: Annotated[int, Flag("seed")] = Field(default=42, ge=0, description="Seed of splits, order and dropout.")
    device: Annotated[Literal["auto", "cpu", "cuda"], Flag("device")] = Field(
        default="auto", description="Where the training runs. auto: the first GPU, else the CPU."
    )
    teacher: TeacherRecipe
    data: DataRecipe = DataRecipe()
    student: StudentRecipe = StudentRecipe()
    distill: DistillRecipe = DistillRecipe()
    tune: TuneRecipe = TuneRecipe()
    prune: PruneRecipe = PruneRecipe()
    export: ExportRecipe = ExportRecipe()
    quantize: QuantizeRecipe = QuantizeRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()
    benchmark: BenchmarkRecipe = BenchmarkRecipe()


def flags() -> dict[str, tuple[str, ...]]:
    """Map each flag to its place in the recipe, as in ``{"epochs": ("distill", "epochs")}``."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for inner, inner_field in section.model_fields.items():
                found[_flag(inner_field.metadata)] = (name, inner)
        else:
            found[_flag(field.metadata)] = (name,)
    return found


def _flag(metadata: list[Any]) -> str:
    return next(item.name for item in metadata if isinstance(item, Flag))


def build(values: dict[str, Any], overrides: dict[str, Any] | None = None) -> Recipe:
    """Validate nested values, with flags laid over them.

    Args:
        values: Nested mapping as read from a recipe file.
        overrides: Flag name to value; each replaces the file's value.

    Raises:
        RecipeError: An unknown key or a value out of range, all of them named.
    """
    merged: dict[str, Any] = {key: dict(item) if isinstance(item, dict) else item for key, item in values.items()}
    places = flags()
    for flag, value in (overrides or {}).items():
        *section, field = places[flag]
        target = merged.setdefault(section[0], {}) if section else merged
        if not isinstance(target, dict):
            raise RecipeError(f"Recipe key {section[0]} is a table: write [{section[0]}], not a value ({target!r}).")
        target[field] = value
    if isinstance(merged.setdefault("teacher", {}), dict) and "model" not in merged["teacher"]:
        raise RecipeError("No teacher given.", "Name one with --teacher, for example --teacher bert-base.")
    try:
        return Recipe.model_validate(merged)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(item) for item in error.errors())) from None


def read(path: Path) -> dict[str, Any]:
    """Read a recipe file as nested values; ``build`` validates them.

    Raises:
        RecipeError: The file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"Recipe {path} does not exist.", "Check the path given to --recipe.") from None
    except OSError as error:
        raise RecipeError(f"Recipe {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RecipeError(f"Recipe {path} cannot be read: it is not UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"Recipe {path} is not valid TOML: {error}.") from None


def as_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML; ``read`` and ``build`` give the same recipe again.

    Every value is in it but what the preset sets, which is named: another ``--preset`` beside the file has its own.
    """
    import tomli_w

    content = recipe.model_dump(mode="json", exclude_none=True)
    content["distill"] = without_preset(content["distill"], DistillRecipe().model_dump(mode="json"))
    return tomli_w.dumps(content)


def _explain(error: Any) -> str:
    place = tuple(str(part) for part in error["loc"])
    known = {".".join(path): flag for flag, path in flags().items()}
    dotted = ".".join(place)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(dotted, [*known, *Recipe.model_fields], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"Unknown recipe key {dotted}.{hint}"
    key = ".".join(place[:2]) if ".".join(place[:2]) in known else place[0]
    flag = known.get(key)
    name = f"--{flag}" if flag else dotted
    reason = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict):  # values that are wrong together
        return f"Recipe section {dotted}: {reason}."
    return f"{name} {shlex.quote(str(error['input']))}: {reason[0].lower()}{reason[1:]}."
