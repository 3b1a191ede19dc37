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
    spec.loader.exec_module(module)
    return module


def finished(copy: str, slower: str) -> dict:
    rows = [
        {"model": model, "cell": "own lengths", "slower_by": 0.1, "ci95": [0.0, 0.2], "verdict": verdict}
        for model, verdict in (("A'", copy), ("B", slower))
    ]
    return {"seconds": 25.0, "rounds": 5, "threads": 2, "noise_floor": 0.01, "rows": rows, "notes": []}


def test_right_is_no_difference_to_the_copy_and_slower_with_a_tenth_more_work(noise):
    done = [finished("no difference", "slower"), finished("slower", "no difference"), finished("faster", "slower")]
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
    right = finished("no difference", "slower")
    (tmp_path / "runs.jsonl").write_text(json.dumps(right) + "\n")
    started = []
    monkeypatch.setattr(noise, "build", lambda folder: {})
    monkeypatch.setattr(noise, "run", lambda paths, threads: started.append(threads) or right)
    monkeypatch.setattr(sys, "argv", ["noise.py", "--runs", "3", "--threads", "2", "--output-dir", str(tmp_path)])
    noise.main()
    assert started == [2, 2]
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 3
    told = capsys.readouterr().out
    assert "| A' | own lengths | no difference | 3 |" in told
    assert json.loads(told.splitlines()[-1])["runs"] == 3
