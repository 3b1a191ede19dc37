"""From torch to ONNX: export, fuse for onnxruntime, and prove at every step that the logits stay."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.answers import Floats
from compressor.architectures import Architecture
from compressor.artifacts import ExportedModel, FusionCount
from compressor.collector import uncollected
from compressor.errors import FusionError, StageError
from compressor.events import Listener, Note, Warned, ignore
from compressor.graph import files as onnx_files
from compressor.graph import fusion, parity
from compressor.graph.passes.first_token import narrow_last_layer
from compressor.runtime.warm import FAILURES
from compressor.tasks import TASKS, Task

if TYPE_CHECKING:
    from compressor.heads import Model

BATCH_AXIS, SEQUENCE_AXIS = "batch_size", "sequence_length"
_ANY_SIZE = 1 << 62
# Which tokens' states were pooled: sentence-transformers' ONNX backend reads them, and pools once more.
EXTRA_OUTPUTS = {"feature-extraction": ("last_hidden_state",)}


def export_onnx(
    model: Model,
    architecture: Architecture,
    input_names: Sequence[str],
    path: Path,
    *,
    opset: int,
    batches: Sequence[parity.Batch],
    task: Task = TASKS["single-label"],
    listen: Listener = ignore,
) -> ExportedModel:
    """Write a model as one fused fp32 ONNX file that agrees with torch.

    The file has the axes ``batch_size`` and ``sequence_length``, the task's outputs (a sentence encoder also
    ``last_hidden_state``), and those of ``input_names`` that the model uses. Blocks that could not be fused are a
    warning, never silent: the file is right without them, only slower. A head that reads the first token alone has its
    last layer computed for no other.

    Args:
        model: In eval mode, with the task's head.
        architecture: Where its layers are.
        input_names: Inputs that the tokenizer makes.
        path: Where the file goes; above 2 GB its weights go to ``<name>.data`` beside it.
        opset: Version of the ONNX operators, 18 or later.
        batches: Real text to compare on, as ``parity.parity_batches`` chooses it.
        task: What the model does.
        listen: Hears how closely the graphs agree, and what could not be fused.

    Raises:
        StageError: torch could not export the model.
        FusionError: The fused graph does not load in onnxruntime.
        ParityError: The exported or the fused graph disagrees with torch; no file is left behind.
    """
    from onnx_ir.passes.common import DeduplicateInitializersPass

    expected = parity.torch_logits(model, batches, task)
    graph, traced = _trace(model, task, _accepted(model, input_names), opset)
    _drop_unused_inputs(graph)
    if architecture.shared:
        # The exporter writes a weight once for each time that its layer is run.
        DeduplicateInitializersPass(size_limit=_ANY_SIZE)(graph)
    plain, weights = onnx_files.weights_apart(graph)
    found = parity.session_logits(onnx_files.open_session(plain), [{**batch, **weights} for batch in batches], task)
    rows = parity.compare("exported", batches, expected, found, task)
    del weights
    onnx_files.give_back()
    parity.require(rows)
    fusions = fusion.fuse(graph, architecture, model.config.num_hidden_layers, _activation(model.config))
    one_token = narrow_last_layer(graph)
    onnx_files.save(graph, path)
    names = tuple(value.name for value in graph.graph.inputs)
    for value in (*traced, *graph.graph.initializers.values()):
        # onnxscript holds on to the last graph that its rules were applied to, and with it to torch's weights.
        value.const_value = None
    del graph, traced
    onnx_files.give_back(graph=True)
    try:
        rows += parity.compare("fused", batches, expected, _load_and_run(path, batches, task), task)
        onnx_files.give_back()
        parity.require(rows)
    except StageError:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        raise
    missed = tuple(_explain(count) for count in fusions if count.found != count.expected)
    for text in missed:
        listen(Warned(text))
    worst = max(row.max_abs_difference for row in rows)
    listen(Note(f"ONNX and torch agree at {len(batches)} shapes, before and after fusion: outputs within {worst:.1e}."))
    return ExportedModel(path, names, opset, fusions, rows, missed, one_token)


def _load_and_run(path: Path, batches: Sequence[parity.Batch], task: Task) -> tuple[Floats, ...]:
    try:
        return parity.onnx_logits(path, batches, task)
    except FAILURES as error:
        raise FusionError(
            f"onnxruntime refuses the fused graph: {str(error).splitlines()[0]}",
            "Please report the model type and the versions of torch, onnxscript and onnxruntime.",
        ) from error


def _explain(count: FusionCount) -> str:
    return (
        f"Fusion found {count.found} {count.kind} blocks where {count.expected} were expected: "
        "the model is right, but slower than it could be."
    )


def _activation(config: Any) -> str:
    names = ("hidden_act", "activation", "hidden_activation")
    return next((str(getattr(config, name)) for name in names if getattr(config, name, None)), "")


def _accepted(model: Model, input_names: Sequence[str]) -> tuple[str, ...]:
    """Inputs that the model's forward names; ``**kwargs`` would swallow the others without using them."""
    from compressor import heads

    taken = heads.inputs_of(model)
    return tuple(name for name in input_names if name in taken)


def _trace(model: Model, task: Task, input_names: Sequence[str], opset: int) -> tuple[Any, list[Any]]:
    """Export to an ``onnx_ir.Model``; give beside it the values of torch's weights, also of those that were folded.

    ``dynamo=True`` because the older tracer gives wrong logits on transformers 5 at every shape but the traced one.
    """
    import torch
    from onnx_ir.passes.common import IdentityEliminationPass
    from onnxscript.optimizer import optimize_ir

    # Neither axis may be 1: torch.export takes such an axis for a constant.
    example = {name: torch.ones((2, 8), dtype=torch.int64, device=model.device) for name in input_names}
    example["attention_mask"][1, 5:] = 0
    if "token_type_ids" in example:
        example["token_type_ids"] = torch.zeros_like(example["token_type_ids"])
    try:
        # The collector would look again and again at hundreds of thousands of objects that stay.
        with _answers_only(model.config), _rewritten(model), _silenced(), uncollected(), torch.inference_mode():
            program = torch.onnx.export(
                model,
                (),
                kwargs=example,
                input_names=list(input_names),
                output_names=[*task.outputs, *EXTRA_OUTPUTS.get(task.kind, ())],
                dynamic_shapes={name: {0: BATCH_AXIS, 1: SEQUENCE_AXIS} for name in input_names},
                opset_version=opset,
                dynamo=True,
                verbose=False,
                optimize=False,
            )
            graph: Any = program.model  # type: ignore[union-attr] # with dynamo=True there is a program
            traced = list(graph.graph.initializers.values())
            # A second round of all its rules would find these alone, and take as long as the first.
            optimize_ir(graph, num_iterations=1)
            IdentityEliminationPass()(graph)
            onnx_files.straighten(graph)
            traced += graph.graph.initializers.values()
    except torch.onnx.OnnxExporterError as error:
        raise StageError(
            f"torch could not export {type(model).__name__} to ONNX: {str(error).strip().splitlines()[0]}",
            "Please report the model type and the versions of torch and transformers.",
        ) from error
    return graph, traced


def _drop_unused_inputs(model: Any) -> None:
    inputs = model.graph.inputs
    for value in [value for value in inputs if not value.uses()]:
        inputs.remove(value)


def _rewritten(model: Model) -> contextlib.AbstractContextManager[None]:
    """Let a family that transformers writes in a form unfit for export compute the same in another."""
    if model.config.model_type != "deberta-v2":
        return contextlib.nullcontext()
    from compressor.graph import deberta

    return deberta.exportable(model)


@contextlib.contextmanager
def _answers_only(config: Any) -> Iterator[None]:
    """Ask for no hidden states and attentions: each would become an output of the graph."""
    names = ("output_hidden_states", "output_attentions")
    before = {name: getattr(config, name, False) for name in names}
    wanted = [name for name in names if before[name]]
    for name in wanted:
        setattr(config, name, False)
    try:
        yield
    finally:
        for name in wanted:
            setattr(config, name, before[name])


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep the exporter's progress, warnings and log lines from the user; errors are raised, so none is lost."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
