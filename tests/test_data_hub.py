"""A dataset by its hub name, from a hub served on 127.0.0.1; what the hub cannot give is explained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import tiny
from tests.hub_server import Hub

NAME = "someone/reviews"
CODE = """
import json, sys
from compressor.data import read_corpus
from compressor.errors import HubError, UserError
from compressor.recipe import DataRecipe
for name, teacher in json.loads(sys.argv[1]):
    try:
        corpus = read_corpus(DataRecipe(), name, teacher and tuple(teacher), 0)
        told = {"labels": corpus.labels, "rows": {name: len(split.texts) for name, split in corpus.splits.items()},
                "first": [corpus.splits["train"].texts[0], int(corpus.splits["train"].labels[0])],
                "notes": corpus.notes}
    except UserError as error:
        name = "HubError" if isinstance(error, HubError) else type(error).__name__
        told = {"error": name, "message": error.message, "remedy": error.remedy}
    print(json.dumps(told))
"""
Request = tuple[str, list[str] | None]


def read(hub: Hub, home: Path, *requests: Request, **environment: str) -> list[Any]:
    """Read datasets in one fresh process: the libraries read the environment when they are imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(requests)],
        env=hub.environment(home, HF_DATASETS_CACHE=str(home / "datasets"), **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "the libraries below must not write to the terminal"
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def publish(folder: Path, text: str = "text", card: str = "") -> Path:
    """A Parquet dataset as the hub lays it out, with declared label names and an unlabelled test split."""
    (folder / "data").mkdir(parents=True)
    if card:
        (folder / "README.md").write_text(card)
    for split, rows in (("train", 40), ("validation", 8), ("test", 6)):
        reviews = tiny.reviews(rows, seed=rows)
        table = pa.table(
            {
                text: [words for words, _ in reviews],
                "label": [-1 if split == "test" else int(name == "positive") for _, name in reviews],
            }
        )
        names = {"names": ["neg", "pos"], "_type": "ClassLabel"}
        features = {text: {"dtype": "string", "_type": "Value"}, "label": names}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


CARD = "\n".join(
    ["---", "configs:"]
    + [f"- config_name: {name}\n  data_files:\n  - split: train\n    path: data/train-*" for name in ("one", "two")]
    + ["---", ""]
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every request of this module was answered."""
    root = tmp_path_factory.mktemp("hub")
    (root / "script").mkdir()
    (root / "script" / "script.py").write_text("raise SystemExit")
    (root / "damaged").mkdir()
    (root / "damaged" / "train.parquet").write_bytes(b"PAR1 and no more")
    folders = {
        NAME: publish(root / "plain"),
        "someone/script": root / "script",
        "someone/configured": publish(root / "configured", card=CARD),
        "someone/pairs": publish(root / "pairs", text="premise"),
        "someone/gated": publish(root / "gated"),
        "someone/damaged": root / "damaged",
    }
    requests: dict[str, Request] = {
        "plain": (NAME, None),
        "turned": (NAME, ["pos", "neg"]),
        "missing": ("someone/nothing", None),
        "odd": ("two words", None),
        "gated": ("someone/gated", None),
        "damaged": ("someone/damaged", None),
        "script": ("someone/script", None),
        "configured": ("someone/configured", None),
        "configuration": ("someone/configured:two", None),
        "columns": ("someone/pairs", None),
    }
    again: list[Request] = [(NAME, None), ("someone/nothing", None), ("someone/configured:one", None)]
    with Hub(datasets=folders, gated=frozenset({"someone/gated"})) as hub:
        found = dict(zip(requests, read(hub, root / "home", *requests.values()), strict=True))
    commit = hub.revisions["datasets", NAME]["main"].commit
    asked = list(hub.requests)
    gone = read(hub, root / "home", *again)
    offline = read(hub, root / "home", *again, HF_HUB_OFFLINE="1")
    return {**found, "gone": gone, "offline": offline, "url": hub.url, "commit": commit, "asked": asked}


def test_a_dataset_is_read_by_name(told: dict[str, Any]) -> None:
    assert told["plain"]["labels"] == ["neg", "pos"]
    # 4 of the 40 training rows are held out, because the dataset keeps the labels of its test split.
    assert told["plain"]["rows"] == {"train": 36, "validation": 8, "test": 4}
    assert "The test split of the dataset has no labels, so it is not used." in told["plain"]["notes"]


def test_the_commit_is_noted_and_every_file_is_of_that_commit(told: dict[str, Any]) -> None:
    assert f"The data are {NAME} of the hub (commit {told['commit'][:12]})." in told["plain"]["notes"]
    files = [line for line in told["asked"] if f"/datasets/{NAME}/resolve/" in line]
    assert files
    assert all(f"/resolve/{told['commit']}/" in line for line in files)


def test_a_dataset_is_found_again_when_the_hub_is_gone_and_a_note_says_so(told: dict[str, Any]) -> None:
    for found, why in (
        (told["gone"][0], f"The hub at {told['url']} cannot be reached"),
        (told["offline"][0], "HF_HUB_OFFLINE keeps the hub from being asked"),
    ):
        note = f"{why}; the data are {NAME} as downloaded earlier (commit {told['commit'][:12]})."
        assert found == {**told["plain"], "notes": [note, *told["plain"]["notes"][1:]]}


def test_declared_names_of_a_hub_dataset_are_matched_by_name(told: dict[str, Any]) -> None:
    assert told["turned"]["labels"] == ["pos", "neg"]
    assert told["turned"]["first"] == [told["plain"]["first"][0], 1 - told["plain"]["first"][1]]


def test_a_dataset_that_the_hub_does_not_have_is_an_error(told: dict[str, Any]) -> None:
    assert told["missing"] == {
        "error": "HubError",
        "message": f"The hub at {told['url']} knows no dataset someone/nothing, or it is private.",
        "remedy": "No file or folder here has that name either. Check the spelling; for a private dataset log in "
        "with `hf auth login`.",
    }


def test_a_name_that_no_hub_accepts_is_an_error(told: dict[str, Any]) -> None:
    assert told["odd"]["error"] == "HubError"
    assert told["odd"]["message"] == "'two words' is no name of a dataset on the hub."


def test_a_gated_dataset_says_where_to_accept_its_terms(told: dict[str, Any]) -> None:
    assert told["gated"]["error"] == "HubError"
    assert told["gated"]["message"] == "someone/gated is gated: its owner asks you to accept terms first."
    assert told["gated"]["remedy"].startswith(f"Accept them at {told['url']}/datasets/someone/gated, log in ")


@pytest.mark.parametrize("dataset", [1, 2], ids=["no copy", "a copy of another configuration alone"])
def test_without_hub_and_copy_the_ways_out_are_named(dataset: int, told: dict[str, Any]) -> None:
    name = ("", "someone/nothing", "someone/configured")[dataset]
    assert told["gone"][dataset] == {
        "error": "HubError",
        "message": f"The hub at {told['url']} cannot be reached; {name} was not downloaded before.",
        "remedy": "No file or folder here has that name either. Check the network and the proxy (HTTPS_PROXY), set "
        "HF_ENDPOINT to a mirror, or download the dataset elsewhere and give its folder to --data.",
    }
    assert told["offline"][dataset] == {
        "error": "HubError",
        "message": f"HF_HUB_OFFLINE keeps the hub from being asked; {name} was not downloaded before.",
        "remedy": "No file or folder here has that name either. Unset HF_HUB_OFFLINE, or download the dataset elsewhere and give its folder to --data.",
    }


def test_a_dataset_that_is_a_script_is_refused(told: dict[str, Any]) -> None:
    assert told["script"]["error"] == "DataError"
    assert told["script"]["message"] == "Dataset someone/script is a Python script, which is not run."


def test_a_dataset_of_several_configurations_wants_one_after_a_colon(told: dict[str, Any]) -> None:
    assert told["configured"]["message"].startswith("Dataset someone/configured needs a configuration: ")
    assert "one" in told["configured"]["message"]
    assert told["configured"]["remedy"] == "Name it after a colon: --data someone/configured:CONFIGURATION"
    assert told["configuration"]["rows"] == {"train": 32, "validation": 4, "test": 4}


def test_a_dataset_without_text_is_refused_with_its_columns(told: dict[str, Any]) -> None:
    assert told["columns"]["message"] == "someone/pairs, train: no text column. Its columns: 'premise', 'label'."


def test_a_damaged_file_of_a_dataset_is_an_error(told: dict[str, Any]) -> None:
    assert told["damaged"]["error"] == "DataError"
    assert told["damaged"]["message"].startswith(
        "Dataset someone/damaged cannot be read: Parquet magic bytes not found"
    )
