"""report.json, report.md and the model card."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from compressor.artifacts import Benchmark
from compressor.evaluation.evaluate import evaluate
from compressor.evaluation.metrics import labelled
from compressor.report import document, model_card, write_report
from compressor.report.caveats import caveats
from compressor.report.figures import pareto
from compressor.report.markdown import markdown
from compressor.report.write import render, to_json
from tests.report_inputs import LABELS, findings

SCHEMA = json.loads((Path(__file__).parents[1] / "compressor/report/schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written() -> dict:
    return document(findings())


def single_round() -> Benchmark:
    found = findings().benchmark
    rows = tuple(
        type(row)(row.model, row.provider, row.threads, row.batch_size, row.sequence_length, row.samples[:40], 1, (40,))
        for row in found.latency
    )
    return Benchmark(rows, found.costs)


# --- report.json ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rows": 1},
        {"sparsity": 0.0, "quantized": None, "benchmark": None, "layer_map": ()},
        {"benchmark": single_round()},
        {"drop": 0.05},
    ],
    ids=["full", "one test row", "least", "one round", "bad student"],
)
def test_the_document_is_valid_under_the_committed_schema(changes: dict) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(document(findings(**changes)))


def test_the_schema_rejects_a_field_that_it_does_not_know(written: dict) -> None:
    with pytest.raises(jsonschema.ValidationError, match="'surprise' was unexpected"):
        jsonschema.Draft202012Validator(SCHEMA).validate({**written, "surprise": 1})


def test_the_file_holds_what_is_returned(tmp_path: Path) -> None:
    returned = write_report(tmp_path / "report", findings())
    assert json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8")) == returned
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.json", "report.md", "report.html"}


def test_the_pages_can_be_drawn_again_from_report_json_alone(tmp_path: Path) -> None:
    write_report(tmp_path, findings())
    first = {name: (tmp_path / name).read_bytes() for name in ("report.md", "report.html")}
    render(json.loads((tmp_path / "report.json").read_text(encoding="utf-8")), tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in first} == first


def test_lists_of_numbers_are_written_on_one_line_and_texts_are_left_alone() -> None:
    text = to_json({"samples": [1.5, 2, 3e-05], "text": "[\n1,\n2]", "empty": []})
    assert '"samples": [ 1.5, 2, 3e-05 ]' in text
    assert json.loads(text)["text"] == "[\n1,\n2]"


def test_the_headline_follows_from_the_tables(written: dict) -> None:
    head = written["headline"]
    models = {row["name"]: row for row in written["models"]}
    p50 = {
        row["model"]: row["p50_ms"]
        for row in written["latency"]
        if row["batch_size"] == 1 and row["sequence_length"] is None
    }
    assert head["speedup"] == pytest.approx(p50["teacher_onnx"] / p50["student_int8"], rel=1e-3)
    assert head["speedup_ci95"][0] < head["speedup"] < head["speedup_ci95"][1]
    assert head["size_ratio"] == pytest.approx(438.2 / 67.6)
    assert head["score_retained"] == models["student_int8"]["score"] / models["teacher"]["score"]


def test_percentiles_are_those_of_the_samples_beside_them(written: dict) -> None:
    row = written["latency"][0]
    assert [row["p50_ms"], row["p99_ms"]] == pytest.approx(np.percentile(row["samples"], [50, 99]), abs=1e-3)


def test_without_an_int8_model_the_fp32_student_is_judged() -> None:
    full = findings()
    models, test = full.models[:3], full.corpus.splits["test"]
    evaluation = evaluate(models, labelled(test.labels, LABELS, test.texts))
    found = document(replace(full, models=models, quantized=None, evaluation=evaluation))
    assert found["verdict"]["model"] == found["headline"]["model"] == "student_onnx"
    assert found["quantization"] is None


def test_numbers_that_json_cannot_hold_become_null() -> None:
    found = document(findings(environment={"memory": float("inf"), "cores": np.int64(2)}))
    assert found["environment"] == {"memory": None, "cores": 2}


def test_a_place_where_the_student_is_slower_is_a_caveat(written: dict) -> None:
    assert written["caveats"][0] == (
        "The model that ships is slower than the teacher in onnxruntime at: batch 8, 128 tokens."
    )


def test_a_loud_machine_is_a_caveat_and_a_quiet_one_none() -> None:
    full = findings()
    for floor, told in ((0.304, 1), (0.02, 0), (None, 0)):
        found = document(replace(full, benchmark=replace(full.benchmark, noise_floor=floor)))
        assert sum("a model and its own copy differed by 30%" in text for text in found["caveats"]) == told


@pytest.mark.parametrize(
    "times",
    [
        {"teacher": [16.6, 15.0, 19.0], "teacher_onnx": [6.8, 5.9, 8.3]},
        {"teacher": [17.9, 14.2, 21.4], "teacher_onnx": [6.43, 5.78, 7.16], "student_onnx": [3.12, 2.7, 3.59],
         "student_int8": [2.7, 2.28, 3.16]},
    ],
    ids=["intervals that nearly meet", "no room beside a point"],
)  # fmt: skip
def test_names_in_the_plot_lie_on_no_interval_and_on_no_other_name(
    times: dict[str, list[float]], written: dict
) -> None:
    """Measured ones: equal accuracies, so that all names want the same height."""
    models = [
        {**row, "score": 0.805 - 0.005 * of_student, "ci95": [0.78 - 0.005 * of_student, 0.828 - 0.005 * of_student]}
        for row in written["models"]
        for of_student in [row["name"].startswith("student")]
    ]
    rows = [row for row in written["latency"] if row["batch_size"] == 1 and row["sequence_length"] is None]
    shown = [times.get(row["model"], [3.5, 3.2, 4.0]) for row in rows]
    latency = [{**row, "p50_ms": at, "p50_ci95": ends} for row, (at, *ends) in zip(rows, shown, strict=True)]
    drawn = str(pareto({**written, "models": models, "latency": latency}))

    number = r'="([\d.]+)"'
    found = re.findall(f'class="whisker" x1{number} x2{number} y1{number} y2{number}', drawn)
    taken = [(min(a, b), min(c, d), max(a, b), max(c, d)) for a, b, c, d in (map(float, line) for line in found)]
    assert len(taken) == 4 * len(rows)
    for left, top, title in re.findall(f'class="name" x{number} y{number}[^>]*>([^<]+)<', drawn):
        # Two lines of 12.5 px; a bold letter is about 7 px wide.
        box = (float(left), float(top) - 10, float(left) + 7 * len(title), float(top) + 15)
        assert not [o for o in taken if o[0] < box[2] and box[0] < o[2] and o[1] < box[3] and box[1] < o[3]]
        taken.append(box)
    assert len(taken) == 5 * len(rows)


def test_one_round_proves_no_difference() -> None:
    found = document(findings(benchmark=single_round()))
    assert {row["verdict"] for row in found["speedups"]} == {"no difference"}
    assert found["headline"]["speedup_ci95"] is None


def test_a_pruned_student_comes_with_the_word_that_zeros_are_not_speed(written: dict) -> None:
    assert any("do not speed onnxruntime up" in text for text in written["caveats"])
    assert not any("Sparse" in text for text in document(findings(sparsity=0.0))["caveats"])


@pytest.mark.parametrize(
    ("here", "why"),
    [
        ({"gpus": [], "onnxruntime_providers": ["CPUExecutionProvider"]},
         "this onnxruntime has only CPUExecutionProvider, and no GPU was found"),
        ({"gpus": ["NVIDIA T4"], "onnxruntime_providers": ["CPUExecutionProvider"]},
         "this onnxruntime has only CPUExecutionProvider, and this machine has NVIDIA T4"),
        ({"gpus": ["NVIDIA T4"], "onnxruntime_providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]},
         "it was not asked for (--provider cuda), and this machine has NVIDIA T4"),
        ({}, "no GPU was found"),
    ],
    ids=["neither", "GPU alone", "not asked for", "report of before"],
)  # fmt: skip
def test_a_report_without_cuda_says_why(here: dict, why: str) -> None:
    assert f"Nothing was timed on a GPU: {why}." in document(findings(environment=here))["caveats"]


def test_a_report_with_cuda_makes_no_excuse_for_it(written: dict) -> None:
    on_cuda = {**written, "latency": [*written["latency"], {**written["latency"][0], "provider": "cuda"}]}
    assert not any("timed on a GPU" in text for text in caveats(on_cuda))


@pytest.mark.parametrize(
    ("target", "here", "words"),
    [
        ("avx2", "avx2", "were verified on this machine's instruction set, avx2. On others their labels are believed"),
        ("any", "avx512", "(any) were verified on this machine's instruction set, avx512"),
        ("avx512_vnni", "avx2", "That they are right and fast on avx512_vnni is believed, not verified"),
        ("avx2", None, "whether they are right there is believed, not verified"),
    ],
)
def test_what_int8_is_on_another_instruction_set_is_called_belief(target: str, here: str | None, words: str) -> None:
    full = findings()
    quantized = replace(full.quantized, target=target)
    found = document(replace(full, quantized=quantized, environment={"cpu": {"instruction_set": here}}))
    assert sum(words in text for text in found["caveats"]) == 1


def test_a_file_whose_labels_depend_on_the_batch_is_a_caveat() -> None:
    full = findings()
    steady, drifting = full.evaluation.company
    company = (steady, replace(drifting, batched_difference=1.4, batched_labels=5))
    found = document(replace(full, evaluation=replace(full.evaluation, company=company)))
    assert "student_int8 gives 5 of 256 test texts another answer in a batch of 32 than alone." in found["caveats"]
    assert "outputs within 1.4e+00, 5 decisions changed" in markdown(found)
    assert not any("than alone" in text for text in document(full)["caveats"])


@pytest.mark.parametrize(
    ("rows", "changed", "said"),
    [
        (1500, 7, "int8 changes what the fp32 student says about 7 of 1,500 test rows"),
        (1700, 1600, "int8 changes what the fp32 student says about 1,600 of 1,700 windows or blocks of test texts"),
        (1500, None, "int8 changes what the fp32 student says by up to "),
    ],
)
def test_what_int8_changes_is_counted_where_something_is_decided(rows: int, changed: int | None, said: str) -> None:
    full = findings()
    *others, last = full.evaluation.drifts
    drifts = (*others, replace(last, rows=rows, changed_labels=changed))
    found = document(replace(full, evaluation=replace(full.evaluation, drifts=drifts)))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert any(text.startswith(said) for text in found["caveats"])


def test_each_latency_stands_beside_its_own_bound(written: dict) -> None:
    rows = {(row["model"], row["batch_size"], row["sequence_length"]): row for row in written["latency"]}
    row = rows["teacher_onnx", 8, 128]
    # 8 x 128 tokens, 12 layers of 4 * 768^2 + 2 * 768 * 3072 products and two attention products, at 128 GFLOP/s.
    flops = 2 * 12 * 1024 * (4 * 768**2 + 2 * 768 * 3072 + 2 * 128 * 768)
    assert row["floor_ms"] == pytest.approx(flops / 128e6, rel=1e-4)
    assert row["share_of_bound"] == pytest.approx(row["floor_ms"] / row["p50_ms"], rel=1e-3)
    # One short text is bound by reading the weights: 340 MB at 17.5 GB/s.
    assert rows["teacher_onnx", 1, None]["floor_ms"] == pytest.approx(12 * 7_077_888 * 4 / 17.5e6, rel=1e-4)


def test_without_sizes_or_bounds_there_is_no_share() -> None:
    for changes in ({"shapes": {}}, {"benchmark": single_round()}):
        row = document(findings(**changes))["latency"][0]
        assert (row["floor_ms"], row["share_of_bound"]) == (None, None)


# --- report.md --------------------------------------------------------------------------------


def test_the_markdown_leads_with_verdict_and_headline(written: dict) -> None:
    lines = markdown(written).splitlines()
    assert lines[2].startswith("❔ **Cannot tell with 1,500 test rows")
    assert re.fullmatch(
        r"\*\*3\.0× faster \(.*×\), 6\.5× smaller \(67\.6 MB\), keeps 9\d\.\d% of the accuracy\.\*\*", lines[4]
    )


def test_the_markdown_fits_a_comment_and_its_table_has_one_row_per_model(written: dict) -> None:
    text = markdown(written)
    assert len(text) < 10_000
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 2 + len(written["models"])


def test_the_markdown_says_in_one_line_what_padding_and_neighbours_change(written: dict) -> None:
    assert (
        "The same text alone, padded, or in a batch (256 test texts): Student, ONNX fp32: outputs within 1.4e-06, "
        "0 decisions changed; Student, ONNX int8: the same output to the last bit, 0 decisions changed."
    ) in markdown(written).splitlines()


def test_the_markdown_tells_the_metrics_that_do_not_decide(written: dict) -> None:
    (line,) = [line for line in markdown(written).splitlines() if line.startswith("Other metrics")]
    assert re.fullmatch(r".*: macro F1 −\d\.\d points \(−\d\.\d to [+−]?\d\.\d\)\.", line)


def test_names_cannot_break_out_of_the_markdown() -> None:
    text = markdown(document(findings(teacher="a|b <script> `x`\n# y", warnings=("<img src=x>",))))
    assert text.splitlines()[0] == r"# a\|b \<script\> \`x\` \# y, 12 to 6 layers"
    assert r"- \<img src=x\>" in text


def test_a_run_without_a_benchmark_says_so() -> None:
    assert "speed was not measured" in markdown(document(findings(benchmark=None)))


# --- model card -------------------------------------------------------------------------------


def test_the_card_is_read_by_the_hub_library_with_its_results() -> None:
    from huggingface_hub import ModelCard

    found = document(findings(teacher_hub_id="acme/bert-tickets", teacher_commit="0a1b2c", data_hub_id="acme/tickets"))
    card = ModelCard(model_card(found, "tickets-6l"))
    shipped = found["models"][-1]
    assert card.data.base_model == ["acme/bert-tickets"]
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    assert {(item.metric_type, item.metric_value) for item in card.data.eval_results} == {
        ("accuracy", shipped["score"]),
        ("f1", shipped["metrics"][1]["estimate"]),
    }
    assert {"onnx", "int8", "pruned"} <= set(card.data.tags)
    assert "- The teacher is commit `0a1b2c` of acme/bert-tickets." in card.text


def test_the_card_of_a_local_teacher_names_no_hub_model(written: dict) -> None:
    text = model_card(written, "tickets-6l")
    assert "base_model" not in text
    assert 'predictor = Predictor("path/to/this/folder")' in text
    assert "Cannot tell with 1,500 test rows" in text


@pytest.mark.parametrize(
    ("kind", "data", "shown", "limit"),
    [
        ("regression", {"pairs": True}, 'predictor([("a text", "the text that it is compared with")])', "are cut"),
        ("fill-mask", {"mask_token": "<mask>"}, 'predictor(["Paris is the <mask> of France."])', "are cut"),
        ("question-answering", {"pairs": True}, 'predictor([("Where did Anna move?"', "are read in windows"),
    ],
)
def test_the_card_shows_inputs_that_the_model_takes(written: dict, kind: str, data: dict, shown: str, limit: str):
    text = model_card({**written, "kind": kind, "data": {**written["data"], **data}}, "tickets-6l")
    assert shown in text
    assert f"tokens {limit}" in text


def test_the_card_names_the_temperature_of_the_model_that_ships_where_there_is_one(written: dict) -> None:
    assert f"A temperature of {written['models'][-1]['temperature']:.2f} was fitted" in model_card(
        written, "tickets-6l"
    )
    models = [{**row, "temperature": None} for row in written["models"]]
    assert "was fitted" not in model_card({**written, "models": models}, "tickets-6l")


# --- heads and neurons that were cut out ------------------------------------------------------


def slim(uneven: bool) -> dict:
    full = findings(sparsity=0.0)
    narrow = {
        name: replace(shape, attention=384, intermediate=1536) if name.startswith("student") else shape
        for name, shape in full.shapes.items()
    }
    return document(replace(full, shapes=narrow, uneven=uneven))


def test_a_student_of_uneven_widths_is_not_said_to_load_in_plain_transformers() -> None:
    found = slim(uneven=True)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    card = model_card(found, "slim")
    assert found["slimming"] == {"attention": 0.5, "feed_forward": 0.5, "uneven": True}
    assert "`compressor.load_student`" in card
    assert "AutoModelForSequenceClassification.from_pretrained" not in card
    assert any("size mismatch" in text for text in found["caveats"])


def test_a_student_narrowed_evenly_still_loads_and_says_what_was_cut() -> None:
    card = model_card(slim(uneven=False), "slim")
    assert "AutoModelForSequenceClassification.from_pretrained" in card
    assert "50% and 50% of the widths are left" in card


def test_where_nothing_was_cut_nothing_is_said(written: dict) -> None:
    assert written["slimming"] is None
