"""Finding a model: folders, aliases, and a hub served on 127.0.0.1; refusing what is unsafe or damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from compressor.errors import DataError, TeacherError, UserError
from compressor.events import Event, Note
from compressor.pooling import read_pooling
from compressor.teacher import hub
from compressor.teacher.checkpoint import Checkpoint, fingerprint
from tests import tiny
from tests.hub_server import Hub

BERT = "google-bert/bert-base-uncased"
TRUNCATED = "The file is incomplete or damaged: download or copy it again."


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A headless tiny BERT with the files of other formats beside it, as popular models are published."""
    folder = tiny.headless_folder(tmp_path_factory.mktemp("published"))
    (folder / "onnx").mkdir()
    for extra in ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "onnx/model.safetensors", "modeling.py"):
        (folder / extra).write_bytes(b"not to be downloaded")
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(published, tmp_path / "model", ignore=shutil.ignore_patterns("*.bin", "*.h5", "onnx")))


@dataclass(frozen=True)
class Outcome:
    """What ``locate`` did in a process of its own."""

    error: str = ""
    message: str = ""
    remedy: str = ""
    path: str = ""
    commit: str = ""
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    last_progress: tuple[int, int] | None = None


SCRIPT = """
import json, sys
from compressor.teacher import hub
from compressor.errors import CompressorError, HubError
notes, progress = [], []
def listen(event):
    if hasattr(event, "text"): notes.append(event.text)
    else: progress.append((event.step, event.total))
try:
    found = hub.locate(sys.argv[1], sys.argv[2] or None, listen)
    result = {"path": str(found.path), "commit": found.commit, "files": sorted(file.name for file in found.path.iterdir())}
except CompressorError as error:
    kind = "HubError" if isinstance(error, HubError) else type(error).__name__
    result = {"error": kind, "message": error.message, "remedy": error.remedy}
print(json.dumps({**result, "notes": notes, "last_progress": progress[-1] if progress else None}))
"""

Locate = Callable[..., Outcome]


def run(server: Hub, home: Path, name: str, revision: str = "", **environment: str) -> Outcome:
    """Call ``hub.locate`` in a fresh process, because huggingface_hub reads its settings when imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, name, revision],
        env=server.environment(home, **environment), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    values = json.loads(done.stdout)
    return Outcome(**{key: tuple(item) if isinstance(item, list) else item for key, item in values.items()})


@pytest.fixture
def locate(tmp_path: Path) -> Locate:
    """``run`` with an empty cache."""
    return lambda server, *arguments, **environment: run(server, tmp_path / "home", *arguments, **environment)


@dataclass(frozen=True)
class Downloaded:
    """A first run of ``bert-base`` and the cache that it left."""

    home: Path
    outcome: Outcome
    requests: tuple[str, ...]


@pytest.fixture(scope="module")
def downloaded(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Downloaded:
    home = tmp_path_factory.mktemp("home")
    with Hub(models={BERT: published}) as server:
        outcome = run(server, home, "bert-base")
    return Downloaded(home, outcome, tuple(server.requests))


def refusal(action: Callable[[], object]) -> UserError:
    with pytest.raises(UserError) as caught:
        action()
    assert caught.value.exit_code == 2
    return caught.value


# --- the hub --------------------------------------------------------------------------------


def test_an_alias_downloads_config_weights_and_tokenizer_and_nothing_else(downloaded: Downloaded) -> None:
    files = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert downloaded.outcome.files == files
    assert {line.rpartition("/")[2] for line in downloaded.requests if "/resolve/" in line} == set(files)


def test_a_sentence_encoder_comes_with_how_it_pools(locate: Locate, tmp_path: Path) -> None:
    """Without that a model of first tokens would be pooled by the mean, in silence."""
    folder = tiny.teacher_folder(tmp_path / "published", kind="feature-extraction")
    with Hub(models={"someone/embedder": folder}) as server:
        found = Path(locate(server, "someone/embedder").path)
    assert read_pooling(found) == read_pooling(folder)
    assert (found / "modules.json").is_file()
    assert (found / "1_Pooling/config.json").is_file()
    assert (found / "sentence_bert_config.json").is_file()


def test_download_progress_ends_with_all_bytes(published: Path, downloaded: Downloaded) -> None:
    total = sum((published / file).stat().st_size for file in downloaded.outcome.files)
    assert downloaded.outcome.last_progress == (total, total)


def test_a_second_run_downloads_no_file_again(published: Path, downloaded: Downloaded) -> None:
    with Hub(models={BERT: published}) as server:
        second = run(server, downloaded.home, BERT)
    assert second.path == downloaded.outcome.path
    assert server.requests
    assert not [line for line in server.requests if "/resolve/" in line]


def test_a_downloaded_model_is_found_when_the_hub_is_gone_and_a_note_says_so(downloaded: Downloaded) -> None:
    with Hub() as server:
        pass
    found = run(server, downloaded.home, "bert-base")
    assert found.path == downloaded.outcome.path
    assert found.notes == (
        f"The hub at {server.url} cannot be reached; {BERT} is used as downloaded earlier (commit {found.commit[:12]}).",
    )


def test_offline_mode_uses_the_cache_and_sends_nothing(published: Path, downloaded: Downloaded) -> None:
    with Hub(models={BERT: published}) as server:
        found = run(server, downloaded.home, "bert-base", HF_HUB_OFFLINE="1")
    assert (found.path, server.requests) == (downloaded.outcome.path, [])
    assert found.notes[0].startswith("HF_HUB_OFFLINE keeps the hub from being asked;")


def test_a_hub_that_fails_lets_the_cache_stand_in(downloaded: Downloaded) -> None:
    with Hub(status=503) as server:
        found = run(server, downloaded.home, "bert-base")
    assert found.path == downloaded.outcome.path
    assert found.notes[0].startswith(f"The hub at {server.url} failed with HTTP 503;")


def test_a_commit_can_be_asked_for(published: Path, locate: Locate) -> None:
    with Hub(models={BERT: published}) as server:
        commit = server.revisions["models", BERT]["main"].commit
        assert locate(server, "bert-base", commit).commit == commit


def test_the_hubs_conversion_replaces_a_pickle_and_works_offline_afterwards(
    published: Path, tmp_path: Path, locate: Locate
) -> None:
    pickled = Path(shutil.copytree(published, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors")))
    with Hub(models={BERT: pickled}, conversions={BERT: published}) as server:
        found = locate(server, "bert-base")
    assert found.notes == (f"{BERT} is a pickle on main; the hub's safetensors conversion refs/pr/1 is used.",)
    assert "model.safetensors" in found.files
    assert locate(server, "bert-base").path == found.path


def test_a_pickle_on_the_hub_is_refused_before_anything_is_downloaded(
    published: Path, tmp_path: Path, locate: Locate
) -> None:
    pickled = Path(shutil.copytree(published, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors")))
    with Hub(models={BERT: pickled}) as server:
        found = locate(server, "bert-base")
    assert found.error == "TeacherError"
    assert found.message == (
        f"{BERT} has its weights only as a pickle (pytorch_model.bin), which can run code when it is loaded."
    )
    assert not [line for line in server.requests if "/resolve/" in line]


def test_an_unreachable_hub_says_what_to_do(locate: Locate) -> None:
    with Hub() as server:
        pass
    found = locate(server, "bert-base")
    assert found.error == "HubError"
    assert found.message == f"The hub at {server.url} cannot be reached; {BERT} was not downloaded before."
    assert found.remedy == (
        "Check the network and the proxy (HTTPS_PROXY), set HF_ENDPOINT to a mirror, "
        "or download the model elsewhere and give its folder to --teacher."
    )


def test_offline_mode_without_a_download_says_what_to_do(locate: Locate) -> None:
    with Hub() as server:
        found = locate(server, "bert-base", HF_HUB_OFFLINE="1")
    assert found.message == f"HF_HUB_OFFLINE keeps the hub from being asked; {BERT} was not downloaded before."
    assert found.remedy == "Unset HF_HUB_OFFLINE, or download the model elsewhere and give its folder to --teacher."


def test_a_server_error_without_a_download_is_named(locate: Locate) -> None:
    with Hub(status=503) as server:
        found = locate(server, "bert-base")
    assert found.message == f"The hub at {server.url} failed with HTTP 503; {BERT} was not downloaded before."


def test_a_page_that_is_no_hub_is_recognised(locate: Locate) -> None:
    with Hub(status=200) as server:
        found = locate(server, "bert-base")
    assert found.message == f"What answers at {server.url} is not a model hub; {BERT} was not downloaded before."


def test_an_unknown_name_brings_the_nearest_alias(locate: Locate) -> None:
    with Hub() as server:
        found = locate(server, "bert-bas")
    assert found.error == "HubError"
    assert found.message == f"The hub at {server.url} knows no model bert-bas, or it is private."
    assert (
        found.remedy == "Did you mean bert-base? Check the spelling; for a private model log in with `hf auth login`."
    )


def test_a_gated_model_says_where_to_accept_its_terms(published: Path, locate: Locate) -> None:
    with Hub(models={"org/model": published}, gated=frozenset({"org/model"})) as server:
        found = locate(server, "org/model")
    assert found.message == "org/model is gated: its owner asks you to accept terms first."
    assert found.remedy == f"Accept them at {server.url}/org/model, log in with `hf auth login`, and run again."


def test_an_unknown_revision_is_named(published: Path, locate: Locate) -> None:
    with Hub(models={BERT: published}) as server:
        found = locate(server, "bert-base", "v9")
    assert found.message == f"{BERT} has no revision 'v9'."


def test_datasets_reads_a_parquet_repository_from_this_hub_and_offline_afterwards(tmp_path: Path) -> None:
    """What the end-to-end test builds on: the stand-in serves load_dataset too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "repo" / "data").mkdir(parents=True)
    for split, rows in (("train", 6), ("test", 4)):
        table = pa.table({"text": [f"{split} {row}" for row in range(rows)], "label": [row % 2 for row in range(rows)]})
        pq.write_table(table, tmp_path / "repo" / "data" / f"{split}-00000-of-00001.parquet")
    (tmp_path / "repo" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: data/train-*\n  - split: test\n    path: data/test-*\n---\n"
    )
    code = (
        "import datasets, sys\n"
        "found = datasets.load_dataset('org/reviews', revision=sys.argv[1] or None)\n"
        "print({name: split.num_rows for name, split in found.items()}, found['test'][3]['text'])"
    )
    with Hub(datasets={"org/reviews": tmp_path / "repo"}) as server:
        commit = server.revisions["datasets", "org/reviews"]["main"].commit
        runs = [(commit, {}), ("", {"HF_HUB_OFFLINE": "1"})]
        printed = [
            subprocess.run(
                [sys.executable, "-c", code, revision], capture_output=True, text=True, check=True,
                env=server.environment(tmp_path / "home", **more),
            ).stdout.strip()
            for revision, more in runs
        ]  # fmt: skip
    assert printed == ["{'train': 6, 'test': 4} test 3"] * 2


# --- folders and names ----------------------------------------------------------------------


def test_every_alias_names_an_owner_and_a_model() -> None:
    assert all(row.repository.count("/") == 1 for row in hub.ALIASES.values())
    assert {"bert-base", "bert-large", "roberta-base", "distilbert", "albert-base", "mobilebert", "electra-base",
            "mpnet-base", "modernbert-base", "minilm", "bert-base-chinese"} == set(hub.ALIASES)  # fmt: skip


@pytest.mark.parametrize("name", ["bert-base", BERT])
def test_an_alias_and_its_hub_id_have_the_same_default_dataset(name: str) -> None:
    assert hub.default_dataset(name, "text-classification") == "cornell-movie-review-data/rotten_tomatoes"


def test_the_chinese_alias_asks_for_data() -> None:
    error = refusal(lambda: hub.default_dataset("bert-base-chinese", "text-classification"))
    assert isinstance(error, DataError)
    assert error.message == (
        "No data given, and the alias bert-base-chinese has no default dataset for text-classification."
    )


def test_a_folder_without_data_asks_for_data() -> None:
    error = refusal(lambda: hub.default_dataset("./mine", "text-classification"))
    assert error.message == "No data given, and none belongs to the teacher ./mine."


def test_a_local_folder_is_read_in_place(folder: Path) -> None:
    found = hub.locate(str(folder))
    assert (found.path, found.repository) == (folder.resolve(), None)
    assert found.config["model_type"] == "bert"
    assert found.tensors["embeddings.word_embeddings.weight"].shape == (len(tiny.tokenizer()), 32)


def test_a_folder_wins_over_an_alias_of_its_name_with_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder.rename(tmp_path / "bert-base")
    monkeypatch.chdir(tmp_path)
    heard: list[Event] = []
    assert hub.locate("bert-base", None, heard.append).path == tmp_path / "bert-base"
    assert heard == [Note("bert-base is a folder here: it is used, not the model of the alias bert-base.")]


def test_a_missing_folder_brings_the_nearest_one(folder: Path) -> None:
    error = refusal(lambda: hub.locate(f"{folder.parent}/modle"))
    assert error.message == f"Teacher {folder.parent}/modle does not exist."
    assert error.remedy == f"Did you mean {folder}? Give a model folder, a hub id or an alias."


def test_a_name_that_no_hub_accepts_is_refused_without_asking_one() -> None:
    error = refusal(lambda: hub.locate("my model!"))
    assert error.message == "'my model!' is neither a folder nor a hub id."


def test_a_file_is_answered_with_its_folder(folder: Path) -> None:
    error = refusal(lambda: hub.locate(str(folder / "model.safetensors")))
    assert error.message == f"{folder / 'model.safetensors'} is a file."
    assert error.remedy == f"Give the folder that holds it: {folder}"


def test_a_revision_does_not_go_with_a_folder(folder: Path) -> None:
    error = refusal(lambda: hub.locate(str(folder), "main"))
    assert error.message == f"--teacher-revision main was given, but {folder} is a folder."


# --- what is in the folder ------------------------------------------------------------------


def only(folder: Path, *names: str) -> None:
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_folder_without_a_config_is_no_model_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    error = refusal(lambda: hub.locate(str(folder)))
    assert error.message == f"{folder} is not a model folder: there is no config.json."


def test_a_pickle_is_refused_with_the_way_to_convert_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refusal(lambda: hub.locate(str(folder)))
    assert isinstance(error, TeacherError)
    assert error.message == (
        f"{folder} has its weights only as a pickle (pytorch_model.bin), which can run code when it is loaded."
    )
    assert error.remedy.startswith("Convert it in an environment that you trust, where the model may run code: ")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model.gguf", "{} is a GGUF model, which is already quantized and cannot be distilled."),
        ("tf_model.h5", "{} has only TensorFlow weights (tf_model.h5)."),
        ("flax_model.msgpack", "{} has only Flax weights (flax_model.msgpack)."),
        ("training_args.bin", "{} has no weights: there is no model.safetensors."),
    ],
)
def test_other_formats_are_named(folder: Path, file: str, message: str) -> None:
    (folder / "model.safetensors").rename(folder / file)
    assert refusal(lambda: hub.locate(str(folder))).message == message.format(folder)


def test_an_adapter_is_not_a_model(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    error = refusal(lambda: hub.locate(str(folder)))
    assert error.message == f"{folder} holds only an adapter (PEFT), not a whole model."


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    only(folder, "config.json", "model.safetensors")
    error = refusal(lambda: hub.locate(str(folder)))
    assert error.message.startswith(
        f"{folder} has no tokenizer: none of tokenizer.json, vocab.txt, vocab.json + merges"
    )


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_the_folder_needs_a_flag(folder: Path, file: str) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "modeling.Mine"}}))
    error = refusal(lambda: hub.locate(str(folder)))
    assert error.message == f"{folder} brings Python code of its own (auto_map in its config), which would run here."
    assert error.remedy == "Read that code; if you trust it, allow it with --trust-remote-code."
    assert hub.locate(str(folder), trust_remote_code=True).path == folder


def test_a_quantized_model_is_refused(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "gptq"})
    error = refusal(lambda: hub.locate(str(folder)))
    assert error.message == f"{folder} is already quantized (gptq)."


def test_a_config_that_is_not_json_is_named(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')
    message = refusal(lambda: hub.locate(str(folder))).message
    assert message == f"{folder / 'config.json'} cannot be read as JSON: Expecting value: line 1 column 16 (char 15)."


def test_truncated_weights_are_named_with_both_sizes(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    promised = len(content) - 8 - int.from_bytes(content[:8], "little")
    error = refusal(lambda: hub.locate(str(folder)))
    assert error.message == (
        f"{path} is damaged: its header promises {promised:,} bytes of weights, the file holds {promised - 1000:,}."
    )
    assert error.remedy == TRUNCATED


@pytest.mark.parametrize("size", [0, 5, 200])
def test_weights_cut_inside_the_header_are_named(folder: Path, size: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    message = refusal(lambda: hub.locate(str(folder))).message
    assert message == f"{path} is not a whole safetensors file: {size} bytes do not hold its header."


def safetensors(entries: dict[str, object], data: int) -> bytes:
    raw = json.dumps(entries).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(data)


@pytest.mark.parametrize(
    ("entries", "data"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, 12),
        ({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, 8),
    ],
)  # fmt: skip
def test_overlapping_or_misfitting_tensors_are_refused(folder: Path, entries: dict[str, object], data: int) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(entries, data))
    message = refusal(lambda: hub.locate(str(folder))).message
    assert message == f"{folder / 'model.safetensors'} is damaged: tensors overlap or do not fit their shapes."


@pytest.mark.parametrize("entries", [{"a": {"dtype": "F99", "shape": [], "data_offsets": [0, 0]}}, {"a": {}}, {"a": 3}])
def test_a_header_of_another_form_is_refused(folder: Path, entries: dict[str, object]) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(entries, 0))
    message = refusal(lambda: hub.locate(str(folder))).message
    assert message == f"{folder / 'model.safetensors'} is damaged: its header is not a safetensors header."


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "sharded"
    tiny.model().save_pretrained(folder, max_shard_size="60KB")
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_shards_are_read_as_one_model(sharded: Path) -> None:
    found = hub.locate(str(sharded))
    assert len(found.weights) > 1
    assert set(found.tensors) == set(tiny.model().state_dict())


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shards = sorted(sharded.glob("model-*.safetensors"))
    shards[1].unlink()
    message = refusal(lambda: hub.locate(str(sharded))).message
    assert message == f"1 of {len(shards)} weight shards are missing from {sharded}: {shards[1].name}."


@pytest.mark.parametrize(
    "place", ["../model.safetensors", "/etc/hostname", "sub/model.safetensors", "..\\x.safetensors"]
)
def test_an_index_that_leaves_its_folder_is_refused(sharded: Path, place: str) -> None:
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": place}}))
    message = refusal(lambda: hub.locate(str(sharded))).message
    assert message == f"{index} points outside its folder: {place!r}."


def test_the_fingerprint_follows_weights_and_config_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    def of(path: Path) -> str:
        found: Checkpoint = hub.locate(str(path))
        return fingerprint(found)

    before = of(folder)
    assert of(Path(shutil.copytree(folder, tmp_path / "copy"))) == before
    (folder / "README.md").write_text("more words")
    assert of(folder) == before
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(weights))
    changed = of(folder)
    assert changed != before
    edit_config(folder, hidden_act="relu")
    assert of(folder) not in {before, changed}
