"""A compressed model answers the same however its texts are batched, and says what is wrong with a folder."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from compressor.errors import CompressorError, ManifestError, ProviderError, UserError
from compressor.graph import files as onnx_files
from compressor.runtime import Predictor, lanes, open_session
from compressor.runtime import session as session_module

from . import deployed
from .tiny import reviews, tokenizer

TEXTS = [text for text, _ in reviews(60)]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deployed.write(tmp_path_factory.mktemp("runtime") / "run")


@pytest.fixture(scope="session")
def predict(original: Path) -> Predictor:
    return Predictor(original, threads=1)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def by_hand(text: str, max_length: int = 16) -> np.ndarray:
    """Logits of one text, from transformers' own token ids."""
    ids = tokenizer()(text, truncation=True, max_length=max_length)["input_ids"]
    return deployed.word_logits()[ids].mean(axis=0)


# --- predictions ----------------------------------------------------------------------------


def test_logits_are_those_of_the_model_on_transformers_token_ids(predict: Predictor) -> None:
    expected = np.stack([by_hand(text) for text in TEXTS])
    logits = predict.logits(TEXTS)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_prediction_holds_the_most_probable_label_and_its_softmax(predict: Predictor) -> None:
    [prediction] = predict("fine superb lovely")
    logits = by_hand("fine superb lovely")
    expected = np.exp(logits) / np.exp(logits).sum()
    assert prediction.label == "positive"
    assert prediction.score == pytest.approx(expected[2], abs=1e-6)
    assert prediction.scores == {"positive": prediction.score}


def test_all_scores_come_best_first_and_add_up_to_one(predict: Predictor) -> None:
    [prediction] = predict("a dull film", top_k=None)
    scores = list(prediction.scores.values())
    assert set(prediction.scores) == set(deployed.LABELS)
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    assert next(iter(prediction.scores)) == prediction.label


def test_top_k_limits_the_scores(predict: Predictor) -> None:
    assert len(predict("a dull film", top_k=2)[0].scores) == 2


def test_calibrated_scores_are_the_softmax_of_logits_over_the_temperature(folder: Path) -> None:
    set_temperature(folder, 2.5)
    plain, calibrated = Predictor(folder, threads=1), Predictor(folder, threads=1, calibrated=True)
    assert (plain.temperature, calibrated.temperature) == (1.0, 2.5)
    logits = plain.logits(TEXTS)
    np.testing.assert_array_equal(calibrated.logits(TEXTS), logits)
    softened = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum(axis=1, keepdims=True)
    found = calibrated(TEXTS)
    assert [item.score for item in found] == pytest.approx(softened.max(axis=1).tolist(), rel=1e-5)
    assert [item.label for item in found] == [item.label for item in plain(TEXTS)]


def test_calibration_that_was_not_fitted_is_refused_and_each_file_has_its_own(folder: Path) -> None:
    set_temperature(folder, 2.5)
    with pytest.raises(ManifestError, match=r"no temperature for onnx/model_quantized\.onnx: its scores cannot be"):
        Predictor(folder, model="int8", threads=1, calibrated=True)


@pytest.mark.parametrize("value", [0, -1.5, "warm", True])
def test_a_temperature_that_is_none_is_refused(folder: Path, value: object) -> None:
    set_temperature(folder, value)
    with pytest.raises(
        ManifestError, match=r"the temperature of onnx/model\.onnx is .* where a number above 0 belongs"
    ):
        Predictor(folder, threads=1)


def test_a_manifest_of_before_temperatures_still_loads(folder: Path) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    for entry in content["files"].values():
        del entry["temperature"]
    path.write_text(json.dumps(content))
    assert Predictor(folder, threads=1)(TEXTS[0])[0].score > 0


def set_temperature(folder: Path, value: object) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["onnx/model.onnx"]["temperature"] = value
    path.write_text(json.dumps(content))


def test_large_logits_do_not_overflow(folder: Path) -> None:
    deployed.save_classifier(folder / "onnx/model.onnx", scale=1e4)
    [prediction] = Predictor(folder, verify=False, threads=1)("fine superb lovely")
    assert prediction.score == pytest.approx(1)


@pytest.mark.parametrize(("batch_size", "max_batch_tokens"), [(1, 2048), (7, 2048), (64, 20), (64, 1), (64, 100)])
def test_batching_changes_neither_order_nor_logits(original: Path, batch_size: int, max_batch_tokens: int) -> None:
    predict = Predictor(original, threads=1, batch_size=batch_size, max_batch_tokens=max_batch_tokens)
    np.testing.assert_allclose(predict.logits(TEXTS), np.stack([by_hand(text) for text in TEXTS]), atol=1e-5)


class Recorder:
    """Stands in for a session and keeps the shapes that it is called with."""

    def __init__(self, session: Any) -> None:
        self.session, self.inputs, self.outputs, self.path = session, session.inputs, session.outputs, session.path
        self.feeds: list[dict[str, np.ndarray]] = []

    def run_all(self, feeds: dict[str, np.ndarray], names: Any) -> Any:
        self.feeds.append(feeds)
        return self.session.run_all(feeds, names)


def test_batches_hold_similar_lengths_and_keep_both_limits(original: Path) -> None:
    predict = Predictor(original, threads=1, batch_size=8, max_batch_tokens=60)
    predict.session = recorder = Recorder(predict.session)  # type: ignore[assignment]
    predict.logits(TEXTS)
    shapes = [feeds["input_ids"].shape for feeds in recorder.feeds]
    assert sum(rows for rows, _ in shapes) == len(TEXTS)
    assert all(rows <= 8 and rows * width <= 60 for rows, width in shapes)
    widths = [width for _, width in shapes]
    assert widths == sorted(widths, reverse=True)
    padding = sum(int((feeds["attention_mask"] == 0).sum()) for feeds in recorder.feeds)
    assert padding < 0.1 * sum(rows * width for rows, width in shapes)


def test_a_long_list_runs_as_one_batch_on_each_core_and_gets_the_same_answers(
    original: Path, predict: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def note(path: Path, **options: Any) -> Any:
        opened.append(options)
        return open_session(path, **options)

    monkeypatch.setattr(lanes, "open_session", note)
    wide = Predictor(original, threads=2, max_batch_tokens=32)
    wide(TEXTS[:4])
    assert not opened  # a short list is not worth a second session
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(wide.logits, [TEXTS] * 4))
    assert opened == [{"threads": 1, "kept": None}]  # callers share it
    for found in answers:
        np.testing.assert_allclose(found, predict.logits(TEXTS), atol=1e-5)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2, "parallel_batches": False}])
def test_nothing_is_loaded_twice_where_it_is_not_wanted_or_useless(
    original: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.delattr(lanes, "open_session")
    assert len(Predictor(original, max_batch_tokens=32, **options)(TEXTS)) == len(TEXTS)


def test_a_large_file_is_held_twice_only_on_request(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MOST_BYTES", 10)
    assert not Predictor(original, threads=2)._lanes.worth(1000)
    assert Predictor(original, threads=2, parallel_batches=True)._lanes.worth(1000)


def test_an_error_in_one_of_many_batches_reaches_the_caller(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Predictor(original, threads=2, max_batch_tokens=32)
    monkeypatch.setattr(lanes, "open_session", lambda path, **_: open_session(path.parent / "nowhere.onnx"))
    with pytest.raises(ManifestError, match=r"nowhere\.onnx"):
        wide(TEXTS)


def test_many_texts_are_taken_chunk_by_chunk(original: Path, predict: Predictor) -> None:
    chunked = Predictor(original, threads=1)
    chunked._way = replace(chunked._way, chunk=7)
    np.testing.assert_allclose(chunked.logits(TEXTS), predict.logits(TEXTS), atol=1e-6)
    assert [found.label for found in chunked(TEXTS)] == [found.label for found in predict(TEXTS)]


def test_padding_uses_the_manifests_id(folder: Path) -> None:
    predict = Predictor(deployed.edit(folder, pad_token_id=4), threads=1)
    predict.session = recorder = Recorder(predict.session)  # type: ignore[assignment]
    predict.logits(["a", "a fine film"])
    [feeds] = recorder.feeds
    assert (feeds["input_ids"][feeds["attention_mask"] == 0] == 4).all()
    assert (feeds["attention_mask"] == 0).sum() == 2


def test_only_the_inputs_that_the_model_declares_are_fed(tmp_path: Path) -> None:
    folder = deployed.write(
        tmp_path, extra_input="token_type_ids", inputs=("input_ids", "attention_mask", "token_type_ids")
    )
    predict = Predictor(folder, threads=1)
    predict.session = recorder = Recorder(predict.session)  # type: ignore[assignment]
    predict.logits(["a fine film"])
    assert list(recorder.feeds[0]) == ["input_ids", "attention_mask", "token_type_ids"]
    assert not recorder.feeds[0]["token_type_ids"].any()


def test_settings_saved_in_the_tokenizer_do_not_count(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["padding"] = {
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "[PAD]",
    }  # fmt: skip
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    logits = Predictor(folder, verify=False, threads=1).logits(TEXTS[:5])
    np.testing.assert_allclose(logits, np.stack([by_hand(text) for text in TEXTS[:5]]), atol=1e-5)


# --- texts ----------------------------------------------------------------------------------


def test_no_texts_give_no_predictions(predict: Predictor) -> None:
    assert predict([]) == []
    assert predict.logits([]).shape == (0, 3)


def test_a_text_may_come_alone_in_a_tuple_or_from_a_generator(predict: Predictor) -> None:
    assert predict("a fine film") == predict(("a fine film",)) == predict(text for text in ["a fine film"])


@pytest.mark.parametrize("text", ["", " ", "\0", "\u200b", "🎬", "e\u0301", "\x85", "[SEP]"])
def test_odd_texts_are_answered_as_transformers_reads_them(predict: Predictor, text: str) -> None:
    np.testing.assert_allclose(predict.logits(text)[0], by_hand(text), atol=1e-5)


def test_ten_thousand_words_are_truncated_to_the_manifests_length(predict: Predictor) -> None:
    text = "fine " * 10_000
    np.testing.assert_allclose(predict.logits(text)[0], by_hand("fine " * 14), atol=1e-5)


def test_a_text_is_cut_on_the_side_where_the_training_cut_it(folder: Path) -> None:
    text = "fine " * 14 + "dull " * 14
    left = Predictor(deployed.edit(folder, truncation_side="left"), threads=1)
    np.testing.assert_allclose(left.logits(text)[0], by_hand("dull " * 14), atol=1e-5)


def test_an_unpaired_surrogate_is_read_as_the_replacement_character(predict: Predictor) -> None:
    np.testing.assert_array_equal(predict.logits(["a \ud83c film"]), predict.logits(["a \ufffd film"]))


def test_a_split_pair_of_surrogates_is_put_together(predict: Predictor) -> None:
    np.testing.assert_array_equal(predict.logits("\ud83c\udfac fine"), predict.logits("🎬 fine"))


def test_an_empty_text_without_special_tokens_is_answered(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    predict = Predictor(folder, verify=False, threads=1)
    with np.errstate(invalid="ignore"):
        assert predict.logits(["", "a fine film"]).shape == (2, 3)
    assert predict.logits([""]).shape == (1, 3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", 3], "Text 1 is of type int, not a str.\nPass a str or a list of str."),
        ([None], "Text 0 is None, not a str.\nPass a str or a list of str."),
        ([("a", "b")], "Text 0 is of type tuple, not a str.\nPass a str or a list of str."),
        (b"a film", "Expected texts, not of type bytes.\nPass a str or a list of str."),
        (None, "Expected texts, not None.\nPass a str or a list of str."),
        ({"text": "a"}, "Expected texts, not of type dict.\nPass a str or a list of str."),
    ],
)
def test_what_is_not_a_text_is_refused(predict: Predictor, texts: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        predict(texts)
    assert str(caught.value) == message


def test_top_k_below_one_is_refused(predict: Predictor) -> None:
    with pytest.raises(UserError, match=r"^top_k is 0\.\nAsk for at least 1 label"):
        predict("a", top_k=0)


def test_concurrent_callers_get_their_own_answers(predict: Predictor) -> None:
    jobs = [TEXTS[start::8] for start in range(8)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(predict.logits, jobs))
    for texts, logits in zip(jobs, found, strict=True):
        np.testing.assert_allclose(logits, np.stack([by_hand(text) for text in texts]), atol=1e-5)


# --- folders --------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "factor"), [(None, 1), ("fp32", 1), ("int8", 2), ("onnx/model_quantized.onnx", 2)])
def test_a_model_is_chosen_by_precision_or_file(original: Path, model: str | None, factor: int) -> None:
    logits = Predictor(original, model=model, threads=1).logits("a fine film")
    np.testing.assert_allclose(logits[0], factor * by_hand("a fine film"), atol=1e-5)


def test_a_model_that_is_not_there_lists_those_that_are(original: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        Predictor(original, model="fp16")
    assert str(caught.value) == (
        f"{original} has no model 'fp16'.\nIt has onnx/model.onnx (fp32), onnx/model_quantized.onnx (int8)."
    )


def test_a_model_beside_the_manifest_is_not_run(folder: Path) -> None:
    shutil.copy(folder / "onnx/model.onnx", folder / "onnx/other.onnx")
    with pytest.raises(ManifestError, match=r"has no model 'onnx/other\.onnx'"):
        Predictor(folder, model="onnx/other.onnx")


def test_a_damaged_model_is_not_run(folder: Path) -> None:
    deployed.damage(folder / "onnx/model.onnx")
    with pytest.raises(ManifestError, match=r"onnx/model\.onnx is damaged"):
        Predictor(folder)


def test_a_swapped_tokenizer_is_not_run(folder: Path) -> None:
    deployed.damage(folder / "tokenizer.json")
    with pytest.raises(ManifestError, match=r"tokenizer\.json is damaged"):
        Predictor(folder)


def test_a_folder_may_be_deployed_without_the_other_model(folder: Path) -> None:
    (folder / "onnx/model.onnx").unlink()
    assert Predictor(folder, model="int8", threads=1)("a fine film")


def test_a_damaged_tokenizer_is_explained_where_checksums_are_not_compared(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(ManifestError, match=r"tokenizer\.json cannot be read: .*\nDownload or copy the folder again\."):
        Predictor(folder, verify=False)


def test_a_task_of_a_later_version_is_explained(folder: Path) -> None:
    with pytest.raises(
        ManifestError, match=r"task 'summarization' is not one that this runtime knows\.\nIt knows text"
    ):
        Predictor(deployed.edit(folder, task="summarization"))


def test_labels_that_do_not_fit_the_logits_are_explained(folder: Path) -> None:
    predict = Predictor(deployed.edit(folder, labels=["bad", "good"]), threads=1)
    with pytest.raises(ManifestError, match=r"logits of shape \(1, 3\) where the manifest's labels need \(1, 2\)"):
        predict("a fine film")


def test_inputs_that_do_not_fit_the_model_are_explained(folder: Path) -> None:
    with pytest.raises(ManifestError, match="takes input_ids, attention_mask; the manifest says input_ids, pixels"):
        Predictor(deployed.edit(folder, inputs=["input_ids", "pixels"]))


@pytest.mark.parametrize("setting", [{"batch_size": 0}, {"max_batch_tokens": 0}])
def test_batches_without_room_are_refused(original: Path, setting: dict[str, int]) -> None:
    with pytest.raises(UserError, match="leave no text in a batch"):
        Predictor(original, **setting)  # type: ignore[arg-type]


# --- sessions -------------------------------------------------------------------------------


def test_a_session_says_what_it_got(original: Path) -> None:
    session = open_session(original / "onnx/model.onnx", threads=1)
    assert (session.provider, session.threads, session.outputs) == ("cpu", 1, ("logits",))
    options = session.inner.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_a_session_takes_the_cores_that_the_process_may_use(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "available_cores", lambda: 3)
    session = open_session(original / "onnx/model.onnx")
    assert session.inner.get_session_options().intra_op_num_threads == session.threads == 3


@pytest.mark.parametrize(("vnni", "expected"), [(False, True), (True, False)])
def test_signed_weights_are_made_exact_where_the_processor_has_no_vnni(
    original: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool, expected: bool
) -> None:
    monkeypatch.setattr(session_module, "has_vnni", lambda: vnni)
    options = open_session(original / "onnx/model.onnx", threads=1).inner.get_session_options()
    assert has_entry(options, "session.x64quantprecision") is expected


@pytest.mark.parametrize(("weights", "expected"), [("bounded", False), ("full", True)])
def test_weights_that_cannot_saturate_keep_their_fast_kernel(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, expected: bool
) -> None:
    monkeypatch.setattr(session_module, "has_vnni", lambda: False)
    model = onnx_files.load(original / "onnx/model.onnx")
    model.metadata_props[onnx_files.WEIGHTS_KEY] = weights
    onnx_files.save(model, tmp_path / "marked.onnx")
    options = open_session(tmp_path / "marked.onnx", threads=1).inner.get_session_options()
    assert has_entry(options, "session.x64quantprecision") is expected


def has_entry(options: onnxruntime.SessionOptions, key: str) -> bool:
    try:
        return bool(options.get_session_config_entry(key) == "1")
    except RuntimeError:
        return False


def test_no_threads_are_refused(original: Path) -> None:
    with pytest.raises(UserError, match=r"^0 threads cannot run a model\."):
        open_session(original / "onnx/model.onnx", threads=0)


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_file_that_is_no_model_is_explained(content: bytes | None, original: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    whole = (original / "onnx/model.onnx").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ManifestError, match=r"bad\.onnx cannot be loaded by onnxruntime .*\nDownload or copy the file"):
        open_session(path)


def test_a_missing_model_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.onnx cannot be loaded by onnxruntime .*doesn't exist"):
        open_session(tmp_path / "none.onnx")


def test_a_call_that_onnxruntime_refuses_names_the_shapes(original: Path, capfd: pytest.CaptureFixture[str]) -> None:
    session = open_session(original / "onnx/model.onnx", threads=1)
    ids = np.full((1, 4), 10**6)
    with pytest.raises(CompressorError, match=r"failed on input_ids 1x4, attention_mask 1x4: "):
        session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert capfd.readouterr() == ("", "")


def test_an_unknown_provider_is_refused(original: Path) -> None:
    with pytest.raises(ProviderError, match=r"^Provider 'tpu' is not known\.\nChoose one of cpu, cuda\.$"):
        open_session(original / "onnx/model.onnx", provider="tpu")  # type: ignore[arg-type]


def test_cuda_that_was_not_built_in_is_an_error_that_says_what_is(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError) as caught:
        open_session(original / "onnx/model.onnx", provider="cuda")
    assert str(caught.value) == (
        f"The cuda provider was asked for, but this onnxruntime {onnxruntime.__version__} was built with "
        "CPUExecutionProvider only.\nInstall the GPU build in its place: pip uninstall onnxruntime, then "
        "pip install onnxruntime-gpu. Or use --provider cpu."
    )


def test_cuda_that_was_promised_and_not_obtained_is_an_error(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxruntime.InferenceSession

    def on_cpu(path: str, options: Any, providers: list[Any], **rest: Any) -> Any:
        assert providers[0][0] == "CUDAExecutionProvider"
        return real(path, options, providers=["CPUExecutionProvider"], **rest)

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    with pytest.raises(ProviderError, match=r"cuda provider was asked for, but the session runs on CPUExecution"):
        open_session(original / "onnx/model.onnx", provider="cuda")


# --- the install without a framework --------------------------------------------------------

NEEDED = ("numpy", "numpy.libs", "onnxruntime", "tokenizers", "compressor")
ABSENT = ("torch", "transformers", "onnx", "pydantic", "huggingface_hub", "datasets", "optimum")

DEPLOY = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
found = [name for name in sys.argv[3].split(",") if importlib.util.find_spec(name)]
from compressor.runtime import Predictor
answers = Predictor(sys.argv[2], threads=1)(["fine superb lovely", "awful"])
print(json.dumps([found, [answer.label for answer in answers]]))
"""


def test_a_prediction_needs_numpy_onnxruntime_and_tokenizers_alone(original: Path, tmp_path: Path) -> None:
    for name in NEEDED:
        spec = importlib.util.find_spec(name.removesuffix(".libs"))
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin).parent
        place = place.with_name(name) if name.endswith(".libs") else place
        if place.exists():
            (tmp_path / name).symlink_to(place)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", DEPLOY, str(tmp_path), str(original), ",".join(ABSENT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [[], ["positive", "negative"]]


def test_a_prediction_and_a_manifest_cannot_be_changed(predict: Predictor) -> None:
    [prediction] = predict("a fine film")
    with pytest.raises(AttributeError):
        prediction.label = "bad"  # type: ignore[misc]
    assert replace(predict.manifest, labels=("a",)) != predict.manifest
