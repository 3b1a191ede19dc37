"""Training on the CPU computes attention plainly, and leaves the model as it found it."""

from pathlib import Path

import pytest
import torch

from compressor.tasks import TASKS
from compressor.training.on_cpu import fast_on_cpu, point_out_bfloat16
from tests import tiny


def attention(model):
    return {part.config._attn_implementation for part in model.modules() if hasattr(part, "config")}


def forward(model, kind="single-label"):
    batch = tiny.tokenizer()(["good good bad", "bad"], padding=True, return_tensors="pt")
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


@pytest.mark.parametrize("model_type", list(tiny.CONFIGS))
def test_every_family_answers_the_same_within_and_has_its_attention_again_afterwards(model_type):
    model = tiny.model(model_type)
    before, answer = attention(model), forward(model).logits
    with fast_on_cpu(model, "cpu", 256):
        assert attention(model) == {"eager"}
        assert torch.allclose(forward(model).logits, answer, atol=1e-5)
    assert attention(model) == before
    assert torch.equal(forward(model).logits, answer)


def test_it_has_its_attention_again_after_an_interruption():
    model = tiny.model("bert")
    with pytest.raises(KeyboardInterrupt), fast_on_cpu(model, "cpu", 256):
        raise KeyboardInterrupt
    assert attention(model) == {"sdpa"}


def test_on_a_gpu_nothing_changes():
    model = tiny.model("bert")
    with fast_on_cpu(model, "cuda:0", 16):
        assert attention(model) == {"sdpa"}


@pytest.mark.parametrize("longest", [257, None])
def test_attention_over_long_rows_stays_as_it_is(longest):
    model = tiny.model("bert")
    with fast_on_cpu(model, "cpu", longest):
        assert attention(model) == {"sdpa"}


@pytest.mark.parametrize("kind", sorted(TASKS))
def test_every_task_has_plain_attention(kind):
    model = tiny.model("bert", kind=kind)
    with fast_on_cpu(model, "cpu", 256):
        assert attention(model) == {"eager"}


@pytest.mark.parametrize(
    ("flags", "device", "precision", "named"),
    [
        ("fma avx2 avx512f avx512_bf16", "cpu", "fp32", "avx512_bf16"),
        ("fma avx2 avx512f avx512_bf16 amx_tile amx_bf16", "cpu", "fp32", "amx_bf16"),
        ("fma avx2 avx512f avx512_bf16", "cpu", "bf16", None),
        ("fma avx2 avx512f avx512_bf16", "cuda:0", "fp32", None),
        ("fma avx2 avx512f", "cpu", "fp32", None),
    ],
)
def test_a_cpu_that_multiplies_bfloat16_is_pointed_out(
    tmp_path: Path, flags: str, device: str, precision: str, named: str | None
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    told: list[str] = []
    point_out_bfloat16(device, precision, lambda note: told.append(note.text), tmp_path)
    assert [f"({named})" in note for note in told] == ([] if named is None else [True])
