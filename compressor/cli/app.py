"""Commands and flags. The flags of the main command are made from the recipe's own fields."""

from __future__ import annotations

import difflib
import inspect
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, get_args, get_origin

from cyclopts import App, CycloptsError, Group, Parameter, Token, UnusedCliTokensError
from pydantic.fields import FieldInfo

from compressor import processes
from compressor import recipe as recipes
from compressor.cli.bench import bench
from compressor.cli.check import check
from compressor.cli.compare import compare
from compressor.cli.install import need_training_install
from compressor.errors import CompressorError, OutputError, UserError

if TYPE_CHECKING:
    from compressor.recipe import Recipe

INTERRUPTED = 130
"""Exit code of a shell command that Ctrl-C ended."""

_HELP = """Turn a fine-tuned encoder into a small, verified ONNX student.

Loads the teacher (and fine-tunes it first where it has no head for the task),
distils a student that starts from layers spaced over its teacher's, exports it
to ONNX, and reports accuracy and latency against the teacher.

    compress --teacher bert-base --layers 6 --quantize

    compress --teacher ./my-bert --data reviews/ --layers 6 --prune 0.4 \\
        --quantize --output-dir exported/reviews

With --debug, any command prints the traceback of an error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0 on success, 2 for a user's error, 130 after Ctrl-C, 1 for any other failure.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    flags_end = given.index("--") if "--" in given else len(given)  # what follows are values, whatever they look like
    flags = [_hyphenate(argument) for argument in given[:flags_end]]
    debug = "--debug" in flags
    arguments = [*(flag for flag in flags if flag != "--debug"), *given[flags_end:]]
    try:
        return int(_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value") or 0)
    except BrokenPipeError:
        return 1
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort of a command line
        said_by_another = processes.silenced(_exit_code(error))
        continues = not given or given[0] not in COMMANDS
        return _tell(_in_our_words(error), debug, continues) if said_by_another is None else said_by_another


def _in_our_words(error: BaseException) -> BaseException:
    """A disk became full under a command that has not said so itself."""
    from compressor.aside import is_full

    if isinstance(error, CompressorError) or not is_full(error):
        return error
    full = OutputError("No space left on a disk.", "Free some. Temporary files go where TMPDIR says.")
    full.__cause__ = error
    return full


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, CycloptsError):
        return UserError.exit_code
    return error.exit_code if isinstance(error, CompressorError) else 1


def _tell(error: BaseException, debug: bool, continues: bool) -> int:
    if isinstance(error, KeyboardInterrupt):
        _say("Interrupted." + " The same command continues where this one stopped." * continues)
    elif isinstance(error, CompressorError):
        _complain(error, debug)
    elif isinstance(error, CycloptsError):
        _complain(_misunderstood(error), debug)
    elif debug:
        traceback.print_exception(error)
    else:
        _say(f"error: {processes.signature()}unexpected {type(error).__name__}: {error}")
        _say("       This is a bug of compressor. Run again with --debug and report what it prints.")
    return _exit_code(error)


def _misunderstood(error: CycloptsError) -> UserError:
    tokens = error.unused_tokens or []
    if not isinstance(error, UnusedCliTokensError) or not tokens:
        return UserError(str(error).strip(), "See compress --help.")
    near = difflib.get_close_matches(tokens[0], COMMANDS, n=1)
    remedy = f"Did you mean compress {near[0]}?" if near else "Every choice is a flag, as in --teacher bert-base."
    return UserError(f"Not understood: {' '.join(tokens)}.", f"{remedy} See compress --help.")


def _complain(error: CompressorError, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
        return
    _say(f"error: {processes.signature()}{error.message}")
    if error.remedy:
        _say(f"       {error.remedy}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _hyphenate(token: str) -> str:
    """Accept ``--max_seq_length`` for ``--max-seq-length``; values stay as they are."""
    if not token.startswith("--"):
        return token
    name, equals, value = token.partition("=")
    return name.replace("_", "-") + equals + value


def _version() -> str:
    try:
        return version("compressor")
    except PackageNotFoundError:
        return "unknown (not installed)"


def _app() -> App:
    app = App(
        name="compress",
        help=_HELP,
        version=_version,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # main says how to go on
    )
    app.default(_compress_command())
    for command in COMMANDS.values():
        app.command(command)
    return app


def _compress_command() -> Any:
    def compress(recipe: Path | None = None, dry_run: bool = False, quiet: bool = False, **overrides: Any) -> int:
        values = recipes.read(recipe) if recipe else {}
        given = {name.replace("_", "-"): value for name, value in overrides.items() if value is not None}
        return _run(recipes.build(values, given), dry_run=dry_run, quiet=quiet)

    parameters = [*_recipe_parameters(), *_run_parameters()]
    compress.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    compress.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return compress


def _recipe_parameters() -> list[inspect.Parameter]:
    """Make one keyword parameter of each recipe field, grouped by section."""
    found = []
    for flag, place in recipes.flags().items():
        section: Any = recipes.Recipe
        for name in place[:-1]:
            section = section.model_fields[name].annotation
        heading = (section.__doc__ or "").partition(":")[0] if place[:-1] else "Run"
        order = 1 + list(recipes.Recipe.model_fields).index(place[0]) if place[:-1] else 90
        found.append(_parameter(flag, section.model_fields[place[-1]], Group(heading, sort_key=order)))
    return found


def _parameter(flag: str, field: FieldInfo, group: Group) -> inspect.Parameter:
    kind = _without_none(field.annotation)
    shown = "" if field.default is None or field.is_required() else f" [default: {_show(field.default)}]"
    annotation = kind if kind in (bool, int, float) or get_origin(kind) is Literal else str
    return inspect.Parameter(
        flag.replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Optional[annotation],  # noqa: UP045 - built at run time
            Parameter(
                name=f"--{flag}",
                help=(field.description or "") + shown,
                group=group,
                show_default=False,
                converter=_integer if annotation is int else None,
            ),
        ],
    )


def _integer(kind: Any, tokens: Sequence[Token]) -> int:
    """Refuse 1.5, which cyclopts would round."""
    value = tokens[0].value
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value} is not a whole number.") from None


def _without_none(kind: Any) -> Any:
    """Unwrap ``int | None`` to ``int``; other unions stay."""
    inner = [item for item in get_args(kind) if item is not NoneType]
    return inner[0] if len(inner) == 1 and NoneType in get_args(kind) else kind


def _run_parameters() -> list[inspect.Parameter]:
    group = Group("Run", sort_key=90)
    rows: list[tuple[str, Any, Any, str]] = [
        ("recipe", Path | None, None, "TOML file with the values above; flags override it."),
        ("dry_run", bool, False, "Print the plan with sizes and estimated FLOPs, and stop."),
        ("quiet", bool, False, "Print only the result."),
    ]
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, Parameter(help=text, group=group, negative="", show_default=False)],
        )
        for name, kind, default, text in rows
    ]


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _run(recipe: Recipe, *, dry_run: bool, quiet: bool) -> int:
    from compressor.cli import render

    need_training_install()
    first = processes.launched().is_first
    if dry_run and not first:
        return 0
    if dry_run:
        from compressor.plan import plan

        render.show_plan(plan(recipe))
        return 0
    from compressor.aside import full_disk_explained
    from compressor.pipeline import compress

    full = full_disk_explained(recipe.cache_dir.expanduser(), "--cache-dir")
    with full, render.listener(quiet=quiet or not first) as listen:
        run = compress(recipe, listen)
    if first:
        render.show_result(run)
    return 0


def predict(
    folder: Path,
    *texts: str,
    model: str | None = None,
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    calibrated: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Ask a compressed model about texts, given as arguments or as lines on standard input.

    Args:
        folder: A folder that compress has written.
        texts: Texts; none reads standard input, one text a line. Pairs, or questions with contexts, have a tab between
            the two.
        model: fp32, int8, fp16 or int4, as the folder has it, or an ONNX file. Default: what the manifest names.
        provider: Execution provider of onnxruntime.
        threads: Threads to use. Default: the cores this process may use.
        json: One JSON object per text, with the scores of all labels.
        calibrated: Scores by the temperature that was fitted on validation texts.
    """
    from compressor.cli import predictions
    from compressor.runtime import Predictor

    predictor = Predictor(folder, model=model, provider=provider, threads=threads, calibrated=calibrated)
    given: Iterable[str] = texts or predictions.lines(sys.stdin.buffer)
    at_once = None if texts else predictions.together(sys.stdin.buffer)
    predictions.show_predictions(predictor, given, as_json=json, at_once=at_once)
    return 0


COMMANDS = {command.__name__: command for command in (predict, check, compare, bench)}
