"""The same model, exported and quantized by every tool of the field and by us, measured side by side.

    python benchmarks/peers.py --data DATA --model FOLDER... --work WORK [--rounds 6] [--peer NAME...] [--minutes 60]
    python benchmarks/peers.py --render

DATA holds ``clinc150/data_full.json`` and ``mr/test.jsonl``. FOLDER is a BERT classifier as transformers saves it, for
example a run folder of ``compress``; accuracy is measured where its labels are clinc150's. Or ``bert-base``: a 12x768
BERT with random weights, made in WORK, for time alone. Each peer gets an environment of its own in WORK
(``peers_build.py`` says which packages), and in each round a fresh process, with equal threads, on the same token ids.
All processes of a round are open at once and take short turns, forwards and backwards (``peers_turns.py``): they need
memory for all, but what slows the machine slows all of them. Each round begins with the machine's bounds.

A round of one model is a unit: finished ones stand in ``benchmarks/results/peers.json`` and are not repeated. With
``--peer`` only those are measured beside ours and torch, in rounds of their own. ``--render`` writes ``docs/peers.md``
and its picture, for which matplotlib must be installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from benchmarks import finished, peers_build, peers_page, peers_turns  # noqa: E402
from benchmarks.peers_build import CELLS, COPY, OURS, PEERS, SHAPES, Peer  # noqa: E402
from benchmarks.peers_turns import Answer, Ask  # noqa: E402
from compressor.benchmark import Budget, TokenRows  # noqa: E402
from compressor.benchmark.inputs import Cell, cells, write_cells  # noqa: E402
from compressor.benchmark.process import environment, run_process  # noqa: E402
from compressor.embedded import fetch_embedded  # noqa: E402
from compressor.environment import fingerprint  # noqa: E402
from compressor.folder import write_student  # noqa: E402
from compressor.runtime.machine import available_cores  # noqa: E402

RESULTS = HERE / "results" / "peers.json"
CALIBRATION_ROWS, MAX_LENGTH = 300, 128
BUDGET = Budget(max_texts=40)
DECILES = tuple(range(10, 100, 10))


def read_texts(data: Path) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Texts of ``clinc150`` (test), ``mr`` (test) and ``train``; labels of clinc150's test rows; all label names."""
    clinc = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    test = [row for split in ("test", "oos_test") for row in clinc[split]]
    lines = (data / "mr" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {
        "clinc150": [text for text, _ in test],
        "mr": [json.loads(line)["text"] for line in lines],
        "train": [text for text, _ in clinc["train"]],
    }
    return texts, [label for _, label in test], sorted({label for _, label in test})


def prepare(model: Path, data: Path, folder: Path) -> dict[str, Any]:
    """Write the token ids that all peers are fed, and tell what belongs to them.

    Returns:
        ``inputs``, ``names`` and ``tokens`` of the timed cells, and the ``gold`` labels where the model knows them.
    """
    from transformers import AutoConfig, AutoTokenizer

    config, tokenizer = AutoConfig.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    texts, labels, names = read_texts(data)
    cut = {
        name: [dict(row) for row in _rows(tokenizer(some, truncation=True, max_length=MAX_LENGTH))]
        for name, some in texts.items()
    }
    inputs = tuple(cut["mr"][0])
    rows = {name: TokenRows(some, inputs, MAX_LENGTH) for name, some in cut.items()}
    sizes, lengths = (sorted(set(of)) for of in zip(*SHAPES, strict=True))
    made = {name: cells(rows[name], sizes, lengths, BUDGET) for name in ("clinc150", "mr")}
    timed = [made[name][0] for name in made]
    timed += [cell for cell in made["clinc150"] if (cell.batch_size, cell.sequence_length) in SHAPES]
    folder.mkdir(parents=True, exist_ok=True)
    write_cells(timed, folder / "timed.npz")
    alone = [_alone(row, inputs) for row in cut["clinc150"]]
    write_cells([Cell(1, None, tuple(alone))], folder / "classified.npz")
    some = np.random.default_rng(0).permutation(len(cut["train"]))[:CALIBRATION_ROWS]
    calibration = [_alone(cut["train"][index], inputs) for index in some]
    write_cells([Cell(1, None, tuple(calibration))], folder / "calibration.npz")
    known = {name: index for name, index in config.label2id.items() if name in set(names)}
    return {
        "inputs": inputs,
        "names": CELLS,
        "tokens": [cell.tokens / cell.batch_size for cell in timed],
        "batches": [cell.batch_size for cell in timed],
        "feeds": [len(cell.feeds) for cell in timed],
        "gold": [known[label] for label in labels] if len(known) == len(names) else None,
        "sizes": {
            "layers": config.num_hidden_layers, "hidden": config.hidden_size, "intermediate": config.intermediate_size
        },
    }  # fmt: skip


def _rows(found: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _alone(row: Mapping[str, Sequence[int]], inputs: Sequence[str]) -> dict[str, Any]:
    return {name: np.array([row[name]], np.int64) for name in inputs}


def bert_base(folder: Path, tokenizer: Path | None) -> Path:
    """A 12x768 BERT with two labels and seeded random weights, under a tokenizer of its vocabulary."""
    if not (folder / "model.safetensors").exists():
        import torch
        from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

        source = tokenizer or fetch_embedded(folder.parent).teacher
        torch.manual_seed(0)
        model = BertForSequenceClassification(BertConfig(num_labels=2))
        write_student(folder, model, AutoTokenizer.from_pretrained(source), MAX_LENGTH)
    return folder


@contextlib.contextmanager
def opened(
    peer: Peer, model: Path, cells: Path, about: Mapping[str, Any], work: Path, threads: int
) -> Iterator[tuple[Ask, Answer]]:
    """A peer's process with its model open, and what it said about that."""
    variables = environment(threads, peers_build.offline(peer))
    if peer.environment != "ours":
        variables.pop("PYTHONPATH")
    variables["TORCHINDUCTOR_CACHE_DIR"] = str(work / "inductor")
    job = {
        "path": str(peers_build.path_of(peer, model, cells.parent)), "cells": str(cells), "inputs": about["inputs"],
        "engine": peer.engine, "threads": threads,
    }  # fmt: skip
    with peers_turns.worker(peer.name, peers_build.python_of(peer, work), variables) as ask:
        yield ask, ask(job)


def one_round(
    chosen: Sequence[Peer], about: Mapping[str, Any], model: Path, folder: Path, work: Path, threads: int
) -> dict[str, Any]:
    """Measure the bounds, then all peers, in fresh processes that take turns."""
    bounds = run_process("compressor.benchmark.machine", {"threads": threads}, threads, "the machine", 120.0)
    with contextlib.ExitStack() as stack:
        open_ = {
            peer.name: stack.enter_context(opened(peer, model, folder / "timed.npz", about, work, threads))
            for peer in chosen
        }
        asks = {name: ask for name, (ask, _) in open_.items()}
        cells, share = peers_turns.take_turns(asks, about["feeds"])
        peaks = {name: ask({})["peak_bytes"] for name, ask in asks.items()}
    found: dict[str, Any] = {"bounds": bounds, "others_share": round(share, 3), "peers": {}}
    for name, (_, told) in open_.items():
        found["peers"][name] = {
            "load_seconds": round(told["load_seconds"], 3),
            "peak_bytes": peaks[name],
            "cells": {
                cell: {
                    "calls": len(samples[name]),
                    "median_ms": float(np.median(samples[name])),
                    "deciles_ms": [round(float(value), 4) for value in np.percentile(samples[name], DECILES)],
                }
                for cell, samples in zip(about["names"], cells, strict=True)
            },
        }
        print(f"  {name}: " + ", ".join(
            f"{cell} {one['median_ms']:.2f}" for cell, one in found["peers"][name]["cells"].items()
        ), flush=True)  # fmt: skip
    return found


def classify(peer: Peer, about: Mapping[str, Any], model: Path, folder: Path, work: Path) -> dict[str, Any]:
    """What a peer's file says about clinc150's test texts, one at a time; beside the labels and beside torch."""
    # One thread: answers do not depend on it, and nothing else need rest meanwhile.
    with opened(peer, model, folder / "classified.npz", about, work, 1) as (ask, told):
        labels = ask({"classify": True})["labels"]
    reference = folder / "torch.json"
    if peer.name == "torch":
        reference.write_text(json.dumps(labels), encoding="utf-8")
    expected = json.loads(reference.read_text(encoding="utf-8"))
    return {
        "versions": told["versions"],
        "file_bytes": sum(file.stat().st_size for file in _files(peers_build.path_of(peer, model, folder))),
        "texts": len(labels),
        "right": _equal(labels, about["gold"]),
        "as_torch": _equal(labels, expected),
    }


def _equal(found: Sequence[int], expected: Sequence[int]) -> int:
    return sum(one == two for one, two in zip(found, expected, strict=True))


def _files(path: Path) -> list[Path]:
    return [path / "model.safetensors"] if path.is_dir() else [path, *path.parent.glob(f"{path.stem}.bin")]


def run(asked: argparse.Namespace) -> None:
    """Build what is missing, classify, and measure rounds until the time is up."""
    deadline = time.monotonic() + 60 * asked.minutes
    work, threads = asked.work.resolve(), asked.threads or available_cores()
    chosen = [peer for peer in PEERS if not asked.peer or peer.name in {*asked.peer, "torch", *OURS.values(), COPY}]
    peers_build.environments(work, {peer.environment for peer in chosen})
    for source in asked.model:
        model = bert_base(work / source, asked.tokenizer) if source == "bert-base" else Path(source).resolve()
        name = f"{model.name}, {threads} threads"
        folder = work / "models" / model.name
        about = prepare(model, asked.data, folder)
        for peer in PEERS:
            if peer in chosen or peer.name in {"optimum", "onnxruntime", "openvino"}:
                seconds = peers_build.artefact(peer, model, folder, work)
                if seconds is not None:
                    print(f"{name}: {peer.name} built in {seconds:.0f} s", flush=True)
        if asked.prepare:
            continue
        # torch first: the others are compared with it.
        for peer in sorted(chosen, key=lambda peer: peer.name != "torch"):
            unit = f"{model.name}: {peer.name}"
            if about["gold"] and peer.name != COPY and unit not in finished.read(RESULTS):
                finished.add(RESULTS, unit, classify(peer, about, model, folder, work))
        some = f", {' '.join(sorted(asked.peer))}" if asked.peer else ""
        for number in range(1, asked.rounds + 1):
            unit = f"{name}{some}: round {number}"
            if unit in finished.read(RESULTS) or time.monotonic() > deadline:
                continue
            print(unit, flush=True)
            found = one_round(chosen[:: 1 if number % 2 else -1], about, model, folder, work, threads)
            kept = {key: about[key] for key in ("tokens", "batches", "sizes")}
            machine = {key: fingerprint()[key] for key in ("date", "cpu", "virtual_machine", "versions")}
            finished.add(RESULTS, unit, {"model": name, "environment": machine, **kept, **found})


def main() -> None:
    """Measure, or render what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true", help="write docs/peers.md and measure nothing")
    parser.add_argument("--prepare", action="store_true", help="build environments and files, and measure nothing")
    parser.add_argument("--data", type=Path, help="folder with clinc150 and mr")
    parser.add_argument("--model", nargs="+", default=["bert-base"], help="folders of BERT classifiers, or bert-base")
    parser.add_argument("--tokenizer", type=Path, help="for bert-base; default: that of the embedded MiniLM")
    parser.add_argument("--work", type=Path, default=Path("exported/peers"), help="folder for environments and files")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--peer", nargs="*", default=[], choices=[peer.name for peer in PEERS], metavar="NAME")
    parser.add_argument("--threads", type=int, default=None, help="default: the cores this process may use")
    parser.add_argument("--minutes", type=float, default=1e6, help="start no round after this many minutes")
    asked = parser.parse_args()
    if asked.render:
        print(peers_page.write(finished.read(RESULTS)))
    elif asked.data:
        run(asked)
    else:
        parser.error("--data is needed to measure; --render needs nothing")


if __name__ == "__main__":
    main()
