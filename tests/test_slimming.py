"""Heads and neurons: how they are scored, silenced, cut out, saved, reloaded and exported."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from compressor.architectures import ARCHITECTURES, architecture_of
from compressor.errors import ManifestError, TeacherError
from compressor.graph import parity
from compressor.graph.quantize import quantize_onnx
from compressor.slimming.blocks import PRODUCTS, blocks
from compressor.slimming.importance import Taylor, magnitude, taylor
from compressor.slimming.latency import Point
from compressor.slimming.loading import load_student
from compressor.slimming.specimen import specimen
from compressor.slimming.surgery import audible, cut, remaining, silence
from compressor.slimming.units import Units, everything, shares
from compressor.slimming.widths import KEY, needs_load_student
from compressor.training.prune import encoder_weights
from tests import exported, tiny

FAMILIES = sorted(name for name, row in ARCHITECTURES.items() if len(row.linears) in PRODUCTS)
HEADS = ((True, False, True, True), (False, True, False, True))
NEURONS = (40, 16)


def uneven() -> Units:
    """Two layers, of which one loses a head and 24 neurons, the other two heads and 48."""
    neurons = []
    for seed, count in enumerate(NEURONS):
        mask = np.zeros(64, bool)
        mask[np.random.default_rng(seed).permutation(64)[:count]] = True
        neurons.append(mask)
    return Units(tuple(np.array(mask) for mask in HEADS), tuple(neurons))


def even() -> Units:
    """Two layers that lose the same number of neurons each, and no head."""
    return Units((np.ones(4, bool),) * 2, (np.arange(64) % 2 == 0, np.arange(64) < 32))


def blocks_of(model):
    return blocks(model, architecture_of(model.config))


def classifier(model_type: str):
    """Two layers whose weights are large enough for heads, neurons and masks to matter."""
    model = tiny.model(model_type, **{"n_layers" if model_type == "distilbert" else "num_hidden_layers": 2})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 or name.endswith("bias"):
                weight.normal_(0, 0.3, generator=generator)
    return model


def slim(model_type: str, kept: Units):
    model = classifier(model_type)
    cut(model, architecture_of(model.config), fitted(kept, model))
    return model


def fitted(kept: Units, model) -> Units:
    """As many of the masks as the model has sets of layer weights: ALBERT has one."""
    count = len(blocks_of(model))
    return Units(kept.heads[:count], kept.neurons[:count])


def masks_of(kept: Units):
    return {"heads": tuple(map(torch.from_numpy, kept.heads)), "neurons": tuple(map(torch.from_numpy, kept.neurons))}


def batch(model_type: str):
    texts = [text for text, _ in tiny.reviews(6)]
    return dict(tiny.tokenizer(model_type)(texts, padding=True, return_tensors="pt"))


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


# --- surgery --------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_model_without_its_silent_units_answers_as_the_one_that_has_them(model_type):
    silent, kept = classifier(model_type), uneven()
    before = logits(silent, batch(model_type))
    silence(blocks_of(silent), masks_of(fitted(kept, silent)))
    smaller = slim(model_type, kept)
    expected = logits(silent, batch(model_type))
    torch.testing.assert_close(logits(smaller, batch(model_type)), expected, rtol=0, atol=1e-5)
    assert (before - expected).abs().max() > 0.1  # the cut is felt at all


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_is_cut_is_gone_from_all_matrices_of_the_layer(model_type):
    whole, model = classifier(model_type), slim(model_type, uneven())
    for old, block, heads, neurons in zip(blocks_of(whole), blocks_of(model), (3, 2), NEURONS, strict=False):
        assert (block.heads, block.neurons) == (heads, neurons)
        shapes = [
            (before.weight.shape[0] * heads // 4, after.weight.shape[0])
            for before, after in zip(old.inward, block.inward, strict=True)
        ]
        assert all(expected == met for expected, met in shapes)
        assert block.output.weight.shape == (32, heads * 8)
        assert block.widen.weight.shape == (old.widen.weight.shape[0] * neurons // 64, 32)
        assert block.narrow.weight.shape == (32, neurons)
        for linear in (*block.inward, block.output, block.widen, block.narrow):
            assert linear.weight.shape == (linear.out_features, linear.in_features)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_model_that_is_cut_twice_is_the_one_that_is_cut_at_once(model_type):
    first = Units((np.array([True, True, True, False]), np.array([False, True, True, True])), (np.arange(64) < 48,) * 2)
    second = Units((np.array([False, True, True]), np.array([True, True, False])), (np.arange(48) < 32,) * 2)
    both = Units(
        (np.array([False, True, True, False]), np.array([False, True, True, False])), (np.arange(64) < 32,) * 2
    )
    twice = slim(model_type, first)
    cut(twice, architecture_of(twice.config), fitted(second, twice))
    once = slim(model_type, both)
    assert getattr(twice.config, KEY) == getattr(once.config, KEY)
    torch.testing.assert_close(logits(twice, batch(model_type)), logits(once, batch(model_type)))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_an_encoder_without_a_head_is_cut_too(model_type):
    whole = classifier(model_type)
    encoder = copy.deepcopy(whole).base_model
    for model in (encoder, whole):
        cut(model, architecture_of(model.config), fitted(uneven(), model))
    states = [model(**batch(model_type)).last_hidden_state for model in (encoder, whole.base_model)]
    torch.testing.assert_close(*states)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_specimen_has_the_size_that_was_asked_for_and_runs(model_type):
    model = classifier(model_type)
    before = logits(model, batch(model_type))
    for point in (Point(1, 1, 16), Point(2, 3, 48), Point(2, 4, 64)):
        found = specimen(model, architecture_of(model.config), point)
        runs = 1 if ARCHITECTURES[model_type].shared else point.layers
        assert [(block.heads, block.neurons) for block in blocks_of(found)] == [(point.heads, point.neurons)] * runs
        answers = logits(found, batch(model_type))
        assert (point == Point(2, 4, 64)) == torch.equal(answers, before)
    assert torch.equal(logits(model, batch(model_type)), before)


def test_a_cut_model_learns_on():
    model = slim("mpnet", uneven()).train()
    model(**batch("mpnet")).logits.sum().backward()
    assert all(part.weight.grad.abs().sum() > 0 for block in blocks_of(model) for part in block.inward)


def test_what_is_silent_is_read_from_the_weights():
    model, kept = classifier("bert"), uneven()
    silence(blocks_of(model), masks_of(kept))
    found = audible(blocks_of(model))
    assert [mask.tolist() for mask in found.heads] == [list(mask) for mask in HEADS]
    assert all(np.array_equal(one, other) for one, other in zip(found.neurons, kept.neurons, strict=True))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_cut_will_leave_of_each_product_is_known_before(model_type):
    model = classifier(model_type)
    kept, architecture = fitted(uneven(), model), architecture_of(model.config)
    products = encoder_weights(model, architecture)
    left = remaining(blocks_of(model), kept)
    expected = [weight.detach()[left[id(weight)]] for weight in products]
    cut(model, architecture, kept)
    for weight, values in zip(encoder_weights(model, architecture), expected, strict=True):
        assert torch.equal(weight.detach().flatten(), values)


def test_masks_of_another_model_and_empty_layers_are_refused():
    model = classifier("bert")
    with pytest.raises(ValueError, match=r"masks for \(heads, neurons\) \[\(4, 8\), \(4, 8\)\] do not fit layers of"):
        cut(model, architecture_of(model.config), everything((4, 4), (8, 8)))
    with pytest.raises(ValueError, match="without a head or a neuron"):
        cut(model, architecture_of(model.config), Units((np.zeros(4, bool),) * 2, (np.ones(64, bool),) * 2))


def test_a_family_with_other_products_is_refused():
    model = tiny.model("mobilebert")
    with pytest.raises(TeacherError, match="Heads and neurons of 'mobilebert' models cannot be pruned"):
        blocks_of(model)


# --- reload ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("kept", [uneven(), even()], ids=["uneven", "even"])
def test_a_saved_student_is_reloaded_with_the_same_logits(model_type, kept, tmp_path):
    model = slim(model_type, kept)
    model.save_pretrained(tmp_path)
    again = load_student(tmp_path)
    assert type(again) is type(model)
    assert not again.training
    assert torch.equal(logits(again, batch(model_type)), logits(model, batch(model_type)))
    again.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/config.json").read_text() == (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_even_feed_forward_nets_are_reloaded_by_plain_transformers(model_type, tmp_path):
    model = slim(model_type, even())
    model.save_pretrained(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert not needs_load_student(tmp_path)
    assert torch.equal(logits(plain, batch(model_type)), logits(model, batch(model_type)))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_plain_transformers_refuses_what_it_would_get_wrong(model_type, tmp_path, caplog):
    slim(model_type, uneven()).save_pretrained(tmp_path)
    assert needs_load_student(tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_masked_language_model_is_reloaded_though_its_tied_weights_are_in_the_file_once(model_type, tmp_path):
    model = tiny.model(
        model_type, kind="fill-mask", **{"n_layers" if model_type == "distilbert" else "num_hidden_layers": 2}
    )
    cut(model, architecture_of(model.config), fitted(uneven(), model))
    model.save_pretrained(tmp_path)
    again = load_student(tmp_path)
    assert torch.equal(logits(again, batch(model_type)), logits(model, batch(model_type)))
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


def test_a_file_without_one_of_the_weights_is_refused(tmp_path):
    slim("bert", uneven()).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("classifier.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ManifestError, match=r"weights are missing or too many: classifier\.weight"):
        load_student(tmp_path)


def test_a_student_that_was_not_cut_is_loaded_as_it_is(tmp_path):
    model = classifier("electra")
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(load_student(tmp_path), batch("electra")), logits(model, batch("electra")))


def test_a_folder_without_a_config_needs_no_loader(tmp_path):
    assert not needs_load_student(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert not needs_load_student(tmp_path)


def test_an_incomplete_or_mixed_up_folder_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"config\.json is missing"):
        load_student(tmp_path)
    slim("bert", uneven()).save_pretrained(tmp_path)
    slim("bert", even()).save_pretrained(tmp_path / "other")
    (tmp_path / "other/config.json").replace(tmp_path / "config.json")
    with pytest.raises(ManifestError, match="size mismatch"):
        load_student(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ManifestError, match="cannot be loaded"):
        load_student(tmp_path)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"heads": [[0]], "neurons": [8]}, "speaks of 1 layers, the config of 2"),
        ({"heads": "all"}, "not heads and neurons of each layer"),
    ],
)
def test_widths_that_make_no_sense_are_refused(widths, message, tmp_path):
    model = classifier("bert")
    setattr(model.config, KEY, widths)
    model.save_pretrained(tmp_path)
    with pytest.raises(ManifestError, match=message):
        load_student(tmp_path)


# --- export ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", [pytest.param("bert", marks=pytest.mark.slow), "mpnet"])
def test_uneven_layers_are_exported_fused_and_quantized(model_type, tmp_path):
    names = tiny.tokenizer(model_type).model_input_names
    batches = parity.parity_batches(exported.texts(model_type), names, 0, exported.MAX_LENGTH)
    model = slim(model_type, uneven())
    made = exported.run(model_type, model, batches, tmp_path / "model.onnx")
    assert all(count.found == count.expected for count in made.fusions)
    difference = np.concatenate(parity.torch_logits(model, batches)) - np.concatenate(
        parity.onnx_logits(made.path, batches)
    )
    assert np.abs(difference).max() <= 1e-4
    for mode in ("per-token", "dynamic"):
        small = quantize_onnx(
            made.path, tmp_path / "int8.onnx", target="any", mode=mode, expected=12, batches=batches,
            calibration=lambda: batches,
        )  # fmt: skip
        assert small.quantized == 12


# --- importance -----------------------------------------------------------------------------


def _loss(model, inputs):
    rows = torch.arange(len(inputs["input_ids"]), device=model.device) % 2
    return torch.nn.functional.cross_entropy(model(**inputs).logits, rows)


# The weights of an ALBERT layer are run several times, which one gate cannot tell apart.
@pytest.mark.parametrize("model_type", [name for name in FAMILIES if not ARCHITECTURES[name].shared])
def test_taylor_importance_is_the_gradient_of_a_gate_on_each_unit(model_type):
    model = classifier(model_type)
    found = taylor(model, blocks_of(model), [batch(model_type)], _loss)
    expected = _gate_gradients(model, batch(model_type))
    for one, other in zip((*found.heads, *found.neurons), (*expected.heads, *expected.neurons), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
        assert one.max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def _gate_gradients(model, inputs):
    """The definition, slowly: real gates, one example at a time."""
    parts, gates, hooks = blocks_of(model), [], []
    for block in parts:
        for linear, units in ((block.output, block.heads), (block.narrow, block.neurons)):
            gate = torch.ones(units, requires_grad=True)
            gates.append(gate)
            width = linear.in_features // units
            hooks.append(
                linear.register_forward_pre_hook(
                    lambda _, entered, gate=gate, width=width: (entered[0] * gate.repeat_interleave(width),)
                )
            )
    totals = [torch.zeros_like(gate) for gate in gates]
    rows = len(inputs["input_ids"])
    for row in range(rows):
        answer = model(**{name: value[row : row + 1] for name, value in inputs.items()}).logits
        loss = torch.nn.functional.cross_entropy(answer, torch.tensor([row % 2]))
        gradients = torch.autograd.grad(loss, gates)
        totals = [total + found.abs() / rows for total, found in zip(totals, gradients, strict=True)]
    for hook in hooks:
        hook.remove()
    return Units(tuple(total.numpy() for total in totals[::2]), tuple(total.numpy() for total in totals[1::2]))


def test_taylor_importance_counts_every_example_alike():
    model = classifier("bert")
    whole = batch("bert")
    parts = [{name: value[start:stop] for name, value in whole.items()} for start, stop in ((0, 2), (2, 6))]
    one, other = (taylor(model, blocks_of(model), batches, _loss) for batches in ([whole], parts))
    np.testing.assert_allclose(one.heads[0], other.heads[0], rtol=1e-4)
    np.testing.assert_allclose(one.neurons[1], other.neurons[1], rtol=1e-4, atol=1e-8)


def test_evaluation_leaves_no_trace_in_the_importance():
    model = classifier("bert")
    watch = Taylor(blocks_of(model))
    watch.attach()
    logits(model, batch("bert"))
    assert not any(scores.any() for scores in watch.read().heads)
    watch.detach()
    _loss(model, batch("bert")).backward()
    assert not any(scores.any() for scores in watch.read().heads)


@torch.no_grad()
def test_magnitude_is_the_norm_of_all_weights_that_go_with_a_unit():
    model = classifier("distilbert")
    block, found = blocks_of(model)[0], magnitude(blocks_of(model))
    rows = slice(8, 16)  # the second head
    owned = [part.weight[rows].flatten() for part in block.inward]
    owned.append(block.output.weight[:, rows].flatten())
    assert found.heads[0][1] == pytest.approx(float(torch.cat(owned).norm()), rel=1e-5)
    owned = [block.widen.weight[5], block.narrow.weight[:, 5]]
    assert found.neurons[0][5] == pytest.approx(float(torch.cat(owned).norm()), rel=1e-5)


def test_shares_of_a_block_add_up_to_one_even_where_nothing_was_measured():
    found = shares(Units((np.array([1.0, 3.0]), np.zeros(4)), (np.array([2.0, 2.0]),)))
    assert [share.tolist() for share in found.heads] == [[0.25, 0.75], [0.25] * 4]
    assert found.neurons[0].tolist() == [0.5, 0.5]
