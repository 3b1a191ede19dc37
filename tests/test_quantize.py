"""quantize: every product in int8, weights that cannot saturate, and one answer for one text."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from compressor.architectures import ARCHITECTURES
from compressor.artifacts import QuantizedModel
from compressor.errors import QuantizationError
from compressor.events import Event, Note, Warned
from compressor.graph import calibration, modes, parity, quantize, targets
from compressor.graph import files as onnx_files
from compressor.graph.passes import int8, smooth
from compressor.graph.passes.unsigned import use_unsigned_weights
from compressor.recipe import QuantizeRecipe
from tests.exported import PACKED, folder, sample, texts

MODEL_TYPES = tuple(ARCHITECTURES)
# Products of two layers like BERT's.
EXPECTED = 2 * 6


def products(model_type: str) -> int:
    return len(ARCHITECTURES[model_type].products(sample(model_type).model))


def batches(model_type: str) -> tuple[parity.Batch, ...]:
    return parity.text_batches(texts(model_type, 64), sample(model_type).exported.input_names, 0, batch_size=16)


def observed(model_type: str) -> Callable[[], tuple[parity.Batch, ...]]:
    return functools.partial(batches, model_type)


@functools.cache
def quantized(model_type: str, target: str = "any", mode: str = "smooth") -> QuantizedModel:
    path = folder() / f"{model_type}-{target}-{mode}.onnx"
    return quantize.quantize_onnx(
        sample(model_type).exported.path, path, target=target, expected=products(model_type),
        batches=batches(model_type), calibration=observed(model_type), mode=mode,
    )  # fmt: skip


def weights(path: Path) -> dict[str, npt.NDArray[np.int8]]:
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(path).graph.initializer
        if tensor.name.endswith(".weight.int8") and "layer" in tensor.name
    }


@pytest.mark.parametrize("mode", int8.MODES)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_product_of_the_encoder_is_quantized(model_type: str, mode: str) -> None:
    model = quantized(model_type, mode=mode)
    expected = products(model_type)
    assert model.quantized == model.expected == expected
    # Q, K and V are one product of one quantized activation, where they are fused. The last layer's query is of one
    # token, and apart; ALBERT's last layer is its first one, run again.
    packed = 0 if model_type not in PACKED else 2 * 2 if model_type == "albert" else 2 + 1
    found = Counter(node.op_type for node in onnx.load(model.path).graph.node)
    assert found["MatMulInteger"] == expected - packed


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_int8_keeps_nearly_all_labels_of_fp32(model_type: str) -> None:
    """Full-range weights, unsigned: no kernel saturates with them. Bounded ones are a little coarser."""
    source = quantize.read_source(
        sample(model_type).exported.path,
        expected=products(model_type),
        batches=batches(model_type),
        calibration=observed(model_type),
    )
    plan = modes.Plan("smooth", "unsigned")
    full = quantize.announce(quantize.make(source, folder() / f"{model_type}-unsigned.onnx", plan), source, "any")
    assert full.agreement >= 0.95
    assert 0 < full.max_abs_difference < 0.5
    bounded = quantized(model_type)
    assert bounded.agreement >= 0.9
    assert 0 < bounded.max_abs_difference < 0.6


@pytest.mark.parametrize("mode", ["per-token", "smooth"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_text_gets_the_same_logits_alone_padded_and_in_a_batch(model_type: str, mode: str) -> None:
    session = onnx_files.open_session(quantized(model_type, mode=mode).path)
    together = np.concatenate(parity.session_logits(session, batches(model_type)))
    names = sample(model_type).exported.input_names
    alone = parity.session_logits(session, parity.text_batches(texts(model_type, 64), names, 0, batch_size=1))
    assert np.abs(np.concatenate(alone) - together).max() == 0.0
    assert quantized(model_type, mode=mode).batch_difference == 0.0


def test_one_scale_for_the_whole_batch_changes_a_text_with_its_neighbours() -> None:
    """What the per-token scales are there for; onnxruntime's own form of int8 does this."""
    difference = quantized("bert", mode="dynamic").batch_difference
    assert difference is not None
    assert difference > 1e-4


@pytest.mark.parametrize(("target", "expected"), targets.WEIGHTS.items())
def test_weights_use_the_range_that_the_target_can_add_up(target: str, expected: modes.Weights) -> None:
    """vpmaddubsw adds two products of an unsigned and a signed byte with 16-bit saturation."""
    path = quantized("distilbert", target=target).path
    found = weights(path)
    # Six in a layer, Q, K and V as one in the first, K and V as one in the last.
    assert len(found) == 4 + 5
    sums = [largest_sum(weight) for weight in found.values()]
    if expected == "bounded":
        assert max(sums) <= np.iinfo(np.int16).max
        # Every matrix has a column that uses what there is.
        assert min(sums) > 0.98 * np.iinfo(np.int16).max
    else:
        assert {int(np.abs(weight.astype(int)).max()) for weight in found.values()} == {127}
        assert max(sums) > np.iinfo(np.int16).max
    assert onnx_files.load(path).metadata_props[onnx_files.WEIGHTS_KEY] == expected


def largest_sum(weight: npt.NDArray[np.int8]) -> int:
    """The largest that two neighbours' products with unsigned bytes can add up to, up or down."""
    first, second = weight[0::2].astype(int), weight[1::2].astype(int)
    up, down = (255 * (np.maximum(sign * first, 0) + np.maximum(sign * second, 0)).max() for sign in (1, -1))
    return int(max(up, down))


def test_weights_have_one_scale_per_column() -> None:
    item = sample("bert")
    names = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(quantized("bert").path).graph.initializer
    }
    module = "bert.encoder.layer.1.output.dense"
    original = item.model.get_submodule(module).weight.detach().numpy().T
    # They have been multiplied with the step of the activation, which comes from GELU: the 223rd part of its peak.
    scale = names[f"{module}.weight.scale"] * np.float32(223)
    assert scale.shape == (32,)
    error = np.abs(names[f"{module}.weight.int8"] * scale - original)
    assert (error <= scale * 0.5001).all()


def test_word_embeddings_are_int8_with_one_scale_per_row() -> None:
    names = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(quantized("bert").path).graph.initializer
    }
    table = sample("bert").model.get_submodule("bert.embeddings.word_embeddings").weight.detach().numpy()
    rows, scale = (names[f"bert.embeddings.word_embeddings.weight.{part}"] for part in ("int8", "scale"))
    assert (rows.dtype, scale.shape) == (np.int8, (len(table), 1))
    assert (np.abs(rows * scale - table) <= scale * 0.5001).all()
    assert "bert.embeddings.word_embeddings.weight" not in names


def test_int8_adds_standard_operators_only() -> None:
    nodes = onnx.load(quantized("mpnet").path).graph.node
    assert {node.op_type for node in nodes if node.domain == "com.microsoft"} == {
        "MultiHeadAttention", "Gelu",
    }  # fmt: skip
    # The CUDA provider takes a blocked quantizer of bytes, and fails when it runs.
    assert not [node for node in nodes if any(attribute.name == "block_size" for attribute in node.attribute)]


def test_a_scale_per_token_costs_four_nodes_where_a_layer_norm_wrote_the_tokens() -> None:
    """What there is beside a product decides the time of short texts."""
    found = Counter(node.op_type for node in onnx.load(quantized("bert", mode="per-token").path).graph.node)
    # Two layers: four activations each, of which one comes from GELU, whose sign needs no look; and the query's token.
    assert (found["Div"], found["QuantizeLinear"], found["ReduceMax"], found["Abs"]) == (9, 9, 9, 7)
    # A layer norm's tokens are never zero as a whole; those of attention and GELU have a floor.
    assert found["Clip"] == 4


def test_fixed_steps_leave_two_nodes_behind_a_layer_norm_and_its_product_takes_the_bias_in() -> None:
    found = Counter(node.op_type for node in onnx.load(quantized("bert").path).graph.node)
    # Two layers of a product behind the norm and two behind attention and GELU; the query's token, and its product.
    assert (found["MatMulInteger"], found["Mul"]) == (9, 5 + 2 * 9 + 1)
    assert (found["ReduceMax"], found["Div"], found["Clip"]) == (4, 4, 4)
    assert (found["QuantizeLinear"], found["BiasGelu"], found["Gelu"]) == (9, 0, 2)


def test_fixed_steps_reach_the_largest_value_of_each_channel_and_the_weights_take_them_up() -> None:
    path = sample("bert").exported.path
    model = onnx_files.load(path)
    names = list(smooth.sources(model))
    peaks = calibration.channel_peaks(path, names, batches("bert"))
    steps = smooth.choose_steps(model, peaks)
    assert len(names) == 5
    for name in names:
        reach = 127 * steps[name]
        # The channel that decides is the one that the steps just hold.
        assert (reach >= peaks[name] * (1 - 1e-5)).all()
        assert reach.min() > 0
        assert np.isclose((peaks[name] / reach).max(), 1)


def test_fixed_steps_allow_unsigned_weights_of_the_same_values(tmp_path: Path) -> None:
    """The products' zero points say that the bytes are shifted."""
    signed = quantized("bert").path
    model = onnx_files.load(signed)
    use_unsigned_weights(model)
    onnx_files.save(model, tmp_path / "unsigned.onnx")
    before, after = (parity.onnx_logits(path, batches("bert")) for path in (signed, tmp_path / "unsigned.onnx"))
    np.testing.assert_allclose(np.concatenate(after), np.concatenate(before), atol=1e-4)


def test_padding_is_not_observed() -> None:
    path = sample("bert").exported.path
    name = next(iter(smooth.sources(onnx_files.load(path))))
    asked = batches("bert")[:1]
    ids = asked[0]["input_ids"].copy()
    ids[asked[0]["attention_mask"] == 0] = 7
    assert (asked[0]["attention_mask"] == 0).any()
    found = [
        calibration.channel_peaks(path, [name], [batch])[name] for batch in (asked[0], {**asked[0], "input_ids": ids})
    ]
    np.testing.assert_array_equal(found[0], found[1])


def test_without_texts_there_are_no_fixed_steps() -> None:
    with pytest.raises(ValueError, match="no text to observe"):
        calibration.channel_peaks(sample("bert").exported.path, ["layer_norm"], ())


@pytest.mark.parametrize("mode", int8.MODES)
def test_onnxruntime_merges_every_product_with_its_scales(mode: str, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(quantized("bert", mode=mode).path), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert found["MatMulIntegerToFloat"] + found["DynamicQuantizeMatMul"] == 4 + 5
    assert found["MatMulInteger"] == 0


@pytest.mark.parametrize("mode", int8.MODES)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_onnxruntime_changes_no_answer_when_it_merges(model_type: str, mode: str) -> None:
    """It would multiply the bias behind a product by the scale of each token."""
    as_written = onnxruntime.SessionOptions()
    as_written.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path, asked = quantized(model_type, mode=mode).path, batches(model_type)[0]
    found = []
    for options in (as_written, onnxruntime.SessionOptions()):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        found.append(session.run(["logits"], {node.name: asked[node.name] for node in session.get_inputs()})[0])
    # A last bit decides here and there which byte an activation becomes.
    assert np.abs(found[0] - found[1]).max() < 0.02 * np.ptp(found[0])


def test_a_text_of_padding_alone_gives_finite_logits() -> None:
    batch = {name: np.zeros((1, 5), np.int64) for name in sample("bert").exported.input_names}
    assert np.isfinite(parity.onnx_logits(quantized("bert").path, [batch])[0]).all()


def test_large_tables_that_stay_in_floating_point_are_stored_in_half_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "HALF_STORED_ELEMENTS", 1)
    source = sample("bert").exported.path
    model = quantize.quantize_onnx(
        source, tmp_path / "half.onnx", target="any", expected=EXPECTED, batches=batches("bert"),
        calibration=observed("bert"),
    )  # fmt: skip
    names = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(model.path).graph.initializer}
    table = sample("bert").model.get_submodule("bert.embeddings.position_embeddings").weight.detach().numpy()
    half = names["bert.embeddings.position_embeddings.weight.fp16"]
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, table, rtol=2**-11, atol=1e-7)
    assert "bert.embeddings.position_embeddings.weight" not in names
    assert model.agreement >= 0.95


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    again = quantize.quantize_onnx(
        sample("distilbert").exported.path, tmp_path / "again.onnx", target="any", expected=EXPECTED,
        batches=batches("distilbert"), calibration=observed("distilbert"),
    )  # fmt: skip
    assert again.path.read_bytes() == quantized("distilbert").path.read_bytes()


def test_the_result_says_what_was_chosen(tmp_path: Path) -> None:
    heard: list[Event] = []
    model = quantize.quantize_onnx(
        sample("bert").exported.path, tmp_path / "model.onnx", target="avx2", expected=EXPECTED,
        batches=batches("bert"), calibration=observed("bert"), listen=heard.append,
    )  # fmt: skip
    assert (model.target, model.weight_type, model.mode) == ("avx2", "bounded int8 per channel", "smooth")
    assert [event.text for event in heard if isinstance(event, Note)] == [
        f"int8 (smooth) for avx2: {model.agreement:.1%} of the labels as in fp32."
    ]
    assert tuple(event.text for event in heard if isinstance(event, Warned)) == model.warnings


# --- arithmetic -------------------------------------------------------------------------------


def test_quantized_weights_by_hand() -> None:
    weight = np.array([[1.0, 0.0, -0.5], [-2.0, 0.0, 0.25]], np.float32)
    values, scale = int8.quantize_weight(weight, axis=0)
    assert values.tolist() == [[64, 0, -127], [-127, 0, 64]]
    np.testing.assert_allclose(scale, [[2 / 127, 1.0, 0.5 / 127]], rtol=1e-6)


def test_bounded_weights_by_hand() -> None:
    """Neighbours of one sign share 127 steps; those of opposite signs have them each; the odd last one is alone."""
    weight = np.array([[1.0, 1.0], [3.0, -3.0], [-2.0, 0.5]], np.float32)
    values, scale = int8.quantize_weight(weight, axis=0, bounded=True)
    assert values.T.tolist() == [[32, 95, -64], [42, -127, 21]]
    np.testing.assert_allclose(scale, [[4 / 127, 3 / 127]], rtol=1e-6)


@pytest.mark.parametrize("depth", [7, 64, 384, 1027, 3072])
def test_sums_of_bounded_weights_are_exact_in_onnxruntime_here(depth: int, tmp_path: Path) -> None:
    """With the activations that would saturate: largest where weights of one sign stand, column by column."""
    weight = np.random.default_rng(depth).standard_normal((depth, 48)).astype(np.float32)
    values, _ = int8.quantize_weight(weight, axis=0, bounded=True)
    rows = np.concatenate([np.where(values.T > 0, 255, 0), np.where(values.T < 0, 255, 0)]).astype(np.uint8)
    found = multiplied(rows, values, tmp_path)
    np.testing.assert_array_equal(found, rows.astype(np.int32) @ values.astype(np.int32))


def multiplied(left: npt.NDArray[np.uint8], right: npt.NDArray[np.int8], folder: Path) -> npt.NDArray[np.int32]:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["rows", len(right)])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT32, ["rows", right.shape[1]])],
        [onnx.numpy_helper.from_array(right, "w")],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(proto, folder / "product.onnx")
    session = onnx_files.open_session(folder / "product.onnx")
    found: npt.NDArray[np.int32] = session.run(None, {"x": left})[0]
    return found


def test_the_int8_graph_computes_the_arithmetic_it_documents(tmp_path: Path) -> None:
    """One product against numpy: q = round(127 x / max|x|) + 128 for each token, int32 sums, scales afterwards."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 8)).astype(np.float32)
    x[1, 2] = 0.0
    weight = rng.standard_normal((8, 4)).astype(np.float32)
    actual = run_product(tmp_path, x, weight)
    peak = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-10)
    q = np.rint(x / peak * 127)
    values, scale = int8.quantize_weight(weight, axis=0, bounded=True)
    np.testing.assert_allclose(actual, q @ values.astype(float) * peak / 127 * scale, rtol=1e-5, atol=1e-6)
    assert (actual[1, 2] == 0).all()


def test_what_an_activation_function_made_gets_most_bytes_above_zero(tmp_path: Path) -> None:
    """GELU is never below -0.17: 32 bytes hold that, and 223 the rest; ReLU takes all 255."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 40, 8)).astype(np.float32) * np.linspace(0.01, 8, 40, dtype=np.float32)[:, None]
    weight = rng.standard_normal((8, 4)).astype(np.float32)
    values, scale = int8.quantize_weight(weight, axis=0, bounded=True)
    for function, least, levels in (("Gelu", 0.17 * 223 / 32, 223), ("Relu", 1e-10, 255)):
        y = np.maximum(x, 0) if function == "Relu" else x * (1 + np.vectorize(math.erf)(x / np.sqrt(2))) / 2
        step = np.maximum(y.max(-1, keepdims=True), least) / levels
        q = np.rint(y / step)
        assert q.min() >= levels - 255
        actual = run_product(tmp_path, x, weight, function)
        # One byte apart where the two compute GELU differently in the last bit.
        np.testing.assert_allclose(actual, q @ values.astype(float) * step * scale, atol=1.01 * float(step.max()))
        assert np.abs(actual - y @ weight).max() < 8 * float(step.max())


def run_product(
    tmp_path: Path, x: npt.NDArray[np.float32], weight: npt.NDArray[np.float32], function: str = "Identity"
) -> npt.NDArray[np.float32]:
    domain = "com.microsoft" if function == "Gelu" else ""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(function, ["x"], ["a"], domain=domain),
         onnx.helper.make_node("MatMul", ["a", "w"], ["y"], name="layers.0.dense"),
         onnx.helper.make_node("Gather", ["table", "input_ids"], ["words"]),
         onnx.helper.make_node("Add", ["y", "words"], ["z"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["b", "s", 8]),
         onnx.helper.make_tensor_value_info("input_ids", 7, ["b", "s"])],
        [onnx.helper.make_tensor_value_info("z", 1, ["b", "s", 4])],
        [onnx.numpy_helper.from_array(weight, "w"),
         onnx.numpy_helper.from_array(np.zeros((3, 4), np.float32), "table")],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.microsoft", 1)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.helper.set_model_props(proto, {onnx_files.LAYERS_KEY: "layers"})
    onnx.save(proto, tmp_path / "fp32.onnx")
    model = onnx_files.load(tmp_path / "fp32.onnx")
    # Sums of these are whole on every machine.
    int8.rewrite(model, "per-token", bounded=True)
    assert [node.op_type for node in model.graph].count("MatMulInteger") == 1
    onnx_files.save(model, tmp_path / "int8.onnx")
    session = onnx_files.open_session(tmp_path / "int8.onnx")
    found: npt.NDArray[np.float32] = session.run(None, {"x": x, "input_ids": np.zeros(x.shape[:2], np.int64)})[0]
    return found


# --- choices ----------------------------------------------------------------------------------


def test_the_recipe_offers_exactly_the_modes_and_targets_that_there_are() -> None:
    fields = QuantizeRecipe.model_fields
    assert set(get_args(fields["mode"].annotation)) == set(modes.MODES)
    assert set(get_args(fields["target"].annotation)) == {"auto", *targets.WEIGHTS}


# --- failures ---------------------------------------------------------------------------------


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    model = onnx.load(sample("distilbert").exported.path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(QuantizationError, match="was not exported by this toolkit") as caught:
        quantize.quantize_onnx(
            tmp_path / "foreign.onnx", tmp_path / "int8.onnx", target="any", expected=EXPECTED, batches=[],
            calibration=list,
        )  # fmt: skip
    assert caught.value.remedy


def test_a_missed_product_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="12 of 18 matrix products"):
        quantize.quantize_onnx(
            sample("distilbert").exported.path, tmp_path / "int8.onnx", target="any", expected=18,
            batches=batches("distilbert"), calibration=observed("distilbert"),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_model_near_chance_is_an_error_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = int8.quantize_weight

    def shuffled(weight: int8.Array, axis: int, **how: bool) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        values, scale = honest(weight, axis, **how)
        return values[::-1].copy(), scale

    monkeypatch.setattr(int8, "quantize_weight", shuffled)
    with pytest.raises(QuantizationError, match=r"gives \d+\.\d% of 64 texts the label .* \(chance: 50\.0%\)"):
        quantize.quantize_onnx(
            sample("bert").exported.path, tmp_path / "int8.onnx", target="any", expected=EXPECTED,
            batches=batches("bert"), calibration=observed("bert"),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_onnxruntime_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = int8.rewrite

    def damage(model: object, mode: str, **how: object) -> None:
        honest(model, mode, **how)  # type: ignore[arg-type]
        next(node for node in model.graph if node.op_type == "Split").op_type = "Splat"  # type: ignore[attr-defined]

    monkeypatch.setattr(int8, "rewrite", damage)
    with pytest.raises(QuantizationError, match="onnxruntime refuses the int8 graph: "):
        quantize.quantize_onnx(
            sample("bert").exported.path, tmp_path / "int8.onnx", target="any", expected=EXPECTED,
            batches=batches("bert"), calibration=observed("bert"),
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
