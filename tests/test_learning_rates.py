"""Discriminative learning rates: which weight has which."""

import pytest
import torch
from transformers import Trainer, TrainingArguments

from compressor.architectures import ARCHITECTURES
from compressor.training.learning_rates import depth_of, parameter_groups, peak_of
from tests import tiny


def rates(model, row, decay):
    names = {id(weight): name for name, weight in model.named_parameters()}
    return {names[id(weight)]: (group["lr"], group["weight_decay"])
            for group in parameter_groups(model, row, 1.0, decay, 0.01) for weight in group["params"]}  # fmt: skip


def test_every_layer_steps_half_as_far_as_the_one_above_it():
    found = rates(tiny.model("bert"), ARCHITECTURES["bert"], 0.5)
    assert found["classifier.weight"] == (1.0, 0.01)
    assert found["bert.pooler.dense.weight"][0] == 1.0
    assert found["bert.encoder.layer.3.output.dense.weight"][0] == 0.5
    assert found["bert.encoder.layer.0.output.dense.weight"][0] == 0.5**4
    assert found["bert.embeddings.word_embeddings.weight"][0] == 0.5**5


@pytest.mark.parametrize("model_type", sorted(tiny.CONFIGS))
def test_every_weight_of_every_family_has_one_rate(model_type):
    model, row = tiny.model(model_type), ARCHITECTURES[model_type]
    found = rates(model, row, 0.5)
    assert set(found) == {name for name, _ in model.named_parameters()}
    total = len(list(model.get_submodule(row.layers).children()))
    assert {rate for rate, _ in found.values()} == {0.5**depth for depth in range(total + 2)}
    assert all(decay == 0 for name, (_, decay) in found.items() if name.endswith("bias"))
    assert sum(len(group["params"]) for group in parameter_groups(model, row, 1.0, 0.5, 0.01)) == len(found)


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("mpnet.encoder.relative_attention_bias.weight", "mpnet.encoder.layer", 5),
        ("deberta.encoder.rel_embeddings.weight", "deberta.encoder.layer", 5),
        ("albert.encoder.embedding_hidden_mapping_in.weight", "albert.encoder.albert_layer_groups.0.albert_layers", 5),
        ("electra.embeddings_project.weight", "electra.encoder.layer", 5),
        ("model.final_norm.weight", "model.layers", 0),
        ("model.layers.3.mlp.Wi.weight", "model.layers", 1),
        ("classifier.out_proj.weight", "roberta.encoder.layer", 0),
        ("hints.hidden.weight", "bert.encoder.layer", 0),
    ],
)
def test_what_all_layers_share_lies_below_them(name, layers, expected):
    assert depth_of(name, layers, 4) == expected


def test_without_decay_the_groups_are_the_trainers_own(tmp_path):
    model = tiny.model("bert")
    arguments = TrainingArguments(str(tmp_path), learning_rate=3e-4, weight_decay=0.02, use_cpu=True, report_to="none")
    theirs = Trainer(model, arguments).create_optimizer().param_groups
    ours = parameter_groups(model, ARCHITECTURES["bert"], 3e-4, 1.0, 0.02)
    assert len(ours) == len(theirs) == 2
    for own, other in zip(ours, theirs, strict=True):
        assert (own["lr"], own["weight_decay"]) == (other["lr"], other["weight_decay"])
        assert [id(weight) for weight in own["params"]] == [id(weight) for weight in other["params"]]


def test_frozen_weights_are_left_out():
    model = tiny.model("bert")
    model.bert.embeddings.requires_grad_(False)
    groups = parameter_groups(model, ARCHITECTURES["bert"], 1.0, 0.5, 0.01)
    assert min(group["lr"] for group in groups) == 0.5**4
    torch.optim.AdamW(groups)


@pytest.mark.parametrize(("width", "peak"), [(32, 2e-4), (384, 2e-4), (768, 1e-4), (1024, 7.5e-5)])
def test_the_wider_a_student_the_smaller_its_steps(width: int, peak: float) -> None:
    assert peak_of(width) == pytest.approx(peak)
