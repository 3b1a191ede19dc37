"""From torch to ONNX: export, fuse for onnxruntime, and prove at every step that the logits stay."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.architectures import Architecture
from compressor.artifacts import ExportedModel, FusionCount
from compressor.errors import FusionError, StageError
from compressor.events import Listener, Note, Warned, ignore
from compressor.graph import files as onnx_files
from compressor.graph import fusion, parity
from compressor.runtime.session import FAILURES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH_AXIS, SEQUENCE_AXIS, OUTPUT = "batch_size", "sequence_length", "logits"


def export_onnx(
    model: PreTrainedModel,
    architecture: Architecture,
    input_names: Sequence[str],
    path: Path,
    *,
    opset: int,
    batches: Sequence[parity.Batch],
    listen: Listener = ignore,
) -> ExportedModel:
    """Write a classifier as one fused fp32 ONNX file that agrees with torch.

    The file has the axes ``batch_size`` and ``sequence_length``, the output ``logits``, and those of ``input_names``
    that the model uses. Blocks that could not be fused are a warning, never silent: the file is right without them,
    only slower.

    Args:
        model: A classifier in eval mode.
        architecture: Where its layers are.
        input_names: Inputs that the tokenizer makes.
        path: Where the file goes; above 2 GB its weights go to ``<name>.data`` beside it.
        opset: Version of the ONNX operators, 18 or later.
        batches: Real text to compare on, as ``parity.parity_batches`` chooses it.
        listen: Hears how closely the graphs agree, and what could not be fused.

    Raises:
        StageError: torch could not export the model.
        FusionError: The fused graph does not load in onnxruntime.
        ParityError: The exported or the fused graph disagrees with torch; no file is left behind.
    """
    expected = parity.torch_logits(model, batches)
    graph = _trace(model, _accepted(model, input_names), opset)
    _drop_unused_inputs(graph)
    with tempfile.TemporaryDirectory(prefix="compressor-export-") as folder:
        plain = Path(folder) / "exported.onnx"
        onnx_files.write(graph, plain)
        rows = parity.compare("exported", batches, expected, parity.onnx_logits(plain, batches))
    parity.require(rows)
    layer_count = sum(1 for _ in model.get_submodule(architecture.layers).children())
    fusions = fusion.fuse(graph, architecture.layers, layer_count, _activation(model.config))
    onnx_files.save(graph, path)
    names = tuple(value.name for value in graph.graph.inputs)
    del graph
    try:
        rows += parity.compare("fused", batches, expected, _load_and_run(path, batches))
        parity.require(rows)
    except StageError:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.data").unlink(missing_ok=True)
        raise
    missed = tuple(_explain(count) for count in fusions if count.found != count.expected)
    for text in missed:
        listen(Warned(text))
    worst = max(row.max_abs_difference for row in rows)
    listen(Note(f"ONNX and torch agree at {len(batches)} shapes, before and after fusion: logits within {worst:.1e}."))
    return ExportedModel(path, names, opset, fusions, rows, missed)


def _load_and_run(path: Path, batches: Sequence[parity.Batch]) -> tuple[parity.Logits, ...]:
    try:
        return parity.onnx_logits(path, batches)
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
    return str(getattr(config, "hidden_act", None) or getattr(config, "activation", ""))


def _accepted(model: PreTrainedModel, input_names: Sequence[str]) -> tuple[str, ...]:
    """Inputs that the model's forward names; ``**kwargs`` would swallow the others without using them."""
    parameters = inspect.signature(model.forward).parameters
    return tuple(name for name in input_names if name in parameters)


def _trace(model: PreTrainedModel, input_names: Sequence[str], opset: int) -> Any:
    """Export to an ``onnx_ir.Model``.

    ``dynamo=True`` because the older tracer gives wrong logits on transformers 5 at every shape but the traced one.
    """
    import torch

    # Neither axis may be 1: torch.export takes such an axis for a constant.
    example = {name: torch.ones((2, 8), dtype=torch.int64, device=model.device) for name in input_names}
    example["attention_mask"][1, 5:] = 0
    if "token_type_ids" in example:
        example["token_type_ids"] = torch.zeros_like(example["token_type_ids"])
    try:
        with _logits_only(model.config), _silenced(), torch.inference_mode():
            program = torch.onnx.export(
                model,
                (),
                kwargs=example,
                input_names=list(input_names),
                output_names=[OUTPUT],
                dynamic_shapes={name: {0: BATCH_AXIS, 1: SEQUENCE_AXIS} for name in input_names},
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise StageError(
            f"torch could not export {type(model).__name__} to ONNX: {str(error).strip().splitlines()[0]}",
            "Please report the model type and the versions of torch and transformers.",
        ) from error
    return program.model  # type: ignore[union-attr] # with dynamo=True there is a program


def _drop_unused_inputs(model: Any) -> None:
    inputs = model.graph.inputs
    for value in [value for value in inputs if not value.uses()]:
        inputs.remove(value)


@contextlib.contextmanager
def _logits_only(config: Any) -> Iterator[None]:
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
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
