"""ladder: a file that keeps its accuracy, found by climbing; and what is said where none does."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from compressor.architectures import ARCHITECTURES
from compressor.events import Event, Note, Warned
from compressor.graph import files as onnx_files
from compressor.graph import ladder, modes, parity, quantize, targets
from compressor.graph.calibration import Calibration
from compressor.graph.ladder import Climbed, Limits
from compressor.graph.passes import int8
from compressor.graph.quantize import Source
from tests.exported import classifier, folder, run, sample, texts

SENSITIVE = "bert.encoder.layer.1.output.dense"


def read(path: Path, model_type: str = "bert") -> Source:
    return quantize.read_source(
        path,
        expected=len(ARCHITECTURES[model_type].products(sample(model_type).model)),
        batches=batches(model_type),
        calibration=lambda: batches(model_type),
    )


def batches(model_type: str = "bert") -> tuple[parity.Batch, ...]:
    return parity.text_batches(texts(model_type, 128), sample(model_type).exported.input_names, 0, batch_size=16)


@functools.cache
def lopsided() -> Path:
    """A model with one neuron hundreds of times as large as the others: its scale leaves the others nothing."""
    model = classifier("bert")
    layer = model.bert.encoder.layer[1]
    with torch.no_grad():
        layer.intermediate.dense.bias[0] = 300.0
        layer.output.dense.weight[:, 0] /= 300.0
    path = folder() / "lopsided.onnx"
    run("bert", model, sample("bert").batches, path)
    return path


def climb(source: Source, place: Path, *, max_drop: float = 1, max_flips: float = 2, **options: Any) -> Climbed:
    limits = Limits.of("single-label", max_drop, max_flips)
    return ladder.climb(
        source, place / "model.onnx", limits=limits, **{"mode": "per-token", "target": "avx512_vnni", **options}
    )


def agreeing(source: Source) -> ladder.Score:
    """As good as fp32 is by definition: the share of its labels that answers keep."""
    right = source.answers.values.argmax(-1)
    return lambda answers: float((answers.values.argmax(-1) == right).mean())


def test_a_file_within_the_limits_is_the_only_rung(tmp_path: Path) -> None:
    source = read(sample("bert").exported.path)
    # Bounded weights, which are right on the machine of every reader of this.
    found = climb(source, tmp_path, target="any", max_flips=5, max_drop=5, score=agreeing(source))
    assert found.model is not None
    assert found.model.path == tmp_path / "model.onnx"
    assert found.model.quantized == found.model.expected == 12
    assert [(rung.name, rung.verdict) for rung in found.ladder.rungs] == [("as asked", "kept")]
    assert found.ladder.effects == ()
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_the_sensitive_product_is_found_and_left_in_fp32(tmp_path: Path) -> None:
    source = read(lopsided())
    heard: list[Event] = []
    found = climb(source, tmp_path, score=agreeing(source), listen=heard.append)
    assert found.ladder.effects[0][0] == SENSITIVE
    assert found.ladder.effects[0][1] > 3 * found.ladder.effects[1][1]
    assert found.model is not None
    assert SENSITIVE in found.model.kept
    first, last = found.ladder.rungs[0], found.ladder.rungs[-1]
    assert (first.name, first.verdict) == ("as asked", "over the limits")
    assert (last.name, last.verdict) == ("sensitive products in fp32", "kept")
    assert last.flips is not None
    assert first.flips is not None
    assert last.flips <= 0.02 < first.flips
    kept = {node.name: node.op_type for node in onnx.load(found.model.path).graph.node}
    assert kept[SENSITIVE] == "MatMul"
    assert found.model.quantized == 12 - len(found.model.kept) == modes.count(found.model.path)
    told = [event.text for event in heard if isinstance(event, Note)]
    assert told[0].startswith("Ladder, as asked (per-token, int8 per channel): ")
    assert "of decisions flip, 2.00% may" in told[0]


def test_a_model_that_int8_breaks_ends_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = int8.quantize_weight

    def shuffled(weight: int8.Array, axis: int, **how: bool) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        values, scale = honest(weight, axis, **how)
        return np.roll(values, 3, axis=0), scale

    monkeypatch.setattr(int8, "quantize_weight", shuffled)
    source = read(sample("bert").exported.path)
    heard: list[Event] = []
    found = climb(source, tmp_path, score=agreeing(source), listen=heard.append)
    assert found.model is None
    assert found.ladder.rungs[0].verdict == "broken"
    assert (found.ladder.rungs[-1].name, found.ladder.rungs[-1].verdict) == ("fp32", "kept")
    assert found.ladder.rungs[-1].size_bytes == source.path.stat().st_size
    (warning,) = [event.text for event in heard if isinstance(event, Warned)]
    assert warning.startswith("No smaller file is within the limits: the student ships in fp32. ")
    assert "Raise --max-drop or --max-flips" in warning


def test_the_best_file_over_the_limits_is_saved(tmp_path: Path) -> None:
    source = read(lopsided())
    found = climb(source, tmp_path, max_flips=0, max_drop=0.001, mode="weight-only-int4", score=lambda _: next(falling))
    assert found.model is None
    assert found.rejected == tmp_path / "model.onnx"
    tried = [rung for rung in found.ladder.rungs[:-1] if rung.flips is not None]
    assert {rung.verdict for rung in tried} == {"over the limits"}
    assert found.rejected.stat().st_size == min(tried, key=lambda rung: rung.flips or 0).size_bytes


falling: Iterator[float] = iter(np.linspace(1, 0, 100))


@pytest.mark.parametrize("mode", ["dynamic", "smooth"])
def test_a_batch_wide_scale_and_fixed_steps_give_way_to_one_scale_per_token(tmp_path: Path, mode: str) -> None:
    source = read(sample("bert").exported.path)
    worse = iter([1.0, 0.5, 1.0])
    found = climb(source, tmp_path, mode=mode, max_flips=50, score=lambda _: next(worse))
    assert [rung.name for rung in found.ladder.rungs] == ["as asked", "one scale per token"]
    assert found.model is not None
    assert found.model.mode == "per-token"


def test_bounded_weights_give_way_to_unsigned_ones_that_keep_the_range(tmp_path: Path) -> None:
    source = read(sample("bert").exported.path)
    worse = iter([1.0, 0.5, 1.0])
    found = climb(source, tmp_path, target="avx2", max_flips=50, score=lambda _: next(worse))
    assert [rung.name for rung in found.ladder.rungs] == ["as asked", "unsigned weights"]
    assert found.model is not None
    assert found.model.weight_type == "uint8 per channel"
    signed = tmp_path / "signed.onnx"
    modes.write(source.path, signed, modes.Plan("per-token"), Calibration(lambda: ()))
    eight, unsigned = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (signed, found.model.path)
    )
    moved = {name: array for name, array in unsigned.items() if name.endswith(".unsigned")}
    assert len(moved) == 4 + 5
    for name, array in moved.items():
        np.testing.assert_array_equal(array.astype(int) - 128, eight[name.removesuffix(".unsigned")])
    # What is multiplied here is these bytes: bounded ones are further from fp32.
    bounded = tmp_path / "bounded.onnx"
    modes.write(source.path, bounded, modes.Plan("per-token", "bounded"), Calibration(lambda: ()))
    exact, fine, coarse = (
        np.concatenate(parity.onnx_logits(path, batches())) for path in (source.path, found.model.path, bounded)
    )
    assert np.abs(fine - exact).max() < np.abs(coarse - exact).max()


def test_full_range_weights_are_bounded_where_the_kernel_here_saturates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "detect_target", lambda: "avx2")
    source = read(sample("bert").exported.path)
    worse = iter([1.0, 0.5, 1.0])
    found = climb(source, tmp_path, max_flips=50, score=lambda _: next(worse))
    assert [rung.name for rung in found.ladder.rungs] == ["as asked", "bounded weights"]
    assert found.model is not None
    assert found.model.weight_type == "bounded int8 per channel"


def test_weights_of_four_bits_give_way_to_eight(tmp_path: Path) -> None:
    source = read(sample("bert").exported.path)
    worse = iter([1.0, 0.5, 1.0])
    found = climb(source, tmp_path, mode="weight-only-int4", max_flips=50, score=lambda _: next(worse))
    assert [rung.name for rung in found.ladder.rungs] == ["as asked", "8-bit weights"]
    assert found.model is not None
    assert (found.model.precision, found.model.weight_type) == ("int8", "8-bit in blocks of 32")


def test_one_changed_row_of_a_few_is_not_held_against_a_file(tmp_path: Path) -> None:
    climber = ladder._Climber(
        read(sample("bert").exported.path), tmp_path, tmp_path, "any", Limits(0.001, 0.001), None, lambda _: None
    )
    assert climber.faults(1 / 128, 1 / 128) == []
    assert climber.faults(2 / 128, 2 / 128) == [
        "1.56% of decisions flip, 0.10% may", "1.56 points lost, 0.1 may be",
    ]  # fmt: skip


def test_limits_are_read_from_points_and_per_cent() -> None:
    assert Limits.of("single-label", 1.0, None) == Limits(0.01, 0.02)
    assert Limits.of("fill-mask", 0.5, None) == Limits(0.005, 0.10)
    assert Limits.of("fill-mask", 0.5, 1) == Limits(0.005, 0.01)


# --- modes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["bert", "albert", "deberta-v2", "mobilebert", "modernbert"])
@pytest.mark.parametrize("mode", ["static", "fp16", "weight-only-int4"])
def test_every_mode_holds_every_product_and_agrees(mode: str, model_type: str, tmp_path: Path) -> None:
    source = read(sample(model_type).exported.path, model_type)
    made = quantize.make(source, tmp_path / "model.onnx", targets.first_plan(mode, "any"))
    assert made.quantized == source.expected
    assert made.agreement.share >= (0.8 if mode == "weight-only-int4" else 0.95)
    session = onnx_files.open_session(made.path)
    assert {item.type for item in session.get_inputs()} == {"tensor(int64)"}
    assert {item.type for item in session.get_outputs()} == {"tensor(float)"}


@pytest.mark.parametrize("mode", modes.MODES)
def test_a_product_can_stay_in_fp32_in_every_mode(mode: str, tmp_path: Path) -> None:
    source = read(sample("bert").exported.path)
    attention = "bert.encoder.layer.0.attention.self"
    plan = modes.Plan(mode, keep=frozenset({attention, SENSITIVE}))
    assert quantize.make(source, tmp_path / "model.onnx", plan).quantized == 12 - 3 - 1


def test_calibration_keeps_a_histogram_of_what_it_saw_and_sees_every_batch(tmp_path: Path) -> None:
    """Ranges of all batches together are those of one large batch: nothing is lost by streaming."""
    from compressor.graph.calibration import activation_ranges

    path = tmp_path / "unpacked.onnx"
    shutil.copy(sample("bert").exported.path, path)
    names = [node.input[0] for node in onnx.load(path).graph.node if node.op_type == "MatMul"][:2]
    taken: list[int] = []

    def stream() -> Iterator[parity.Batch]:
        for index, batch in enumerate(batches()):
            taken.append(index)
            yield batch

    ranges = activation_ranges(path, names, stream())
    assert taken == list(range(len(batches())))
    assert sorted(ranges.keys()) == sorted(names)
    session = observed(path, names)
    seen = [session.run(names, {item.name: batch[item.name] for item in session.get_inputs()}) for batch in batches()]
    for index, name in enumerate(names):
        low, high = ranges[name].range_value
        lowest, highest = min(item[index].min() for item in seen), max(item[index].max() for item in seen)
        # A hundredth of a per cent of the values may lie outside.
        assert lowest <= low < 0.8 * lowest
        assert 0.8 * highest < high <= highest


def test_a_mode_does_not_configure_the_logging_of_the_process() -> None:
    import logging
    import subprocess
    import sys

    code = (
        "import logging; from compressor.quiet import untouched_root\n"
        "with untouched_root():\n    import onnxruntime.quantization.matmul_nbits_quantizer\n"
        "print(len(logging.getLogger().handlers), logging.getLogger().level)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["0", str(logging.WARNING)]


def observed(path: Path, names: list[str]) -> Any:
    proto = onnx.load(path)
    proto.graph.output.extend(value for value in proto.graph.value_info if value.name in names)
    onnx.save(proto, path.with_name("observed.onnx"))
    return onnx_files.open_session(path.with_name("observed.onnx"))


# --- targets ------------------------------------------------------------------------------------


def test_a_file_is_verified_where_it_was_measured_and_believed_or_doubted_elsewhere() -> None:
    told = {claim.target: claim.status for claim in targets.claims(modes.Plan("per-token"), "avx512_vnni")}
    assert told == {"avx2": "doubted", "avx512": "doubted", "avx512_vnni": "verified", "arm64": "believed"}
    told = {claim.target: claim.status for claim in targets.claims(modes.Plan("per-token", "bounded"), "avx2")}
    assert told == {"avx2": "verified", "avx512": "believed", "avx512_vnni": "believed", "arm64": "believed"}
    told = {claim.target: claim.status for claim in targets.claims(modes.Plan("fp16"), "arm64")}
    assert told == {
        "avx2": "believed", "avx512": "believed", "avx512_vnni": "believed", "arm64": "verified", "cuda": "believed",
    }  # fmt: skip
    assert all(claim.reason for claim in targets.claims(modes.Plan("static", "bounded"), "any"))


def test_nothing_is_verified_on_a_machine_that_does_not_tell_what_it_is() -> None:
    assert {claim.status for claim in targets.claims(modes.Plan("per-token", "bounded"), "any")} == {"believed"}
