"""compress bench: models of any folder side by side, on the same rows and the same clock."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

from compressor import benchmark
from compressor.benchmark import Budget
from compressor.cli import main
from compressor.errors import DataError, ManifestError
from compressor.events import Warned
from compressor.recipe import BenchmarkRecipe, DataRecipe
from compressor.report import side_by_side
from compressor.upkeep.bench import BenchRequest, bench
from compressor.upkeep.lineup import line_up
from tests import checked, deployed, tiny

QUICK = Budget(warmup_seconds=0.0, timed_seconds=0.0, min_calls=3, max_texts=5, min_texts=2, repeated_share=0.0)


def plain(folder: Path, labels: tuple[str, ...] = deployed.LABELS, file: str = "model.onnx") -> Path:
    """A folder as optimum writes it; the outputs stand in the order of its own labels."""
    folder.mkdir(parents=True, exist_ok=True)
    order = [deployed.LABELS.index(name) for name in labels] if set(labels) == set(deployed.LABELS) else [0, 1, 2]
    save_classifier_in_order(folder / file, order)
    tiny.tokenizer().save_pretrained(folder)
    config = {"model_type": "bert", "max_position_embeddings": 64, "id2label": dict(enumerate(labels))}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_classifier_in_order(path: Path, order: list[int]) -> None:
    model = load(deployed.save_classifier(path))
    table = next(item for item in model.graph.initializer if item.name == "table")
    table.CopyFrom(numpy_helper.from_array(deployed.word_logits()[:, order], "table"))
    save(model, path)


def weights_only(path: Path, kind: str, words: str) -> None:
    """An ONNX file with a matrix of one type and larger embeddings of another, which is never run."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "weights",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [
            numpy_helper.from_array(np.ones((4, 4), kind), "w"),
            numpy_helper.from_array(np.ones((99, 4), words), "words"),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture
def told_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured: a/model.onnx takes 2 ms, b 1 ms, c 4 ms and d as long as a."""
    times = {"a/model.onnx": 2.0, "b/model.onnx": 1.0, "c/model.onnx": 4.0, "d/model.onnx": 2.01}
    rounds = {name: (value, value * 1.002, value * 0.998) for name, value in times.items()}
    monkeypatch.setattr(benchmark, "measure", checked.clock(rounds, floor=0.02))


def request(*places: Path, data: Path | None = None) -> BenchRequest:
    recipe = BenchmarkRecipe(threads=1, batch_sizes=(1,), sequence_lengths=(16,), rounds=3)
    return BenchRequest(places, DataRecipe(source=str(data) if data else None), recipe)


# --- who is measured --------------------------------------------------------------------------


def test_every_onnx_file_of_a_folder_is_an_entrant_wherever_optimum_puts_it(tmp_path):
    plain(plain(tmp_path / "a"), file="onnx/model_quantized.onnx")
    entrants, notes = line_up([tmp_path / "a"])
    assert [entrant.name for entrant in entrants] == ["a/model.onnx", "a/onnx/model_quantized.onnx"]
    assert {(entrant.kind, entrant.labels, entrant.max_length) for entrant in entrants} == {
        ("onnx", deployed.LABELS, 64)
    }
    assert notes == ()


def test_a_single_file_is_an_entrant_with_the_config_of_its_folder(tmp_path):
    plain(plain(tmp_path / "a"), file="onnx/model_quantized.onnx")
    (entrant,), _ = line_up([tmp_path / "a/onnx/model_quantized.onnx"])
    assert (entrant.name, entrant.home) == ("a/onnx/model_quantized.onnx", tmp_path / "a")


@pytest.mark.parametrize(
    ("kind", "words", "precision"),
    [("f4", "f4", "fp32"), ("f2", "f2", "fp16"), ("i1", "f4", "int8"), ("u1", "f4", "int8")],
)
def test_the_precision_of_a_foreign_file_is_read_from_its_weights(tmp_path, kind, words, precision):
    weights_only(plain(tmp_path / "a") / "model.onnx", kind, words)
    (entrant,), _ = line_up([tmp_path / "a"])
    assert entrant.precision == precision


def test_a_run_of_ours_has_its_precisions_from_the_manifest(tmp_path):
    entrants, _ = line_up([checked.write(tmp_path / "run")])
    assert {entrant.name: entrant.precision for entrant in entrants} == {
        f"run/{checked.FP32}": "fp32", f"run/{checked.INT8}": "int8",
    }  # fmt: skip


def test_a_damaged_run_is_refused(tmp_path):
    deployed.damage(checked.write(tmp_path / "run") / checked.FP32)
    with pytest.raises(ManifestError, match=r"model\.onnx"):
        line_up([tmp_path / "run"])


def test_safetensors_are_measured_in_torch_where_there_is_no_onnx_file_or_on_request(tmp_path):
    folder = tiny.teacher_folder(tmp_path / "hf")
    (entrant,), _ = line_up([folder])
    assert (entrant.name, entrant.kind, entrant.labels) == ("hf (torch)", "torch", ("negative", "positive"))
    shutil.copytree(folder, tmp_path / "both")
    plain(tmp_path / "both", labels=("negative", "positive", "neutral"))
    shutil.copy(folder / "config.json", tmp_path / "both/config.json")
    assert [entrant.kind for entrant in line_up([tmp_path / "both"])[0]] == ["onnx"]
    assert [entrant.kind for entrant in line_up([tmp_path / "both"], torch_too=True)[0]] == ["onnx", "torch"]


@pytest.mark.parametrize("kind", ["nothing", "headless", "pickle"])
def test_a_folder_without_a_classifier_that_is_safe_to_load_is_refused(tmp_path, kind):
    tiny.headless_folder(tmp_path / "hf")
    if kind != "headless":
        (tmp_path / "hf/model.safetensors").unlink()
    if kind == "pickle":
        (tmp_path / "hf/pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ManifestError, match="holds nothing that can be measured"):
        line_up([tmp_path / "hf"])


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    places = [plain(tmp_path / "x/a"), plain(tmp_path / "y/a")]
    assert [entrant.name for entrant in line_up(places)[0]] == [str(place / "model.onnx") for place in places]


# --- accuracy ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("told_time")
def test_labels_in_another_order_are_matched_by_name(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    places = plain(tmp_path / "a"), plain(tmp_path / "b", labels=("positive", "negative", "neutral"))
    models = bench(request(*places, data=data))["models"]
    assert [model["labels"][0] for model in models] == ["negative", "positive"]
    assert [(model["accuracy"], model["agreement"]) for model in models] == [(1.0, 1.0), (1.0, 1.0)]


@pytest.mark.usefixtures("told_time")
def test_a_worse_model_has_a_paired_difference_with_an_interval(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    worse = plain(tmp_path / "b")
    deployed.save_classifier(worse / "model.onnx", scale=-1)
    found = bench(request(plain(tmp_path / "a"), worse, data=data))["models"][1]
    assert (found["accuracy"], found["difference"]["estimate"]) == (0.0, -1.0)
    assert -1.0 <= found["difference"]["low"] < found["difference"]["high"] < -0.8


@pytest.mark.usefixtures("told_time")
def test_a_model_with_other_labels_is_timed_but_has_no_accuracy_and_that_is_said(tmp_path):
    data, events = checked.write_texts(tmp_path / "test.csv"), []
    places = plain(tmp_path / "a"), plain(tmp_path / "b", labels=("cat", "dog", "horse"))
    document = bench(request(*places, data=data), events.append)
    assert [model["accuracy"] for model in document["models"]] == [1.0, None]
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert warning.startswith("b/model.onnx has no accuracy: ")
    assert warning in document["notes"]


@pytest.mark.usefixtures("told_time")
def test_data_that_fit_no_model_are_an_error(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    with pytest.raises(DataError):
        bench(request(plain(tmp_path / "a", labels=("cat", "dog", "horse")), data=data))


# --- speed ------------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path, told_time) -> dict:
    return bench(request(*(plain(tmp_path / name) for name in "abcd")))


def test_speed_is_told_in_words_against_the_first_model(four):
    header, rows = side_by_side.table(four)
    told = {row[0]: row[header.index("speed")] for row in rows}
    assert told == {
        "a/model.onnx": "baseline", "b/model.onnx": "2.0× faster", "c/model.onnx": "2.0× slower here",
        "d/model.onnx": "no difference",
    }  # fmt: skip


def test_the_remarks_say_how_it_was_measured_what_noise_is_and_where_a_model_is_slower(four):
    text = "\n".join(side_by_side.remarks(four))
    assert "each model alone in 3 fresh processes, in turn with the others, 1 thread each" in text
    assert "differed by up to 2.0%: less than that is no difference" in text
    assert "c/model.onnx is slower than the baseline here: batch 1, 16 tokens." in text
    assert "No data were given (--data): nothing is said about accuracy." in text


def test_nothing_is_said_about_the_lengths_of_texts_that_were_not_given(four):
    assert {row["sequence_length"] for row in four["latency"]} == {16}


def test_models_of_other_tokenizers_are_measured_in_fresh_processes_on_their_own_tokens(tmp_path):
    places = plain(tmp_path / "a"), plain(tmp_path / "b")
    tokenizer = json.loads((places[1] / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None  # two tokens less
    (places[1] / "tokenizer.json").write_text(json.dumps(tokenizer))
    recipe = BenchmarkRecipe(threads=1, batch_sizes=(1,), sequence_lengths=(8,), rounds=1)
    data = DataRecipe(source=str(checked.write_texts(tmp_path / "test.csv")))
    document = bench(BenchRequest(places, data, recipe), budget=QUICK)
    assert "Cut into tokens in another way than for a/model.onnx: the texts of b/model.onnx." in document["notes"]
    assert {(row["model"], row["sequence_length"]) for row in document["latency"]} == {
        (name, length) for name in ("a/model.onnx", "b/model.onnx") for length in (None, 8)
    }
    assert [row["verdict"] for row in document["speedups"]] == ["no difference"] * 2  # one round has no interval


# --- the command ------------------------------------------------------------------------------


@pytest.mark.usefixtures("told_time")
def test_the_command_prints_the_table_and_writes_json_and_markdown(tmp_path, capsys):
    places = [str(plain(tmp_path / name)) for name in "ab"]
    arguments = [
        "--threads",
        "1",
        "--batch-sizes",
        "1",
        "--sequence-lengths",
        "16",
        "--output-dir",
        str(tmp_path / "out"),
    ]
    assert main(["bench", *places, *arguments, "--quiet"]) == 0
    assert "2.0× faster" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/bench.json").read_text(encoding="utf-8"))["baseline"] == "a/model.onnx"
    assert "| b/model.onnx | fp32 |" in (tmp_path / "out/bench.md").read_text(encoding="utf-8")


def test_cuda_without_cuda_is_an_error_that_says_why_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    assert main(["bench", str(tmp_path / "not even there"), "--provider", "cuda"]) == 2
    assert "cuda was asked for, but this onnxruntime has only CPUExecutionProvider" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to measure."),
        (["nowhere"], "nowhere does not exist."),
        (["nowhere", "--rounds", "0"], "--rounds 0"),
        (["nowhere", "--batch-sizes", "1,x"], "--batch-sizes"),
    ],
)
def test_what_cannot_be_measured_is_the_users_error(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
