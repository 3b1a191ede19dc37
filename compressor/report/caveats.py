"""What a reader has to know before deploying, in words, drawn from report.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from compressor.artifacts import STUDENT_INT8

LOUD = 0.1
"""A noise floor above it hides differences that a user of this toolkit is after."""


def caveats(document: Mapping[str, Any]) -> list[str]:
    """List the limits of a run's figures."""
    parts = (_speed, _quantization, _company, _pruning, _slimming, _vocabulary, _data)
    return [text for part in parts for text in part(document)]


def _speed(document: Mapping[str, Any]) -> Iterator[str]:
    if not document["latency"]:
        yield "Nothing was timed in this run, so it says nothing about speed."
        return
    shipped = document["verdict"]["model"]
    cells = [row for row in document["speedups"] if row["model"] == shipped]
    for verdict, words in (("slower", "slower than"), ("no difference", "not measurably faster than")):
        places = [cell_name(row) for row in cells if row["verdict"] == verdict]
        if places:
            yield f"The model that ships is {words} the teacher in onnxruntime at: {'; '.join(places)}."
    cpu = document["environment"].get("cpu") or {}
    yield (
        f"Latency belongs to this machine ({cpu.get('model') or 'an unnamed processor'}, "
        f"{document['latency'][0]['threads']} threads) and these texts. Ratios carry over better than milliseconds."
    )
    yield from _loud(document)
    yield from gpu_left_out(document)
    if document["environment"].get("virtual_machine"):
        yield "The machine is a virtual one: its neighbours may have moved the latency tails (p95, p99)."


def _loud(document: Mapping[str, Any]) -> Iterator[str]:
    """What a machine on which a model differs from its own copy cannot show."""
    floor = document["machine"]["noise_floor"]
    if floor is not None and floor > LOUD:
        yield (
            f"The machine was loud: a model and its own copy differed by {floor:.0%}, and no smaller difference can be "
            "seen. Measure again where nothing else computes, or with more --max-rounds."
        )


def gpu_left_out(document: Mapping[str, Any]) -> Iterator[str]:
    """Why nothing was timed on a GPU, where nothing was; for report.json and bench.json."""
    if any(row["provider"] != "cpu" for row in document["latency"]):
        return
    here = document["environment"].get("onnxruntime_providers") or []
    gpus = document["environment"].get("gpus") or []
    has = f"this machine has {', '.join(gpus)}" if gpus else "no GPU was found"
    if "CUDAExecutionProvider" in here:
        why = f"it was not asked for (--provider cuda), and {has}"
    elif here:
        why = f"this onnxruntime has only {', '.join(here)}, and {has}"
    else:
        why = has
    yield f"Nothing was timed on a GPU: {why}."


def _quantization(document: Mapping[str, Any]) -> Iterator[str]:
    found = document["quantization"]
    if not found:
        return
    precision = found.get("precision", "int8")
    if found["quantized"] < found["expected"]:
        yield f"Only {found['quantized']} of {found['expected']} matrix products of the encoder are in {precision}."
    yield _target(found["target"], (document["environment"].get("cpu") or {}).get("instruction_set"), precision)
    yield from _claims(found)
    drift = next((row for row in document["drift"] if row["model"] == STUDENT_INT8), None)
    if drift:
        yield f"{precision} {_changed(drift, document['data']['rows'].get('test', 0))}."
    mode = found.get("mode", "dynamic")
    if document["environment"].get("gpus") and mode in ("dynamic", "per-token", "smooth"):
        yield f"int8 ({mode}) is for the CPU provider; on a GPU fp32 and fp16 are faster."


def _changed(drift: Mapping[str, Any], texts: int) -> str:
    largest = f"{drift['max_abs_difference']:.2f}"
    if drift["changed_labels"] is None:
        return f"changes what the fp32 student says by up to {largest}"
    rows = drift.get("rows", texts)
    what = "test rows" if rows == texts else "windows or blocks of test texts"
    return (
        f"changes what the fp32 student says about {drift['changed_labels']:,} of {rows:,} {what} "
        f"(largest difference of an output {largest})"
    )


def _claims(found: Mapping[str, Any]) -> Iterator[str]:
    doubted = [item for item in found.get("targets", []) if item["status"] == "doubted"]
    for reason in dict.fromkeys(item["reason"] for item in doubted):
        yield f"Doubted on {', '.join(item['target'] for item in doubted if item['reason'] == reason)}: {reason}."
    if any(item["target"] == "cuda" for item in found.get("targets", [])):
        yield "No answer of the smaller file was measured on a GPU: that it is right there is believed, not verified."


def _target(target: str, here: str | None, precision: str = "int8") -> str:
    again = "Evaluate again on the machine that will serve."
    if here is None:
        return (
            f"The {precision} weights were chosen for {target}. What instruction set this machine has is not known, so "
            f"whether they are right there is believed, not verified. {again}"
        )
    if target in (here, "any"):
        return (
            f"The {precision} weights ({target}) were verified on this machine's instruction set, {here}. On others "
            f"their labels are believed, not verified, and their speed differs. {again}"
        )
    return (
        f"The {precision} weights were chosen for {target}, and this machine has {here}: what is reported here was "
        f"measured on {here}. That they are right and fast on {target} is believed, not verified. {again}"
    )


def _company(document: Mapping[str, Any]) -> Iterator[str]:
    for row in document.get("company", []):
        for where, changed in (
            (f"padded to {row['padded_to']} tokens", row["padded_labels"]),
            (f"in a batch of {row['batch_size']}", row["batched_labels"]),
        ):
            if changed:
                yield (
                    f"{row['model']} gives {changed:,} of {row['rows']:,} test texts another answer {where} than alone."
                )


def _pruning(document: Mapping[str, Any]) -> Iterator[str]:
    if document["pruning"]:
        yield (
            f"{document['pruning']['share_of_parameters']:.0%} of the student's weights are zero. Sparse weights "
            "shrink the compressed download; they do not speed onnxruntime up, nor shrink the file on disk."
        )


def _slimming(document: Mapping[str, Any]) -> Iterator[str]:
    found = document["slimming"]
    if found and found["uneven"]:
        yield (
            "The student's layers have numbers of heads or feed-forward neurons that plain transformers has no config "
            "for: from_pretrained refuses its safetensors with a size mismatch. compressor.load_student loads them; "
            "the ONNX files run like any other."
        )


def _vocabulary(document: Mapping[str, Any]) -> Iterator[str]:
    found = document.get("vocabulary")
    if found:
        yield (
            f"The vocabulary was trimmed to what {found['source']} uses: {found['changed_texts']:,} of "
            f"{found['texts']:,} held-out texts are cut into other pieces than the teacher's. Texts of another kind "
            "will be cut into more and smaller pieces, which no figure here speaks of."
        )


def _data(document: Mapping[str, Any]) -> Iterator[str]:
    lost = document["data"]["truncated"].get("test", 0)
    if lost:
        yield f"{lost:,} test texts were cut at {document['data']['max_length']} tokens."
    title = document["metric"]["title"]
    yield (
        f"{title[0].upper()}{title[1:]} was measured on the test split of {document['data']['source']}. It says "
        "nothing about texts of another kind; flipped examples in this report quote that data."
    )


def cell_name(row: Mapping[str, Any]) -> str:
    """A cell of the latency grid in words, as in ``batch 8, 128 tokens``."""
    length = row["sequence_length"]
    provider = "" if row["provider"] == "cpu" else f" on {row['provider']}"
    return f"batch {row['batch_size']}, {'the data’s own lengths' if length is None else f'{length} tokens'}{provider}"
