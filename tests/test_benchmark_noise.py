"""The script that proves the verdicts: what it counts, and that it goes on where it was stopped."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/noise.py"


@pytest.fixture(scope="module")
def noise():
    spec = importlib.util.spec_from_file_location("noise", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # as it is where the script is run
        spec.loader.exec_module(module)
    return module


def told(copy: str, slower: str) -> dict:
    rows = [
        {"model": model, "cell": "own lengths", "slower_by": by, "ci95": [by - 0.1, by + 0.1], "verdict": verdict}
        for model, by, verdict in (("A'", -0.004, copy), ("B", 0.1, slower))
    ]
    found = {"seconds": 25.0, "rounds": 5, "threads": 2, "noise_floor": 0.01, "notes": [], "cpu": "EPYC"}
    return {**found, "rows": rows}


def test_right_is_no_difference_to_the_copy_and_slower_with_a_tenth_more_work(noise):
    done = [told("no difference", "slower"), told("slower", "no difference"), told("faster", "slower")]
    found = {row["model"]: row for row in noise.counts(done)["verdicts"]}
    assert (found["A'"]["right"], found["A'"]["all"]) == (1, {"no difference": 1, "slower": 1, "faster": 1})
    assert (found["B"]["right"], found["B"]["all"]) == (2, {"slower": 2, "no difference": 1})


def test_b_does_a_tenth_more_of_the_same_work(noise):
    from compressor.benchmark import encoder_flops

    work = {
        name: encoder_flops(layers, noise.HIDDEN, 4 * noise.HIDDEN, 1, noise.LENGTH)
        for name, layers in noise.NAMES.items()
    }
    assert work["B"] / work["A"] == pytest.approx(1.1)


def test_a_stopped_proof_goes_on_and_prints_all_its_runs(noise, tmp_path, monkeypatch, capsys):
    right, results = told("no difference", "slower"), tmp_path / "noise.json"
    noise.finished.add(results, "run 02", right)
    started = []
    monkeypatch.setattr(noise, "build", lambda folder: {})
    monkeypatch.setattr(noise, "run", lambda paths, threads: started.append(threads) or right)
    monkeypatch.setattr(sys, "argv", ["noise.py", "--runs", "3", "--threads", "2", "--results", str(results)])
    noise.main()
    assert started == [2, 2]
    assert sorted(json.loads(results.read_text())) == ["run 01", "run 02", "run 03"]
    printed = capsys.readouterr().out
    assert "| A' | own lengths | no difference | 3 | −0.4% |" in printed
    assert json.loads(printed.splitlines()[-1])["runs"] == 3


def test_the_page_has_a_place_for_the_table(noise, tmp_path, monkeypatch):
    page, results = tmp_path / "benchmark.md", tmp_path / "noise.json"
    page.write_bytes((SCRIPT.parents[1] / "docs/benchmark.md").read_bytes())
    results.write_text(json.dumps({"run 01": told("no difference", "slower")}), encoding="utf-8")
    monkeypatch.setattr(noise, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["noise.py", "--render", "--results", str(results)])
    noise.main()
    once = page.read_text(encoding="utf-8")
    assert "| B | own lengths | slower | 1 | +10.0% |" in once
    assert "On EPYC with 2 threads; a run took 5 rounds and 25 s, and its noise floor was 1.0% (medians)." in once
    noise.main()
    assert page.read_text(encoding="utf-8") == once
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="has no <!-- noise"):
        noise.main()
