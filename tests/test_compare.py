"""compress compare: what changed between two runs, and only what can be compared."""

import json
from pathlib import Path

import pytest

from compressor.cli import main
from compressor.errors import ManifestError
from compressor.upkeep.compare import compare, markdown
from compressor.upkeep.past import read_report
from tests import checked


def changes(first: dict, second: dict) -> dict[str, dict[str, tuple[str, str, str]]]:
    return {
        section.title: {item.what: (item.before, item.after, item.remark) for item in section.changes}
        for section in compare(first, second)
    }


def notes(first: dict, second: dict, title: str) -> str:
    return " ".join(note for section in compare(first, second) if section.title == title for note in section.notes)


def with_speedup(factor: float, interval: float = 0.02) -> dict:
    told = checked.report()
    for row in told["speedups"]:
        row["speedup"] *= factor
        row["ci95"] = [row["speedup"] * (1 - interval), row["speedup"] * (1 + interval)]
    return told


def test_nothing_changed_between_a_run_and_itself_but_the_figures_are_shown():
    told = checked.report()
    found = changes(told, told)
    shown = {title for title, rows in found.items() if rows}
    assert shown == {"Scores", "Speed over the own teacher"}
    assert {remark for _, _, remark in found["Speed over the own teacher"].values()} == {"no difference"}


def test_a_changed_key_of_the_recipe_is_shown_with_its_section():
    first, second = checked.report(), checked.report()
    second["recipe"]["distill"]["temperature"] = 4.0
    second["recipe"]["prune"]["sparsity"] = 0.0
    del second["recipe"]["student"]["layer_selection"]
    assert changes(first, second)["Recipe"] == {
        "distill.temperature": ("2", "4", ""),
        "prune.sparsity": ("0.4", "0", ""),
        "student.layer_selection": ("alternate", "not there", ""),
    }


def test_where_a_run_was_written_is_no_change():
    first, second = checked.report(recipe={"output_dir": "a"}), checked.report(recipe={"output_dir": "b"})
    assert changes(first, second)["Recipe"] == {}


def test_accuracies_on_the_same_rows_say_whether_their_intervals_overlap():
    first, second = checked.report(), checked.report()
    checked.model_row(first, "student_int8").update(score=0.93, ci95=[0.92, 0.94])
    checked.model_row(second, "student_int8").update(score=0.91, ci95=[0.90, 0.915])
    found = changes(first, second)["Scores"]["student_int8: accuracy"]
    assert found == ("93.0% (92.0% to 94.0%)", "91.0% (90.0% to 91.5%)", "−2.0 points; the intervals do not overlap")
    assert "compress bench A B --data" in notes(first, second, "Scores")


def test_other_data_are_said_and_their_accuracies_not_taken_for_comparable():
    first, second = checked.report(), checked.report(data={"fingerprint": "d" * 64})
    assert changes(first, second)["Data and teacher"]["fingerprint"] == ("c" * 12, "d" * 12, "")
    assert "a difference may be the data's" in notes(first, second, "Scores")


def test_scores_of_other_metrics_are_not_compared_and_that_is_said():
    first, second = checked.report(), checked.report(metric={"name": "spearman", "title": "Spearman correlation"})
    found = ("accuracy", "Spearman correlation", "the scores cannot be compared")
    assert changes(first, second)["Scores"] == {"deciding metric": found}
    assert notes(first, second, "Scores") == ""


def test_a_metric_that_is_no_share_is_shown_as_a_number():
    metric = {"name": "spearman", "title": "Spearman correlation", "share": False}
    first, second = checked.report(metric=metric), checked.report(metric=metric)
    checked.model_row(first, "student_int8").update(score=0.93, ci95=[0.92, 0.94])
    checked.model_row(second, "student_int8").update(score=0.91, ci95=[0.90, 0.925])
    found = changes(first, second)["Scores"]["student_int8: Spearman correlation"]
    assert found == ("0.930 (0.920 to 0.940)", "0.910 (0.900 to 0.925)", "−0.020; the intervals overlap")


def test_a_report_of_before_there_were_other_tasks_is_compared_with_a_new_one(tmp_path):
    new = checked.report()
    old = {key: value for key, value in new.items() if key not in ("kind", "metric")} | {"schema_version": 1}
    names = ("score", "metrics")
    old["models"] = []
    for row in new["models"]:
        accuracy, macro = row["metrics"]
        found = {key: value for key, value in row.items() if key not in names} | {"accuracy": row["score"]}
        found |= {"macro_f1": macro["estimate"], "macro_f1_ci95": [macro["low"], macro["high"]]}
        assert (accuracy["name"], macro["name"]) == ("accuracy", "macro_f1")
        old["models"].append(found)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(old))
    assert changes(read_report(path), new) == changes(new, new)


def test_speed_is_the_ratio_to_the_own_teacher_and_slower_is_said_in_words():
    remarks = {
        remark for *_, remark in changes(with_speedup(1.0), with_speedup(0.5))["Speed over the own teacher"].values()
    }
    assert remarks == {"0.50 times the ratio: slower"}


def test_a_ratio_within_the_noise_of_both_machines_is_no_difference():
    first, second = with_speedup(1.0, 0.001), with_speedup(1.02, 0.001)  # each run has noise of 1.2%
    remarks = {remark for *_, remark in changes(first, second)["Speed over the own teacher"].values()}
    assert remarks == {"no difference"}


def test_milliseconds_are_never_compared():
    first, second = checked.report(), checked.report()
    for row in second["latency"]:
        row.update({name: value * 10 for name, value in row.items() if name.startswith("p") and name.endswith("_ms")})
    assert changes(first, second) == changes(first, first)


def test_a_run_that_was_not_timed_is_named():
    first, second = checked.report(), checked.report()
    second.update(latency=[], speedups=[])
    assert notes(first, second, "Speed over the own teacher") == "Nothing was timed in the second run."


def test_sizes_versions_layers_and_warnings_that_changed_are_shown():
    first, second = checked.report(), checked.report(layer_map={"copied": [0, 1, 2]})
    checked.model_row(second, "student_int8")["size_bytes"] = (
        checked.model_row(first, "student_int8")["size_bytes"] // 2
    )
    second["environment"]["versions"]["onnxruntime"] = "2.0.0"
    first["warnings"], second["warnings"] = ["old"], ["new"]
    found = changes(first, second)
    assert found["Size"]["student_int8: file"][2] == "−50.0%"
    assert found["Machine and versions"] == {"onnxruntime": ("1.32.0", "2.0.0", "")}
    assert found["What was built"]["layer_map.copied"][1] == "0, 1, 2"
    assert found["Warnings"] == {"old": ("there", "gone", ""), "new": ("not there", "new", "")}


def test_the_markdown_escapes_what_the_reports_say():
    first, second = checked.report(), checked.report()
    second["warnings"] = ["<script> | *bold*"]
    drawn = markdown(compare(first, second), "a_b", "c")
    assert "# a\\_b → c" in drawn
    assert r"| \<script\> \| \*bold\* | not there | new |  |" in drawn


def test_the_command_reads_folders_and_reports_and_writes_markdown(tmp_path, capsys):
    folder = checked.write(tmp_path / "first", score=0.92)
    other = checked.write(tmp_path / "second") / "report/report.json"
    assert main(["compare", str(folder), str(other), "--output", str(tmp_path / "out/compare.md")]) == 0
    assert "student_int8: accuracy" in capsys.readouterr().out
    assert "### Scores" in (tmp_path / "out/compare.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "schema_version None"),
        ('{"schema_version": 3}', "schema_version 3; this compressor reads 2"),
        ('{"schema_version": 1, "verdict": {}}', "it has no headline.speedup"),
    ],
)
def test_a_report_that_is_none_is_refused_with_the_reason(tmp_path, content, message):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_report(path)


def test_a_missing_run_is_the_users_error(tmp_path: Path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path / "b.json")]) == 2
    assert "has no report/report.json" in capsys.readouterr().err
