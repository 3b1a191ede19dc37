"""Makes what no command line makes, inside the environment of one peer.

    python peers_artefacts.py KIND SOURCE OUT [CALIBRATION]

SOURCE is a Hugging Face folder or an ONNX file, OUT a folder that is there, CALIBRATION token ids in one ``.npz`` file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def ours(source: Path, out: Path, calibration: Path | None) -> None:
    """Exports, fuses, and quantizes to int8, by default and with one scale per tensor: calls of this project."""
    from transformers import AutoModelForSequenceClassification

    from compressor.architectures import architecture_of
    from compressor.graph.export import export_onnx
    from compressor.graph.quantize import quantize_onnx
    from compressor.quiet import quiet

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(source).eval()
    architecture, feeds = architecture_of(model.config), read(calibration)
    batches = [feeds[0], feeds[-1], together(feeds[:8]), together(feeds[8:24])]
    fp32 = export_onnx(model, architecture, tuple(feeds[0]), out / "model.onnx", opset=18, batches=batches)
    for mode in ("smooth", "dynamic"):
        quantize_onnx(
            fp32.path, out / f"{mode}.onnx", target="auto", expected=len(architecture.products(model)),
            batches=batches, mode=mode, calibration=lambda: feeds,
        )  # fmt: skip


def sentence_transformers(source: Path, out: Path, _: Path | None) -> None:
    """The quantized export that its documentation shows, for a cross-encoder, which is a classifier."""
    from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model

    model = CrossEncoder(str(source), backend="onnx", device="cpu", model_kwargs={"export": True})
    export_dynamic_quantized_onnx_model(model, "avx2", str(out))


def onnxruntime_int8(source: Path, out: Path, _: Path | None) -> None:
    """The quantizer of onnxruntime on the graph that its own optimizer fused.

    7 bits on a CPU without VNNI, where 8 saturate; the type of what its shape inference does not know must be told.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    saturates = "avx512_vnni" not in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    quantize_dynamic(
        source, out / "model.onnx", per_channel=True, reduce_range=saturates, weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": 1},
    )  # fmt: skip


def openvino(source: Path, out: Path, _: Path | None) -> None:
    """Converts an ONNX file; weights stay fp32."""
    import openvino as toolkit

    toolkit.save_model(toolkit.convert_model(source), out / "model.xml", compress_to_fp16=False)


def nncf(source: Path, out: Path, calibration: Path | None) -> None:
    """Post-training int8 of NNCF with its settings for transformers, calibrated on training texts."""
    import nncf as toolkit
    import openvino

    model = openvino.Core().read_model(source)
    names = {item.get_any_name() for item in model.inputs}
    feeds = [{name: ids for name, ids in feed.items() if name in names} for feed in read(calibration)]
    made = toolkit.quantize(
        model, toolkit.Dataset(feeds), model_type=toolkit.ModelType.TRANSFORMER, subset_size=len(feeds)
    )
    openvino.save_model(made, out / "model.xml")


def read(path: Path | None) -> list[dict[str, Any]]:
    """The feeds of a file as ``write_cells`` makes it, one after another."""
    assert path is not None
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, dict[str, Any]] = {}
        for key in arrays.files:
            if key != "shapes":
                feed, _, name = key.rpartition("/")
                found.setdefault(feed, {})[name] = arrays[key]
    return list(found.values())


def together(feeds: list[dict[str, Any]]) -> dict[str, Any]:
    """One padded batch; BERT's padding is 0 in every input, and the mask hides it."""
    width = max(feed["input_ids"].shape[1] for feed in feeds)
    return {
        name: np.concatenate([np.pad(feed[name], ((0, 0), (0, width - feed[name].shape[1]))) for feed in feeds])
        for name in feeds[0]
    }


MAKERS: dict[str, Callable[[Path, Path, Path | None], None]] = {
    "ours": ours,
    "sentence-transformers": sentence_transformers,
    "onnxruntime-int8": onnxruntime_int8,
    "openvino": openvino,
    "nncf": nncf,
}


if __name__ == "__main__":
    kind, *paths = sys.argv[1:]
    MAKERS[kind](Path(paths[0]), Path(paths[1]), Path(paths[2]) if len(paths) > 2 else None)
