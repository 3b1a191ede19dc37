"""What activations are like on training texts, and the graph that has their ranges built in (static int8, QDQ)."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compressor.graph import files as onnx_files
from compressor.graph.parity import Batch

# The range that a hundredth of a per cent of the values leave; the largest value alone would decide otherwise.
_PERCENTILE = 99.99
_BINS = 2048
_METADATA = ("onnx.infer", "onnxruntime.quant")


class Calibration:
    """Training text, and what was observed on it.

    Attributes:
        read: Gives the texts in small padded batches, anew at every call.
    """

    def __init__(self, read: Callable[[], Iterable[Batch]]) -> None:
        self.read = read
        self._peaks: dict[tuple[Path, tuple[str, ...]], dict[str, npt.NDArray[np.float32]]] = {}

    def channel_peaks(self, path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """``channel_peaks`` of a file, which is observed once however often it is asked for."""
        key = (path, tuple(names))
        if key not in self._peaks:
            self._peaks[key] = channel_peaks(path, names, self.read())
        return self._peaks[key]


class _Once:
    """One batch, in the form that onnxruntime's calibrators read."""

    def __init__(self, feed: dict[str, Any]) -> None:
        self._feed: dict[str, Any] | None = feed

    def get_next(self) -> dict[str, Any] | None:
        feed, self._feed = self._feed, None
        return feed


def activation_ranges(path: Path, tensors: Collection[str], batches: Iterable[Batch]) -> Any:
    """Observe activations, batch by batch: a histogram of each is kept, never the activations themselves.

    Args:
        path: A graph whose products are ``MatMul``.
        tensors: Names of the activations.
        batches: Training text, padded; consumed once.

    Returns:
        onnxruntime's ``TensorsData``: a symmetric range for each name.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    with tempfile.TemporaryDirectory(prefix="compressor-calibration-") as place:
        calibrator = create_calibrator(
            path,
            ["MatMul"],
            augmented_model_path=str(Path(place) / "observed.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": True, "percentile": _PERCENTILE, "num_bins": _BINS},
        )
        names = {item.name for item in calibrator.infer_session.get_inputs()}
        # Products of attention weights are MatMul as well; nobody asks for their ranges.
        calibrator.tensors_to_calibrate &= set(tensors)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            for batch in batches:
                feed = {name: np.asarray(array) for name, array in batch.items() if name in names}
                calibrator.collect_data(_Once(feed))
            return calibrator.compute_data()


def channel_peaks(path: Path, names: Sequence[str], batches: Iterable[Batch]) -> dict[str, npt.NDArray[np.float32]]:
    """Find the largest magnitude of each channel of activations, padding left out.

    Args:
        path: The graph.
        names: Of activations of shape (batch, sequence, width), or (batch, 1, width) of the first tokens.
        batches: Training text, padded; consumed once.

    Returns:
        For each name an array of shape (width,).

    Raises:
        ValueError: There is no text.
    """
    import onnx

    if not names:
        return {}
    model = onnx_files.skeleton(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    # Beside the file, which it takes its weights from.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".observed-", suffix=".onnx") as observed:
        observed.write(model.SerializeToString())
        observed.flush()
        session = onnx_files.open_session(Path(observed.name))
    inputs = [item.name for item in session.get_inputs()]
    found: dict[str, npt.NDArray[np.float32]] = {}
    for batch in batches:
        mask = np.asarray(batch["attention_mask"], bool)
        outputs = session.run(list(names), {name: np.asarray(batch[name]) for name in inputs})
        for name, values in zip(names, outputs, strict=True):
            tokens = values[mask] if values.shape[1] == mask.shape[1] else values.reshape(-1, values.shape[-1])
            peak = np.abs(tokens).max(axis=0)
            found[name] = np.maximum(found[name], peak) if name in found else peak
    if not found:
        raise ValueError("there is no text to observe activations on")
    return found


def quantize_static(
    proto: Any, path: Path, nodes: Sequence[Any], batches: Iterable[Batch], *, reduce_range: bool
) -> Any:
    """Put the ranges of activations, and int8 weights per column, into a graph.

    Args:
        proto: The graph, an ``onnx.ModelProto`` with its shapes noted; changed in place.
        path: The same on disk.
        nodes: The ``MatMul`` nodes to quantize; each has a name of its own.
        batches: Training text, padded.
        reduce_range: Weights of 7 bits.
    """
    from onnxruntime.quantization import QDQQuantizer, QuantType

    ranges = activation_ranges(path, {node.input[0] for node in nodes}, batches)
    # Shapes are noted already, and the fused operators are unknown to the inference that would be run otherwise.
    note = proto.metadata_props.add()
    note.key, note.value = _METADATA
    quantizer = QDQQuantizer(
        proto,
        per_channel=True,
        reduce_range=reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"], "ActivationSymmetric": True},
    )
    quantizer.quantize_model()
    found = quantizer.model.model
    kept = [item for item in found.metadata_props if item.key != _METADATA[0]]
    del found.metadata_props[:]
    found.metadata_props.extend(kept)
    return found
