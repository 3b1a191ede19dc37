"""compress bench: models of any folder side by side, on the same rows and the same clock."""

import json
import shutil
from pathlib import Path

import jsonschema
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
from compressor.tasks import TASKS, Kind
from compressor.upkeep.bench import SCHEMA_VERSION, BenchRequest, bench
from compressor.upkeep.home import task_of
from compressor.upkeep.lineup import line_up
from tests import checked, deployed, lookup, tiny, tiny_data

SCHEMA = json.loads((Path(side_by_side.__file__).parent / "bench.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

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


def optimum(folder: Path) -> Path:
    """A folder as optimum-onnx writes it: int32 inputs, and token types that the tokenizer does not name."""
    plain(folder)
    model = load(deployed.save_classifier(folder / "model.onnx", extra_input="token_type_ids"))
    for value in model.graph.input:
        value.type.tensor_type.elem_type = TensorProto.INT32
    save(model, folder / "model.onnx")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "ort_config.json").write_text(json.dumps({"opset": 18, "optimization": {}, "quantization": {}}))
    return folder


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
    assert {(entrant.kind, entrant.home.labels, entrant.home.max_length) for entrant in entrants} == {
        ("onnx", deployed.LABELS, 64)
    }
    assert notes == ()


def test_a_single_file_is_an_entrant_with_the_config_of_its_folder(tmp_path):
    plain(plain(tmp_path / "a"), file="onnx/model_quantized.onnx")
    (entrant,), _ = line_up([tmp_path / "a/onnx/model_quantized.onnx"])
    assert (entrant.name, entrant.home.path) == ("a/onnx/model_quantized.onnx", tmp_path / "a")


@pytest.mark.parametrize(
    ("kind", "words", "precision"),
    [("f4", "f4", "fp32"), ("f2", "f2", "fp16"), ("i1", "f4", "int8"), ("u1", "f4", "int8")],
)
def test_the_precision_of_a_foreign_file_is_read_from_its_weights(tmp_path, kind, words, precision):
    weights_only(plain(tmp_path / "a") / "model.onnx", kind, words)
    (entrant,), _ = line_up([tmp_path / "a"])
    assert entrant.precision == precision


@pytest.mark.parametrize(
    ("operator", "on_cuda"), [("MatMulInteger", False), ("QLinearMatMul", False), ("DequantizeLinear", True)]
)
def test_int8_files_are_timed_on_cuda_where_their_products_are_in_fp32(tmp_path, operator, on_cuda):
    path = plain(tmp_path / "a") / "model.onnx"
    weights_only(path, "i1", "f4")
    model = load(path)
    model.graph.node[0].op_type = operator
    save(model, path)
    (entrant,), _ = line_up([path])
    assert (entrant.precision, entrant.runs_on_cuda) == ("int8", on_cuda)


def test_the_size_of_a_model_counts_the_weights_that_optimum_puts_beside_it(tmp_path):
    path = plain(tmp_path / "a") / "model.onnx"
    weights_only(path, "f4", "f4")
    path.with_name("model.onnx_data").write_bytes(b"0" * 1000)
    (entrant,), _ = line_up([path])
    assert entrant.size_bytes == path.stat().st_size + 1000


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_no_bug_of_ours(tmp_path, capsys, name):
    folder = plain(tmp_path / "a")
    deployed.save_classifier(folder / "model.onnx")
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 91\n")
    assert main(["bench", str(folder)]) == 2
    assert f"{name} cannot be read: " in capsys.readouterr().err


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
    assert (entrant.name, entrant.kind, entrant.home.labels) == ("hf (torch)", "torch", ("negative", "positive"))
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
    assert [(model["score"], model["agreement"]) for model in models] == [(1.0, 1.0), (1.0, 1.0)]


@pytest.mark.usefixtures("told_time")
def test_a_worse_model_has_a_paired_difference_with_an_interval(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    worse = plain(tmp_path / "b")
    deployed.save_classifier(worse / "model.onnx", scale=-1)
    found = bench(request(plain(tmp_path / "a"), worse, data=data))["models"][1]
    assert (found["score"], found["difference"]["estimate"]) == (0.0, -1.0)
    assert -1.0 <= found["difference"]["low"] < found["difference"]["high"] < -0.8


@pytest.mark.usefixtures("told_time")
def test_a_model_with_other_labels_is_timed_but_has_no_accuracy_and_that_is_said(tmp_path):
    data, events = checked.write_texts(tmp_path / "test.csv"), []
    places = plain(tmp_path / "a"), plain(tmp_path / "b", labels=("cat", "dog", "horse"))
    document = bench(request(*places, data=data), events.append)
    assert [model["score"] for model in document["models"]] == [1.0, None]
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert warning.startswith("b/model.onnx has no accuracy: ")
    assert warning in document["notes"]


@pytest.mark.usefixtures("told_time")
def test_data_that_fit_no_model_are_an_error(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    with pytest.raises(DataError):
        bench(request(plain(tmp_path / "a", labels=("cat", "dog", "horse")), data=data))


@pytest.mark.usefixtures("told_time")
def test_a_model_with_int32_inputs_and_token_types_that_its_tokenizer_does_not_make_is_judged(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    models = bench(request(plain(tmp_path / "a"), optimum(tmp_path / "b"), data=data))["models"]
    assert [(model["score"], model["agreement"]) for model in models] == [(1.0, 1.0), (1.0, 1.0)]


# --- other tasks ------------------------------------------------------------------------------

KINDS = [kind for kind in TASKS if kind != "single-label"]


def held_out(kind: Kind, folder: Path) -> Path:
    return next(tiny_data.write(kind, folder).glob("test.*"))


def foreign(folder: Path, kind: Kind) -> Path:
    """The same model as another tool would leave it."""
    (lookup.write(folder, kind) / "manifest.json").unlink()
    if kind == "feature-extraction":
        (folder / "modules.json").write_text("[]")
    return folder


@pytest.mark.usefixtures("told_time")
@pytest.mark.parametrize("kind", KINDS)
def test_models_of_every_task_are_judged_on_the_same_rows(tmp_path, kind):
    names = ("a/onnx/model.onnx", "b/onnx/model.onnx", "c/onnx/model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "measure", checked.clock(dict.fromkeys(names, (1.0, 1.0, 1.0))))
        places = (
            lookup.write(tmp_path / "a", kind),
            foreign(tmp_path / "b", kind),
            lookup.write(tmp_path / "c", kind, 7),
        )
        document = bench(request(*places, data=held_out(kind, tmp_path / "data")))
    VALIDATOR.validate(json.loads(json.dumps(document, allow_nan=False)))
    assert document["metric"]["name"] == TASKS[kind].metric
    one, same, worse = document["models"]
    assert {model["task"] for model in document["models"]} == {kind}
    assert (one["score"], one["metrics"]) == (same["score"], same["metrics"])
    assert one["ci95"][0] <= one["score"] <= one["ci95"][1]
    assert one["metrics"][0]["name"] == TASKS[kind].metric
    assert (same["difference"]["estimate"], same["agreement"]) == (0.0, None if kind == "regression" else 1.0)
    assert worse["difference"]["high"] < 0
    remarks = [text for text in side_by_side.remarks(document) if text.startswith("c/onnx/model.onnx is worse")]
    assert len(remarks) == 1


@pytest.mark.usefixtures("told_time")
def test_embeddings_that_are_not_pooled_in_the_graph_are_timed_but_not_judged(tmp_path):
    kind: Kind = "feature-extraction"
    places = foreign(tmp_path / "a", kind), foreign(tmp_path / "b", kind)
    lookup.save_model(places[1] / "model.onnx", {"last_hidden_state": np.ones((len(deployed.WORDS), 8), "f4")}, False)
    (places[0] / "onnx/model.onnx").rename(places[0] / "model.onnx")
    (places[1] / "onnx/model.onnx").unlink()
    document = bench(request(*places, data=held_out(kind, tmp_path / "data")))
    assert [model["score"] for model in document["models"]] == [1.0, None]
    assert any("answers with last_hidden_state; feature-extraction needs" in note for note in document["notes"])
    assert any("the first model's are what the others are judged by" in note for note in document["notes"])


@pytest.mark.usefixtures("told_time")
def test_a_model_for_another_task_is_timed_but_not_judged(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    other = foreign(tmp_path / "b", "token-classification")
    (other / "onnx/model.onnx").rename(other / "model.onnx")
    document = bench(request(plain(tmp_path / "a"), other, data=data))
    assert [model["score"] for model in document["models"]] == [1.0, None]
    note = "b/model.onnx has no accuracy: It is for token-classification, the first model for single-label."
    assert note in document["notes"]


@pytest.mark.usefixtures("told_time")
def test_masked_language_models_of_other_vocabularies_are_not_compared(tmp_path):
    places = [foreign(tmp_path / name, "fill-mask") for name in "ab"]
    for place in places:
        (place / "onnx/model.onnx").rename(place / "model.onnx")
    tokenizer = json.loads((places[1] / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["the"], vocabulary["it"] = vocabulary["it"], vocabulary["the"]
    (places[1] / "tokenizer.json").write_text(json.dumps(tokenizer))
    document = bench(request(*places, data=held_out("fill-mask", tmp_path / "data")))
    assert [model["score"] is None for model in document["models"]] == [False, True]
    assert any("is asked about other masked tokens than the first model" in note for note in document["notes"])


@pytest.mark.parametrize("kind", TASKS)
def test_what_a_transformers_folder_does_is_read_from_its_config(tmp_path, kind):
    (entrant,), _ = line_up([tiny.teacher_folder(tmp_path / "hf", kind=kind, num_hidden_layers=1)])
    assert (entrant.kind, entrant.measured.task) == ("torch", kind)


def test_a_sentence_encoder_that_names_the_head_of_its_pre_training_is_one():
    config = {"architectures": ["MPNetForMaskedLM"]}
    assert task_of(config, sentences=True) is TASKS["feature-extraction"]
    assert task_of(config) is TASKS["fill-mask"]


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
    assert "Nothing was timed on a GPU: this onnxruntime has only" in text


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


@pytest.fixture(scope="module")
def side(tmp_path_factory) -> dict:
    """A run of ours and a folder of optimum's, measured in processes of their own."""
    folder = tmp_path_factory.mktemp("side")
    places = checked.write(folder / "run"), optimum(folder / "optimum")
    recipe = BenchmarkRecipe(threads=1, batch_sizes=(1,), sequence_lengths=(8,), rounds=1, clients=(1, 2))
    data = DataRecipe(source=str(checked.write_texts(folder / "test.csv")))
    return bench(BenchRequest(places, data, recipe), budget=QUICK)


NAMES = [f"run/{checked.FP32}", f"run/{checked.INT8}", "optimum/model.onnx"]


def test_a_run_and_a_folder_of_optimums_are_measured_side_by_side(side):
    assert [(row["model"], row["sequence_length"]) for row in side["latency"]] == [
        (name, length) for name in NAMES for length in (None, 8)
    ]
    assert {tuple(row["calls"]) for row in side["latency"]} == {(5,), (3,)}
    assert [model["score"] for model in side["models"]] == [1.0, 1.0, 1.0]


def test_every_model_is_loaded_by_as_many_callers_as_asked_for(side):
    assert [(row["model"], row["clients"]) for row in side["load"]] == [
        (name, clients) for name in NAMES for clients in (1, 2)
    ]
    assert [row["ratio"] is None for row in side["load"]] == [True, True, False, False, False, False]


def test_costs_tell_that_every_node_runs_on_the_cpu(side):
    assert {tuple(row["nodes"]) for row in side["costs"]} == {("CPUExecutionProvider",)}


def test_the_markdown_shows_the_throughput_under_load(side):
    page = side_by_side.markdown(side)
    assert "## Under load" in page
    rows = [line.split(" | ") for line in page.partition("## Under load")[2].splitlines() if "onnx" in line]
    assert [(row[1], row[-1]) for row in rows][:2] == [("1", "baseline |"), ("2", "baseline |")]


def test_more_and_less_throughput_are_told_in_words():
    told = [{"verdict": verdict, "ratio": ratio} for verdict, ratio in (("faster", 3.0), ("slower", 0.8))]
    none = [{"verdict": "no difference", "ratio": 1.1}, {"verdict": None, "ratio": None}]
    assert [side_by_side.load_text(row) for row in [*told, *none]] == [
        "3.0× more", "1.25× less here", "no difference", "–",
    ]  # fmt: skip


def test_differences_of_less_than_two_per_cent_are_none_however_quiet_the_machine_is(four):
    quiet = {**four, "machine": {"noise_floor": 0.004}}
    assert (
        "A model and its own copy differed by up to 0.4%: less than 2.0%, on any machine, is no difference."
        in side_by_side.remarks(quiet)
    )


# --- the format -------------------------------------------------------------------------------


def test_the_schema_is_one_and_has_the_documents_version(four):
    VALIDATOR.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema_version"] == {"const": SCHEMA_VERSION} == {"const": four["schema_version"]}


def test_what_was_measured_is_valid_under_the_committed_schema(side, four):
    for document in (side, four):
        VALIDATOR.validate(json.loads(json.dumps(document, allow_nan=False)))


@pytest.mark.usefixtures("told_time")
def test_a_document_with_differences_and_models_without_accuracy_is_valid(tmp_path):
    data = checked.write_texts(tmp_path / "test.csv")
    worse = plain(tmp_path / "b")
    deployed.save_classifier(worse / "model.onnx", scale=-1)
    places = plain(tmp_path / "a"), worse, plain(tmp_path / "c", labels=("cat", "dog", "horse"))
    VALIDATOR.validate(json.loads(json.dumps(bench(request(*places, data=data)), allow_nan=False)))


@pytest.mark.parametrize(
    ("place", "changes", "message"),
    [
        ((), {"surprise": 1}, "'surprise' was unexpected"),
        ((), {"schema_version": 1}, "2 was expected"),
        (("latency", 0), {"p50_ms": None}, "None is not of type 'number'"),
        (("speedups", 0), {"verdict": "better"}, "'better' is not one of"),
        (("load", 0), {"clients": 0}, "0 is less than the minimum of 1"),
        (("costs", 0), {"nodes": {"CPUExecutionProvider": -1}}, "-1 is less than the minimum of 0"),
    ],
)
def test_the_schema_rejects_what_it_does_not_know(side, place, changes, message):
    document = json.loads(json.dumps(side))
    found = document
    for step in place:
        found = found[step]
    found.update(changes)
    with pytest.raises(jsonschema.ValidationError, match=message):
        VALIDATOR.validate(document)


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
        "--clients",
        "1,2",
        "--max-rounds",
        "9",
        "--output-dir",
        str(tmp_path / "out"),
    ]
    assert main(["bench", *places, *arguments, "--quiet"]) == 0
    assert "2.0× faster" in capsys.readouterr().out
    written = json.loads((tmp_path / "out/bench.json").read_text(encoding="utf-8"))
    assert written["baseline"] == "a/model.onnx"
    assert (written["settings"]["clients"], written["settings"]["max_rounds"]) == ([1, 2], 9)
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
        (["nowhere", "--clients", "1,1"], "--clients 1,1: expected distinct numbers from 1 up, as in 1,4,16."),
        (["nowhere", "--clients", "0"], "--clients 0: expected distinct numbers from 1 up"),
        (["nowhere", "--max-rounds", "0"], "--max-rounds 0"),
    ],
)
def test_what_cannot_be_measured_is_the_users_error(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err
