"""The ways to make a fused fp32 file smaller: one row of ``MODES`` for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compressor.artifacts import SmallPrecision
from compressor.graph import files as onnx_files
from compressor.graph.calibration import Calibration, quantize_static
from compressor.graph.passes import int8, smooth
from compressor.graph.passes.norms import fuse_norms
from compressor.graph.passes.unpack import unpack_attentions
from compressor.graph.passes.unsigned import use_unsigned_weights
from compressor.graph.passes.walk import origin
from compressor.quiet import quiet_loggers, untouched_root

if TYPE_CHECKING:
    import onnx_ir as ir

_BLOCK = 32
# Products of weights in blocks are added up in int8, as the CPU is fast at.
_INT8_SUMS = 4
_HALF = ("FLOAT16",)

Weights = Literal["full", "bounded", "unsigned"]
"""int8 weights: from -127 to 127; so chosen that 16 bits hold the sum of two products; the full range plus 128."""


@dataclass(frozen=True)
class Plan:
    """How one file is written.

    Attributes:
        mode: A key of ``MODES``.
        weights: Range of int8 weights.
        bits: Of weight-only weights.
        keep: Modules whose products stay in fp32.
    """

    mode: str
    weights: Weights = "full"
    bits: int = 4
    keep: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Mode:
    """A row of the table.

    Attributes:
        write: From the fused fp32 file, by a plan, to a graph.
        precision: Of the weights.
        integer: Products of int8 activations and weights, whose range depends on the target.
        exact: A text gets the same answer alone and in a padded batch.
        providers: Where the file may be run and timed.
        weights: In words, by a plan.
    """

    write: Callable[[Path, Plan, Calibration], ir.Model]
    precision: SmallPrecision
    integer: bool
    exact: bool
    providers: tuple[Literal["cpu", "cuda"], ...]
    weights: Callable[[Plan], str]


def precision(plan: Plan) -> SmallPrecision:
    """Of the weights that a plan makes smaller."""
    return "int8" if plan.bits == 8 else MODES[plan.mode].precision


def write(source: Path, path: Path, plan: Plan, calibration: Calibration) -> None:
    """Write a file by a plan.

    Args:
        source: The fused fp32 file.
        path: Where the new one goes.
        plan: How.
        calibration: Training text; the static and the smooth mode read it.
    """
    model = MODES[plan.mode].write(source, plan, calibration)
    if MODES[plan.mode].integer:
        model.metadata_props[onnx_files.WEIGHTS_KEY] = plan.weights
    onnx_files.save(model, path)
    del model
    onnx_files.give_back(graph=True)


def products(model: ir.Model) -> dict[str, int]:
    """The encoder's products of a fused fp32 graph: modules, and how many each node stands for (Q, K and V are three).

    Layers that share weights are one module, which counts once for each time that it is run.
    """
    found: dict[str, int] = {}
    for node in _inside(model):
        weight = node.inputs[1] if node.op_type in ("MatMul", "Attention") else None
        if weight is not None and weight.const_value is not None:
            module = origin(node.name or "")
            found[module] = found.get(module, 0) + int8.products_of(node)
    return found


def count(path: Path) -> int:
    """Count the encoder's products in a written file whose weights are smaller than fp32."""
    return sum(int8.products_of(node) for node in _inside(onnx_files.load(path)) if _is_small(node))


def _inside(model: ir.Model) -> list[ir.Node]:
    inside = f"{model.metadata_props.get(onnx_files.LAYERS_KEY, '')}."
    return [node for node in model.graph if (node.name or "").startswith(inside)]


def _is_small(node: ir.Node) -> bool:
    if node.op_type in ("MatMulInteger", "MatMulNBits"):
        return True
    weight = node.inputs[1] if node.op_type in ("MatMul", "Attention") else None
    if weight is None:
        return False
    maker = weight.producer()
    if maker is not None:
        return maker.op_type == "DequantizeLinear" and maker.inputs[0] is not None and maker.inputs[0].is_initializer()
    return weight.const_value is not None and weight.const_value.dtype.name in _HALF


def _integer(source: Path, plan: Plan, calibration: Calibration) -> ir.Model:
    model: ir.Model = onnx_files.load(source)
    steps = None
    if plan.mode == "smooth":
        steps = smooth.choose_steps(model, calibration.channel_peaks(source, list(smooth.sources(model))))
    int8.rewrite(model, plan.mode, bounded=plan.weights == "bounded", keep=plan.keep, steps=steps)
    if plan.weights == "unsigned":
        use_unsigned_weights(model)
    return model


def _static(source: Path, plan: Plan, calibration: Calibration) -> ir.Model:
    import onnx
    import onnx_ir as ir

    with tempfile.TemporaryDirectory(prefix="compressor-static-") as place:
        path = Path(place) / "unpacked.onnx"
        proto = _rewritten(source, path, unpack_attentions)
        chosen = _chosen(proto, plan)
        made = quantize_static(proto, path, chosen, calibration.read(), reduce_range=plan.weights == "bounded")
        onnx.save(made, path)
        model: ir.Model = ir.from_proto(onnx.load(path))
    int8.shrink_tables(model)
    return model


def _weight_only(source: Path, plan: Plan, _: Calibration) -> ir.Model:
    import onnx_ir as ir

    with untouched_root():  # it configures the logging of the whole process
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with tempfile.TemporaryDirectory(prefix="compressor-weights-") as place, quiet_loggers("onnxruntime"):
        proto = _rewritten(source, Path(place) / "unpacked.onnx", unpack_attentions)
        chosen = {node.name for node in _chosen(proto, plan)}
        quantizer = MatMulNBitsQuantizer(
            proto,
            bits=plan.bits,
            block_size=_BLOCK,
            is_symmetric=False,
            accuracy_level=_INT8_SUMS,
            nodes_to_exclude=[node.name for node in proto.graph.node if node.name not in chosen],
            op_types_to_quantize=("MatMul",),
        )
        quantizer.process()
        model: ir.Model = ir.from_proto(quantizer.model.model)
    int8.shrink_tables(model)
    return model


def _half(source: Path, plan: Plan, _: Calibration) -> ir.Model:
    import onnx_ir as ir
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    with tempfile.TemporaryDirectory(prefix="compressor-half-") as place:
        proto = _rewritten(source, Path(place) / "fused.onnx", fuse_norms)
    blocked = [node.name for node in proto.graph.node if origin(node.name) in plan.keep]
    with quiet_loggers("onnxruntime"):
        made = convert_float_to_float16(
            proto,
            keep_io_types=True,
            # The fused operators are unknown to it; the exporter has noted the shapes.
            disable_shape_infer=True,
            op_block_list=DEFAULT_OP_BLOCK_LIST,
            node_block_list=blocked,
        )
    model: ir.Model = ir.from_proto(made)
    return model


def _rewritten(source: Path, path: Path, rewrite: Callable[[ir.Model], None]) -> Any:
    """The graph after a rewriting, as protobuf and on disk."""
    import onnx

    model = onnx_files.load(source)
    rewrite(model)
    onnx_files.write(model, path)
    return onnx.load(path)


def _chosen(proto: Any, plan: Plan) -> list[Any]:
    """The encoder's products with a constant weight, those that stay in fp32 left out."""
    layers = next(item.value for item in proto.metadata_props if item.key == onnx_files.LAYERS_KEY)
    constants = {item.name for item in proto.graph.initializer}
    return [
        node
        for node in proto.graph.node
        if node.op_type == "MatMul"
        and node.name.startswith(f"{layers}.")
        and node.input[1] in constants
        and origin(node.name).removesuffix(f".{int8.QUERY_KEY_VALUE}") not in plan.keep
    ]


def _int8_words(plan: Plan) -> str:
    return {"full": "int8", "bounded": "bounded int8", "unsigned": "uint8"}[plan.weights] + " per channel"


def _static_words(plan: Plan) -> str:
    # onnxruntime's own quantizer bounds every weight, where two neighbours together would do.
    return "7-bit int8 per channel" if plan.weights == "bounded" else _int8_words(plan)


def _always(word: str) -> Callable[[Plan], str]:
    return lambda plan: word


_CPU: tuple[Literal["cpu", "cuda"], ...] = ("cpu",)
_BOTH: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda")
MODES: Mapping[str, Mode] = {
    "per-token": Mode(_integer, "int8", integer=True, exact=True, providers=_CPU, weights=_int8_words),
    "smooth": Mode(_integer, "int8", integer=True, exact=True, providers=_CPU, weights=_int8_words),
    "dynamic": Mode(_integer, "int8", integer=True, exact=False, providers=_CPU, weights=_int8_words),
    "static": Mode(_static, "int8", integer=True, exact=False, providers=_BOTH, weights=_static_words),
    "fp16": Mode(_half, "fp16", integer=False, exact=False, providers=_BOTH, weights=_always("fp16")),
    "weight-only-int4": Mode(
        _weight_only,
        "int4",
        integer=False,
        exact=False,
        providers=_BOTH,
        weights=lambda plan: f"{plan.bits}-bit in blocks of {_BLOCK}",
    ),
}
