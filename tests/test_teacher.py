"""Telling a trained head from none, refusing what cannot teach, and loading exactly what the files hold."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
)

from compressor import teacher
from compressor.architectures import ARCHITECTURES
from compressor.errors import TeacherError
from compressor.events import Event, Note
from compressor.heads import outputs
from compressor.pooling import Pooling
from compressor.tasks import TASKS, Kind
from compressor.teacher import TeacherFacts
from compressor.teacher.hub import open_folder
from tests import tiny

DAMAGED = "The folder was assembled from different models, or is damaged: download or save it again."
FAMILIES = sorted(tiny.CONFIGS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT classifier, to be changed by a test."""
    return tiny.teacher_folder(tmp_path / "teacher")


def look(path: Path, listen: Callable[[Event], None] = lambda event: None, **asked: Any) -> TeacherFacts:
    return teacher.inspect(open_folder(path, "mine"), listen, **asked)


def refusal(path: Path) -> TeacherError:
    with pytest.raises(TeacherError) as caught:
        look(path)
    return caught.value


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(dict(load_file(path))), path, metadata={"format": "pt"})


def inputs(family: str = "bert") -> Any:
    return tiny.tokenizer(family)(["a fine film", "the plot was weak and dull"], padding=True, return_tensors="pt")


# --- inspect --------------------------------------------------------------------------------


def test_every_supported_family_has_a_tiny_config() -> None:
    assert set(ARCHITECTURES) <= set(tiny.CONFIGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_classifier_is_seen_to_have_a_head_with_its_labels(family: str, tmp_path: Path) -> None:
    facts = look(tiny.teacher_folder(tmp_path, family, labels=("bad", "good", "mixed")))
    assert (facts.has_head, facts.labels) == (True, ("bad", "good", "mixed"))
    assert facts.parameters == tiny.model(family, labels=("bad", "good", "mixed")).num_parameters()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pre_trained_encoder_is_seen_to_have_none(family: str, tmp_path: Path) -> None:
    facts = look(tiny.headless_folder(tmp_path, family))
    assert (facts.has_head, facts.labels) == (False, None)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_sequence_leaves_out_reserved_positions(family: str, tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, family)
    edit(folder / "tokenizer_config.json", model_max_length=int(1e30))
    facts = look(folder)
    assert facts.max_length == 64
    model = teacher.load(open_folder(folder, "mine"), facts).model
    longest = torch.full((1, facts.max_length), 7)
    assert model(input_ids=longest, attention_mask=torch.ones_like(longest)).logits.isfinite().all()


def test_a_shorter_limit_of_the_tokenizer_counts(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", model_max_length=20)
    assert look(folder).max_length == 20


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("bert", ("input_ids", "attention_mask", "token_type_ids")),
        ("roberta", ("input_ids", "attention_mask")),
        ("distilbert", ("input_ids", "attention_mask")),
        ("mpnet", ("input_ids", "attention_mask")),
    ],
)
def test_inputs_are_those_that_carry_information(family: str, names: tuple[str, ...], tmp_path: Path) -> None:
    assert look(tiny.teacher_folder(tmp_path, family)).input_names == names


def test_a_masked_language_model_keeps_its_encoder_and_loses_its_head_with_a_note(folder: Path) -> None:
    BertForMaskedLM(tiny.model().config).save_pretrained(folder)
    heard: list[Event] = []
    assert look(folder, heard.append).has_head is False
    assert heard == [Note("mine is a BertForMaskedLM: its head is for another task and is replaced by a new one.")]


def test_a_tagger_with_a_fitting_head_is_not_taken_for_a_classifier(folder: Path) -> None:
    """Its head has the very names and shapes of a text classifier's."""
    BertForTokenClassification(tiny.model().config).save_pretrained(folder)
    heard: list[Event] = []
    assert look(folder, heard.append, task="text-classification").has_head is False
    assert heard == [
        Note("mine is a BertForTokenClassification: its head is for another task and is replaced by a new one.")
    ]


def test_model_code_is_accepted_with_a_flag_and_never_run(folder: Path) -> None:
    code = {"AutoConfig": "mine.Config", "AutoModelForSequenceClassification": "mine.Model"}
    edit(folder / "config.json", auto_map=code)
    (folder / "mine.py").write_text("raise SystemExit('it ran')")
    told: list[Event] = []
    checkpoint = open_folder(folder, "mine", trust_remote_code=True)
    tutor = teacher.load(checkpoint, teacher.inspect(checkpoint, told.append, trust_remote_code=True))
    assert type(tutor.model).__module__.startswith("transformers.models.bert")
    assert not hasattr(tutor.model.config, "auto_map")
    assert [event.text.partition(":")[0] for event in told if isinstance(event, Note)] == [
        "The model code of mine is not used"
    ]


@pytest.mark.parametrize("gone", ["classifier.bias", "bert.pooler.dense.weight"])
def test_an_incomplete_head_counts_as_none_with_a_note(folder: Path, gone: str) -> None:
    edit_weights(folder, lambda tensors: {key: value for key, value in tensors.items() if key != gone})
    heard: list[Event] = []
    assert look(folder, heard.append).has_head is False
    assert heard == [Note(f"The head of mine is incomplete ({gone} is missing): it is replaced by a new one.")]


def test_a_head_and_a_label_map_of_different_sizes_are_an_error(folder: Path) -> None:
    edit(folder / "config.json", id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2})
    error = refusal(folder)
    assert error.message == "The head of mine has 2 outputs, but its config names 3 labels."
    assert error.remedy == "Correct id2label and label2id in config.json."


def test_one_output_is_a_regression(tmp_path: Path) -> None:
    facts = look(tiny.teacher_folder(tmp_path, labels=("score",)))
    assert (facts.task.kind, facts.has_head, facts.labels) == ("regression", True, ("score",))


def test_several_outputs_are_no_regression(folder: Path) -> None:
    edit(folder / "config.json", problem_type="regression")
    assert refusal(folder).message == (
        "The head of mine predicts 2 values; only a regression of one value is supported."
    )


def test_one_output_to_choose_from_is_refused(tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, kind="token-classification", labels=("O",))
    assert refusal(folder).message == (
        "The head of mine has one output, but is for token-classification: there is nothing to choose from."
    )


@pytest.mark.parametrize("kind", TASKS)
def test_the_head_decides_the_task(kind: Kind, tmp_path: Path) -> None:
    """But for masked words and sentence embeddings, which have to be asked for."""
    folder = tiny.teacher_folder(tmp_path, kind=kind)
    task = TASKS[kind]
    found = look(folder, task=task.name if kind in ("fill-mask", "feature-extraction") else None)
    assert (found.task, found.has_head, found.problem_open) == (task, True, False)
    assert found.labels == (tiny.LABELS[kind] if task.named else None)


@pytest.mark.parametrize("kind", ["fill-mask", "feature-extraction"])
def test_a_pre_trained_model_or_sentence_encoder_is_to_become_a_classifier_by_default(
    kind: Kind, tmp_path: Path
) -> None:
    facts = look(tiny.teacher_folder(tmp_path, kind=kind))
    assert (facts.task.kind, facts.has_head, facts.problem_open, facts.pooling) == ("single-label", False, True, None)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_the_user_may_say_which_kind_of_classifier_a_new_head_is_for(problem: Any, tmp_path: Path) -> None:
    facts = look(tiny.headless_folder(tmp_path), problem_type=problem)
    assert (facts.task.problem_type, facts.has_head, facts.problem_open) == (problem, False, False)


def test_a_head_whose_config_does_not_say_so_can_be_a_multi_label_one(folder: Path) -> None:
    facts = look(folder, problem_type="multi_label_classification")
    assert (facts.task.kind, facts.has_head) == ("multi-label", True)


@pytest.mark.parametrize(
    ("labels", "problem", "outputs"),
    [
        (("no", "yes"), "regression", "2 outputs, which does not make a regression model"),
        (("score",), "single_label_classification", "1 output, which does not make a single-label model"),
    ],
)
def test_a_head_of_another_kind_than_was_asked_for_is_replaced_with_a_note(
    labels: tuple[str, ...], problem: Any, outputs: str, tmp_path: Path
) -> None:
    heard: list[Event] = []
    facts = look(tiny.teacher_folder(tmp_path, labels=labels), heard.append, problem_type=problem)
    assert (facts.task.problem_type, facts.has_head) == (problem, False)
    assert heard == [Note(f"The head of mine has {outputs}: it is replaced by a new one.")]


def test_a_family_that_cannot_do_a_task_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.teacher.inspection.supported", lambda architecture, task: "it has no such head")
    error = refusal(folder)
    assert error.message == "A bert model cannot be compressed for text-classification: it has no such head."
    assert error.remedy == "Choose another task, or a model of another family."


def test_masked_words_need_a_tokenizer_with_a_mask(tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, kind="fill-mask")
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if "mask" not in key})
    )
    with pytest.raises(TeacherError, match="has no mask token, which --task fill-mask needs"):
        look(folder, task="fill-mask")


def test_a_sentence_encoder_is_pooled_as_its_folder_says(tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, kind="feature-extraction")
    mean = look(folder, task="feature-extraction")
    edit(folder / "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)
    edit(folder / "sentence_bert_config.json", max_seq_length=17)
    first = look(folder, task="feature-extraction")
    assert (mean.pooling, mean.max_length) == (Pooling("mean", True, 64), 64)
    assert (first.pooling, first.max_length) == (Pooling("cls", True, 17), 17)
    assert first.fingerprint != mean.fingerprint


def test_a_plain_encoder_gives_embeddings_with_a_note_about_its_pooling(tmp_path: Path) -> None:
    heard: list[Event] = []
    facts = look(tiny.headless_folder(tmp_path), heard.append, task="feature-extraction")
    assert (facts.has_head, facts.pooling) == (True, Pooling())
    assert heard == [
        Note(
            "mine does not say how it pools (there is no modules.json): the mean of its tokens is taken, and normalised."
        )
    ]


def test_a_label_named_twice_is_refused(folder: Path) -> None:
    edit(folder / "config.json", id2label={"0": "good", "1": "good"})
    assert refusal(folder).message == "id2label of mine names 'good' twice."


def test_label_numbers_with_a_gap_are_refused(folder: Path) -> None:
    edit(folder / "config.json", id2label={"0": "bad", "2": "good"})
    assert refusal(folder).message == "id2label of mine numbers its labels [0, 2], not 0 to 1."


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
            "mine is a decoder: gpt2 (GPT2LMHeadModel). Only encoders can be compressed.",
        ),
        (
            {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
            "mine is a decoder: llama (LlamaForSequenceClassification). Only encoders can be compressed.",
        ),
        (
            {"model_type": "unheard-of", "architectures": ["UnheardForCausalLM"]},
            "mine is a decoder: unheard-of (UnheardForCausalLM). Only encoders can be compressed.",
        ),
        ({"is_decoder": True}, "mine is a decoder: bert (BertForSequenceClassification). Only encoders can be compressed."),
        (
            {"model_type": "t5", "is_encoder_decoder": True, "architectures": ["T5ForConditionalGeneration"]},
            "mine is an encoder-decoder: t5 (T5ForConditionalGeneration). Only encoders can be compressed.",
        ),
        ({"model_type": "vit", "architectures": ["ViTForImageClassification"]}, "Model type 'vit' is not supported."),
        ({"model_type": "unheard-of"}, "Model type 'unheard-of' is not supported."),
        ({"model_type": None}, "The config of mine names no model_type."),
    ],
)  # fmt: skip
def test_what_is_no_supported_encoder_is_named(folder: Path, config: dict[str, object], message: str) -> None:
    edit(folder / "config.json", **config)
    assert refusal(folder).message == message


def test_a_config_of_another_size_is_an_error(folder: Path) -> None:
    edit(folder / "config.json", hidden_size=64)
    error = refusal(folder)
    assert error.message == (
        "mine: bert.embeddings.word_embeddings.weight has the shape (41, 32) in the weights, and (41, 64) by config.json."
    )
    assert error.remedy == DAMAGED


def test_a_config_that_describes_no_model_is_an_error(folder: Path) -> None:
    edit(folder / "config.json", num_attention_heads=5)
    assert refusal(folder).message.startswith("The config of mine does not describe a model: The hidden size (32)")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (5, "mine lacks 16 of the encoder's weights that config.json promises, such as bert.encoder.layer.4."),
        (3, "mine has 16 encoder weights that config.json knows nothing of, such as bert.encoder.layer.3."),
    ],
)
def test_more_or_fewer_layers_than_the_config_says_are_an_error(folder: Path, layers: int, message: str) -> None:
    edit(folder / "config.json", num_hidden_layers=layers)
    assert refusal(folder).message.startswith(message)


def test_names_of_the_first_checkpoints_are_understood(folder: Path) -> None:
    """bert-base-uncased calls its layer norms gamma and beta to this day."""

    def old(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        swap = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new, before in swap.items():
            tensors = {key.replace(new, before): value for key, value in tensors.items()}
        return tensors

    checkpoint = open_folder(folder, "mine")
    expected = teacher.load(checkpoint, teacher.inspect(checkpoint)).model(**inputs()).logits
    edit_weights(folder, old)
    checkpoint = open_folder(folder, "mine")
    found = teacher.load(checkpoint, teacher.inspect(checkpoint)).model(**inputs()).logits
    assert torch.equal(found, expected)


# --- the tokenizer --------------------------------------------------------------------------


def test_a_larger_vocabulary_than_the_models_is_refused(folder: Path) -> None:
    tokenizer = tiny.tokenizer()
    size = len(tokenizer)
    tokenizer.add_tokens(["brandnew", "words"])
    tokenizer.save_pretrained(folder)
    assert refusal(folder).message == f"The tokenizer of mine has {size + 2} tokens, its model only {size}."


def test_a_tokenizer_without_padding_is_refused(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "pad_token"})
    )
    assert refusal(folder).message == "The tokenizer of mine has no padding token, so that texts cannot be batched."


def test_an_empty_vocabulary_is_refused(folder: Path) -> None:
    """transformers builds a tokenizer of special tokens from it, without a word."""
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("")
    assert refusal(folder).message == "The tokenizer of mine knows only 5 special tokens and no word."


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel"}}']
)
def test_a_damaged_tokenizer_is_named(folder: Path, content: str) -> None:
    (folder / "tokenizer.json").write_text(content)
    assert refusal(folder).message.startswith("The tokenizer of mine cannot be loaded: ")


def test_another_padding_id_would_shift_positions_and_is_refused(tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, "roberta")
    edit(folder / "config.json", pad_token_id=1)
    assert refusal(folder).message == "mine pads with token 0 by its tokenizer, 1 by its config."


def test_a_sentencepiece_vocabulary_in_its_fast_form_is_loaded(tmp_path: Path) -> None:
    """XLM-R, CamemBERT, ALBERT and DeBERTa come with one."""
    pieces = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    inner = Tokenizer(
        models.Unigram([*pieces, *((f"▁{word}", -2.0) for word in tiny.NEUTRAL), ("▁", -5.0), ("好", -3.0)], unk_id=3)
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tiny.model("xlm-roberta", pad_token_id=1, bos_token_id=0, eos_token_id=2).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>",
        mask_token="<mask>", model_max_length=64,
    ).save_pretrained(tmp_path)  # fmt: skip
    edit(tmp_path / "tokenizer_config.json", tokenizer_class="XLMRobertaTokenizer")
    found = look(tmp_path).tokenizer
    assert found.is_fast
    assert found.convert_ids_to_tokens(found("the film 好")["input_ids"]) == ["<s>", "▁the", "▁film", "▁", "好", "</s>"]


# --- load -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loaded_teacher_computes_what_transformers_computes(family: str, tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, family)
    checkpoint = open_folder(folder, "mine")
    found = teacher.load(checkpoint, teacher.inspect(checkpoint))
    expected = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert torch.equal(found.model(**inputs(family)).logits, expected(**inputs(family)).logits)
    assert not found.model.training
    assert (found.labels, found.fine_tuned, found.name) == (("negative", "positive"), False, "mine")


def test_half_precision_weights_are_loaded_as_fp32(folder: Path) -> None:
    tiny.model().half().save_pretrained(folder)
    checkpoint = open_folder(folder, "mine")
    model = teacher.load(checkpoint, teacher.inspect(checkpoint)).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_teacher_without_a_head_is_never_loaded_with_a_random_one(tmp_path: Path) -> None:
    checkpoint = open_folder(tiny.headless_folder(tmp_path), "mine")
    with pytest.raises(ValueError, match="mine has no head: use with_new_head"):
        teacher.load(checkpoint, teacher.inspect(checkpoint))


def test_a_head_that_vanishes_between_inspection_and_loading_is_caught(folder: Path) -> None:
    checkpoint = open_folder(folder, "mine")
    facts = teacher.inspect(checkpoint)
    edit_weights(folder, lambda tensors: {key: value for key, value in tensors.items() if "classifier" not in key})
    with pytest.raises(TeacherError) as caught:
        teacher.load(checkpoint, facts)
    assert caught.value.message == "mine lacks 2 weights that its model needs, such as classifier.bias."


def test_weights_that_are_not_numbers_are_refused(folder: Path) -> None:
    edit_weights(folder, lambda tensors: {**tensors, "classifier.bias": torch.tensor([0.0, float("nan")])})
    checkpoint = open_folder(folder, "mine")
    with pytest.raises(TeacherError) as caught:
        teacher.load(checkpoint, teacher.inspect(checkpoint))
    assert caught.value.message == "mine has weights that are not numbers (NaN or infinite): classifier.bias."


def test_loading_is_silent_and_leaves_logging_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By itself transformers reports every missing weight, and draws a bar."""
    checkpoint = open_folder(tiny.headless_folder(tmp_path), "mine")
    root, records = logging.getLogger("transformers"), []
    listener = logging.Handler()
    listener.emit = records.append  # type: ignore[method-assign]
    level = root.level
    root.addHandler(listener)
    capfd.readouterr()
    try:
        teacher.with_new_head(checkpoint, teacher.inspect(checkpoint), ("no", "yes"), seed=1)
    finally:
        root.removeHandler(listener)
    assert (records, capfd.readouterr()) == ([], ("", ""))
    assert root.level == level


# --- a new head -----------------------------------------------------------------------------


def fresh(path: Path, labels: tuple[str, ...] = ("no", "maybe", "yes"), seed: int = 7) -> Any:
    checkpoint = open_folder(path, "mine")
    return teacher.with_new_head(checkpoint, teacher.inspect(checkpoint), labels, seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_head_stands_on_the_pre_trained_encoder(family: str, tmp_path: Path) -> None:
    folder = tiny.headless_folder(tmp_path, family)
    found = fresh(folder)
    saved = load_file(folder / "model.safetensors")
    held = found.model.base_model.state_dict()
    assert saved.keys() == held.keys()
    assert all(torch.equal(held[key], value) for key, value in saved.items())
    assert found.model(**inputs(family)).logits.shape == (2, 3)
    assert not found.model.training


def test_a_new_head_carries_its_label_names_into_the_config(tmp_path: Path) -> None:
    found = fresh(tiny.headless_folder(tmp_path / "in"))
    assert (found.labels, found.fine_tuned) == (("no", "maybe", "yes"), False)
    found.model.save_pretrained(tmp_path / "out")
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "no", 1: "maybe", 2: "yes"}
    assert config.label2id == {"no": 0, "maybe": 1, "yes": 2}
    assert config.architectures == ["BertForSequenceClassification"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_seed_alone_decides_the_new_head(family: str, tmp_path: Path) -> None:
    folder = tiny.headless_folder(tmp_path, family)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fresh(folder, seed=7).model.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = fresh(folder, seed=7).model.state_dict()
    other = fresh(folder, seed=8).model.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first if "classifier" in key)


def test_a_head_of_another_task_is_dropped_even_where_it_fits(folder: Path) -> None:
    tagger = BertForTokenClassification(tiny.model().config)
    tagger.save_pretrained(folder)
    found = fresh(folder, labels=("no", "yes"))
    assert not torch.equal(found.model.classifier.weight, tagger.classifier.weight)
    assert torch.equal(
        found.model.bert.embeddings.word_embeddings.weight, tagger.bert.embeddings.word_embeddings.weight
    )


def test_a_new_head_may_have_another_size_than_the_old_one(folder: Path) -> None:
    assert fresh(folder, labels=("a", "b", "c", "d", "e")).model(**inputs()).logits.shape == (2, 5)


def test_a_pooler_that_is_there_is_kept_and_a_missing_one_is_seeded(tmp_path: Path) -> None:
    folder = tiny.headless_folder(tmp_path)
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(fresh(folder).model.bert.pooler.dense.weight, saved["pooler.dense.weight"])
    edit_weights(folder, lambda tensors: {key: value for key, value in tensors.items() if "pooler" not in key})
    one, two = (fresh(folder, seed=3).model.bert.pooler.dense.weight for _ in range(2))
    assert torch.equal(one, two)


def test_a_fine_tuned_teacher_that_was_saved_loads_with_its_head(tmp_path: Path) -> None:
    found = fresh(tiny.headless_folder(tmp_path / "in"))
    found.model.save_pretrained(tmp_path / "out")
    found.tokenizer.save_pretrained(tmp_path / "out")
    checkpoint = open_folder(tmp_path / "out", "mine")
    again = teacher.load(checkpoint, teacher.inspect(checkpoint), fine_tuned=True)
    assert (again.labels, again.fine_tuned) == (("no", "maybe", "yes"), True)
    assert torch.equal(again.model(**inputs()).logits, found.model(**inputs()).logits)


# --- every task -----------------------------------------------------------------------------


def asked(kind: Kind) -> Any:
    """What a user says to get a kind from an encoder without a head."""
    return {"task": TASKS[kind].name, "problem_type": TASKS[kind].problem_type}


def agree(one: Any, two: Any) -> bool:
    """Whether equal weights answered: a product with one column sums in the order that its memory's alignment allows."""
    return bool(torch.allclose(one, two, rtol=0, atol=1e-6))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("kind", TASKS)
def test_a_teacher_of_every_task_computes_what_it_was_saved_with(kind: Kind, family: str, tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, family, kind=kind)
    checkpoint = open_folder(folder, "mine")
    facts = teacher.inspect(checkpoint, **asked(kind))
    found = teacher.load(checkpoint, facts)
    task = TASKS[kind]
    own, expected = (outputs(task, model(**inputs(family))) for model in (found.model, tiny.model(family, kind=kind)))
    assert all(agree(one, two) for one, two in zip(own, expected, strict=True))
    assert (found.task, found.labels) == (task, tiny.LABELS[kind] if task.named else ())


@pytest.mark.parametrize("family", ["bert", "modernbert", "albert", "distilbert"])
@pytest.mark.parametrize("kind", [kind for kind in TASKS if TASKS[kind].head])
def test_a_new_head_of_every_task_is_found_again(kind: Kind, family: str, tmp_path: Path) -> None:
    checkpoint = open_folder(tiny.headless_folder(tmp_path / "in", family), "mine")
    facts = teacher.inspect(checkpoint, **asked(kind))
    assert not facts.has_head
    labels = tiny.LABELS[kind] if TASKS[kind].named else ()
    one, two = (teacher.with_new_head(checkpoint, facts, labels, seed=5) for _ in range(2))
    assert all(torch.equal(value, two.model.state_dict()[key]) for key, value in one.model.state_dict().items())
    one.model.save_pretrained(tmp_path / "out")
    one.tokenizer.save_pretrained(tmp_path / "out")
    checkpoint = open_folder(tmp_path / "out", "mine")
    again = teacher.load(checkpoint, teacher.inspect(checkpoint, task=TASKS[kind].name))
    assert (again.task, again.labels) == (TASKS[kind], labels)
    pairs = zip(
        outputs(one.task, one.model(**inputs(family))), outputs(one.task, again.model(**inputs(family))), strict=True
    )
    assert all(agree(first, second) for first, second in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_head_for_masked_words_shares_the_word_embeddings(family: str, tmp_path: Path) -> None:
    folder = tiny.headless_folder(tmp_path, family)
    checkpoint = open_folder(folder, "mine")
    found = teacher.with_new_head(checkpoint, teacher.inspect(checkpoint, task="fill-mask"), (), seed=1)
    embeddings = found.model.get_input_embeddings().weight
    assert found.model.get_output_embeddings().weight is embeddings
    saved = load_file(folder / "model.safetensors")
    assert any(torch.equal(value, embeddings) for value in saved.values())
    assert found.labels == ()


def test_an_unnamed_regression_gets_a_name(tmp_path: Path) -> None:
    checkpoint = open_folder(tiny.headless_folder(tmp_path), "mine")
    facts = teacher.inspect(checkpoint, problem_type="regression")
    assert teacher.with_new_head(checkpoint, facts, (), seed=1).labels == ("score",)


def test_what_is_not_a_classifier_any_more_names_no_classes(folder: Path) -> None:
    checkpoint = open_folder(folder, "mine")
    facts = teacher.inspect(checkpoint, task="question-answering")
    model = teacher.with_new_head(checkpoint, facts, (), seed=1).model
    assert (model.config.num_labels, model.config.problem_type) == (2, None)
    assert "negative" not in model.config.id2label.values()


def test_a_missing_pooler_does_not_keep_an_encoder_from_embedding(tmp_path: Path) -> None:
    folder = tiny.teacher_folder(tmp_path, kind="feature-extraction")
    edit_weights(folder, lambda tensors: {key: value for key, value in tensors.items() if "pooler" not in key})
    checkpoint = open_folder(folder, "mine")
    facts = teacher.inspect(checkpoint, task="feature-extraction")
    one, two = (teacher.load(checkpoint, facts).model.state_dict() for _ in range(2))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_a_sentence_embedding_needs_no_new_head(tmp_path: Path) -> None:
    checkpoint = open_folder(tiny.headless_folder(tmp_path), "mine")
    with pytest.raises(ValueError, match="mine needs no head for feature-extraction: use load"):
        teacher.with_new_head(checkpoint, teacher.inspect(checkpoint, task="feature-extraction"), (), seed=1)
