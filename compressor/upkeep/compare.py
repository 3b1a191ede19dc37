"""What changed between two runs: ``compare(first, second) -> Changes``, from their reports alone.

Times of different runs come from different hours and often machines, so that no millisecond is compared: only
each run's ratio to its own teacher, which was measured beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from compressor.upkeep import past
from compressor.upkeep.changes import Change, Section, different, markdown, megabytes, metric, metric_change

__all__ = ["Change", "Section", "compare", "markdown"]

Report = Mapping[str, Any]

# Where things are put is no part of what was made.
_PLACES = ("output_dir", "overwrite", "cache_dir", "distill.checkpoint_minutes")


def compare(first: Report, second: Report) -> tuple[Section, ...]:
    """Compare two runs.

    Args:
        first: The content of report.json of the earlier run.
        second: That of the later one.
    """
    return (
        Section("Verdict", tuple(_verdict(first, second))),
        Section("Recipe", tuple(_recipe(first, second))),
        Section("Data and teacher", tuple(_data(first, second))),
        Section("Scores", tuple(_scores(first, second)), tuple(_scores_notes(first, second))),
        Section("Speed over the own teacher", tuple(_speed(first, second)), tuple(_speed_notes(first, second))),
        Section("Size", tuple(_size(first, second))),
        Section("What was built", tuple(_built(first, second))),
        Section("Machine and versions", tuple(_machine(first, second))),
        Section("Warnings", tuple(_texts(first, second, "warnings"))),
    )


def _verdict(first: Report, second: Report) -> Iterator[Change]:
    yield from different(
        ("verdict", first["verdict"]["decision"], second["verdict"]["decision"]),
        ("model that ships", past.shipped(first), past.shipped(second)),
        ("task", first["task"], second["task"]),
        ("kind of task", first["kind"], second["kind"]),
    )


def _recipe(first: Report, second: Report) -> Iterator[Change]:
    before, after = dict(past.flat(first["recipe"])), dict(past.flat(second["recipe"]))
    names = [name for name in dict.fromkeys([*before, *after]) if name not in _PLACES]
    yield from different(*((name, before.get(name, "not there"), after.get(name, "not there")) for name in names))


def _data(first: Report, second: Report) -> Iterator[Change]:
    before, after = first["data"], second["data"]
    yield from different(
        ("source", before["source"], after["source"]),
        ("fingerprint", before["fingerprint"][:12], after["fingerprint"][:12]),
        *((f"{name} rows", before["rows"].get(name), after["rows"].get(name)) for name in before["rows"]),
        ("labels", before["labels"], after["labels"]),
        ("longest sequence", before["max_length"], after["max_length"]),
        ("teacher", first["teacher"]["name"], second["teacher"]["name"]),
        ("teacher's weights", first["teacher"]["fingerprint"][:12], second["teacher"]["fingerprint"][:12]),
    )


# --- scores ---------------------------------------------------------------------------------


def _scores(first: Report, second: Report) -> Iterator[Change]:
    title, share = first["metric"]["title"], first["metric"]["share"]
    if first["metric"]["name"] != second["metric"]["name"]:
        yield Change("deciding metric", title, second["metric"]["title"], "the scores cannot be compared")
        return
    for name, before, after in _models(first, second):
        overlap = before["ci95"][0] <= after["ci95"][1] and after["ci95"][0] <= before["ci95"][1]
        change = metric_change(after["score"] - before["score"], share=share)
        remark = f"{change}; the intervals {'' if overlap else 'do not '}overlap"
        yield Change(f"{name}: {title}", _with_interval(before, share), _with_interval(after, share), remark)
        earlier = {item["name"]: item["estimate"] for item in before["metrics"]}
        others = [
            (item["title"], earlier.get(item["name"]), item["estimate"], item["share"]) for item in after["metrics"][1:]
        ]
        key = "agreement_with_teacher"
        for said, one, two, plain in [*others, ("agreement with its teacher", before[key], after[key], True)]:
            if one is not None and two is not None and one != two:
                shown = [metric(value, share=plain) for value in (one, two)]
                yield Change(f"{name}: {said}", shown[0], shown[1], metric_change(two - one, share=plain))


def _scores_notes(first: Report, second: Report) -> Iterator[str]:
    if first["metric"]["name"] != second["metric"]["name"]:
        return
    if first["data"]["fingerprint"] != second["data"]["fingerprint"]:
        yield "The data differ, so the scores are of different test rows: a difference may be the data's."
    else:
        yield (
            "The same test rows. Reports hold no answers row by row, so that the intervals are not paired: "
            "compress bench A B --data ... compares both runs row by row."
        )


def _with_interval(row: Mapping[str, Any], share: bool) -> str:
    value, low, high = (metric(number, share=share) for number in (row["score"], *row["ci95"]))
    return f"{value} ({low} to {high})"


# --- speed ----------------------------------------------------------------------------------


def _speed(first: Report, second: Report) -> Iterator[Change]:
    before, after = _ratios(first), _ratios(second)
    noise = sum(math.log1p(report["machine"]["noise_floor"] or 0.0) for report in (first, second))
    for key in before:
        if key not in after:
            continue
        model, provider, batch_size, length = key
        cell = f"{batch_size} x {length or 'own lengths'}" + ("" if provider == "cpu" else f" on {provider}")
        yield Change(
            f"{model}, {cell}", _ratio(before[key]), _ratio(after[key]), _speed_word(before[key], after[key], noise)
        )


def _speed_word(before: Mapping[str, Any], after: Mapping[str, Any], noise: float) -> str:
    factor = after["speedup"] / before["speedup"]
    if not before["ci95"] or not after["ci95"]:
        return "no difference can be claimed: one round has no interval"
    apart = after["ci95"][0] > before["ci95"][1] or after["ci95"][1] < before["ci95"][0]
    if not apart or abs(math.log(factor)) <= noise:
        return "no difference"
    return f"{factor:.2f} times the ratio: {'faster' if factor > 1 else 'slower'}"


def _ratio(row: Mapping[str, Any]) -> str:
    interval = f" ({row['ci95'][0]:.2f} to {row['ci95'][1]:.2f})" if row["ci95"] else ""
    return f"{row['speedup']:.2f}x{interval}"


def _ratios(report: Report) -> dict[tuple[str, str, int, int | None], Mapping[str, Any]]:
    return {
        (row["model"], row["provider"], row["batch_size"], row["sequence_length"]): row for row in report["speedups"]
    }


def _speed_notes(first: Report, second: Report) -> Iterator[str]:
    lacking = [name for name, report in (("first", first), ("second", second)) if not report["speedups"]]
    if lacking:
        yield f"Nothing was timed in the {' and the '.join(lacking)} run."
        return
    yield (
        "Each ratio is to the run's own teacher in onnxruntime, measured beside it. Milliseconds are not compared: "
        "the runs were made at different times, perhaps on different machines."
    )
    if (
        first["teacher"]["layers"] != second["teacher"]["layers"]
        or first["teacher"]["name"] != second["teacher"]["name"]
    ):
        yield "The teachers differ, and so do the ratios to them, even for the same student."
    machines = [(_cpu(report).get("model"), report["latency"][0]["threads"]) for report in (first, second)]
    if machines[0] != machines[1]:
        yield "The processors or the threads differ: int8 gains more on some processors than on others."


# --- what was built -------------------------------------------------------------------------


def _size(first: Report, second: Report) -> Iterator[Change]:
    for name, before, after in _models(first, second):
        for key, title in (("size_bytes", "file"), ("compressed_bytes", "compressed")):
            if before[key] != after[key]:
                factor = f"{after[key] / before[key] - 1:+.1%}".replace("-", "−")
                yield Change(f"{name}: {title}", megabytes(before[key]), megabytes(after[key]), factor)
        yield from different(
            *((f"{name}: {title}", f"{before[key]:,}", f"{after[key]:,}")
              for key, title in (("parameters", "weights"), ("zeros", "zeros among them")))
        )  # fmt: skip


def _built(first: Report, second: Report) -> Iterator[Change]:
    for part in ("layer_map", "quantization", "pruning"):
        before, after = (dict(past.flat(report[part] or {}, part)) for report in (first, second))
        for found in (before, after):  # sizes have a section of their own
            for key in [key for key in found if key.endswith("_bytes")]:
                del found[key]
        names = dict.fromkeys([*before, *after])
        yield from different(
            *((name, before.get(name, "none"), after.get(name, "none")) for name in names if name != part)
        )
    counts = [
        {(row["model"], row["kind"]): f"{row['found']} of {row['expected']}" for row in report["fusions"]}
        for report in (first, second)
    ]
    yield from different(
        *((f"fused {kind} in {model}", counts[0].get((model, kind), "none"), counts[1].get((model, kind), "none"))
          for model, kind in dict.fromkeys([*counts[0], *counts[1]]))
    )  # fmt: skip
    worst = [max((row["max_abs_difference"] for row in report["parity"]), default=0.0) for report in (first, second)]
    yield from different(("largest difference from torch", f"{worst[0]:.1g}", f"{worst[1]:.1g}"))


def _machine(first: Report, second: Report) -> Iterator[Change]:
    before, after = first["environment"], second["environment"]
    versions = [environment.get("versions") or {} for environment in (before, after)]
    yield from different(
        ("processor", _cpu(first).get("model"), _cpu(second).get("model")),
        ("instruction set", _cpu(first).get("instruction_set"), _cpu(second).get("instruction_set")),
        ("threads", *((report["latency"] or [{"threads": None}])[0]["threads"] for report in (first, second))),
        ("python", before.get("python"), after.get("python")),
        *((name, versions[0].get(name), versions[1].get(name)) for name in dict.fromkeys([*versions[0], *versions[1]])),
    )


def _texts(first: Report, second: Report, part: str) -> Iterator[Change]:
    yield from (Change(text, "there", "gone") for text in first[part] if text not in second[part])
    yield from (Change(text, "not there", "new") for text in second[part] if text not in first[part])


def _models(first: Report, second: Report) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for row in first["models"]:
        other = past.model_row(second, row["name"])
        if other is not None:
            yield row["name"], row, other


def _cpu(report: Report) -> Mapping[str, Any]:
    return report["environment"].get("cpu") or {}
