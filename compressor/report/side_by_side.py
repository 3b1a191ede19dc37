"""bench.md: the models of several folders in one table, drawn from the content of bench.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compressor.benchmark.summary import LEAST_DIFFERENCE
from compressor.report import words
from compressor.report.caveats import cell_name, gpu_left_out
from compressor.report.markdown import escape

Table = tuple[list[str], list[list[str]]]


def markdown(document: Mapping[str, Any]) -> str:
    """Draw bench.md."""
    lines = ["# Side by side", "", *_drawn(table(document)), ""]
    lines += [f"- {escape(text)}" for text in remarks(document)]
    for provider in dict.fromkeys(row["provider"] for row in document["latency"]):
        lines += ["", f"## Latency on {provider}, median", "", *_drawn(grid(document, provider))]
    if document["load"]:
        lines += ["", "## Under load", "", *_drawn(load(document))]
    return "\n".join(lines) + "\n"


def table(document: Mapping[str, Any]) -> Table:
    """The models with their size, scores, latency and speed: header and rows of texts."""
    place = headline_cell(document)
    providers = list(dict.fromkeys(row["provider"] for row in document["latency"])) or ["cpu"]
    latency = {(row["model"], row["provider"]): row for row in document["latency"] if _cell(row) == place}
    ratios = {(row["model"], row["provider"]): row for row in document["speedups"] if _cell(row) == place}
    metric = document["metric"] or {"title": "score", "share": True}
    header = ["model", "weights", "size", f"{metric['title']} (95%)", "agrees", "median", "speed", "memory"]
    memory = {(row["model"], row["provider"]): row["peak_rss_bytes"] for row in document["costs"]}
    rows = []
    for model in document["models"]:
        for provider in providers:
            key = (model["name"], provider)
            if key not in latency and provider != providers[0]:
                continue
            share = metric["share"]
            score = f"{words.score(model['score'], share)} ({words.scores(model['ci95'], share)})".replace("-", "−")
            rows.append(
                [
                    model["name"] + ("" if provider == "cpu" else f" on {provider}"),
                    ("torch " if model["kind"] == "torch" else "") + model["precision"],
                    words.megabytes(model["size_bytes"]),
                    score if model["score"] is not None else "–",
                    words.percent(model["agreement"]),
                    words.millis(latency[key]["p50_ms"]) if key in latency else "–",
                    "baseline" if model["name"] == document["baseline"] else speed_text(ratios.get(key)),
                    words.megabytes(memory.get(key)),
                ]
            )
    return header, rows


def grid(document: Mapping[str, Any], provider: str) -> Table:
    """Median latency of every model in every cell, with its speed against the baseline."""
    rows = [row for row in document["latency"] if row["provider"] == provider]
    places = list(dict.fromkeys(_cell(row) for row in rows))
    p50 = {(row["model"], _cell(row)): row["p50_ms"] for row in rows}
    ratios = {(row["model"], _cell(row)): row for row in document["speedups"] if row["provider"] == provider}
    header = ["model", *(_cell_title(*place) for place in places)]
    return header, [
        [
            name,
            *(
                words.millis(p50.get((name, place)))
                + (f" ({speed_text(ratios[name, place])})" if (name, place) in ratios else "")
                for place in places
            ),
        ]
        for name in dict.fromkeys(row["model"] for row in rows)
    ]


def load(document: Mapping[str, Any]) -> Table:
    """Throughput of every model with one caller and with several at once, each with one text at a time."""
    header = ["model", "callers", "texts/s (95%)", "p50", "p95", "p99", "throughput"]
    return header, [
        [
            row["model"] + ("" if row["provider"] == "cpu" else f" on {row['provider']}"),
            str(row["clients"]),
            _rate(row),
            *(words.millis(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms")),
            "baseline" if row["model"] == document["baseline"] else load_text(row),
        ]
        for row in document["load"]
    ]


def _rate(row: Mapping[str, Any]) -> str:
    interval = row["texts_per_second_ci95"]
    between = f" ({interval[0]:,.0f}–{interval[1]:,.0f})" if interval else ""
    return f"{row['texts_per_second']:,.0f}{between}"


def load_text(row: Mapping[str, Any]) -> str:
    """A ratio of throughputs in words: ``3.0× more``, ``1.25× less here``, ``no difference``."""
    if row["verdict"] is None:
        return "–"
    if row["verdict"] == "no difference":
        return "no difference"
    ratio = row["ratio"]
    return f"{words.times(ratio)} more" if row["verdict"] == "faster" else f"{words.times(1 / ratio)} less here"


def speed_text(row: Mapping[str, Any] | None) -> str:
    """A ratio in words: ``3.0× faster``, ``1.25× slower here``, ``no difference``."""
    if row is None:
        return "–"
    if row["verdict"] == "no difference":
        return "no difference"
    ratio = row["speedup"]
    return f"{words.times(ratio)} faster" if row["verdict"] == "faster" else f"{words.times(1 / ratio)} slower here"


def remarks(document: Mapping[str, Any]) -> Iterator[str]:
    """What a reader has to know about the table."""
    settings, place = document["settings"], headline_cell(document)
    threads = document["latency"][0]["threads"] if document["latency"] else settings["threads"]
    rounds = document["latency"][0]["processes"] if document["latency"] else settings["rounds"]
    cpu = document["environment"].get("cpu") or {}
    yield (
        f"Speed is against {document['baseline']}, at batch {place[0]}, "
        f"{'the texts’ own lengths' if place[1] is None else f'{place[1]} tokens'}; each model alone in "
        f"{rounds} fresh process{'es' if rounds > 1 else ''}, in turn with the others, "
        f"{threads} thread{'s' if threads > 1 else ''} each, on {cpu.get('model') or 'this machine'}."
    )
    floor = document["machine"]["noise_floor"]
    if floor is not None:
        least = "that" if floor >= LEAST_DIFFERENCE else f"{words.percent(LEAST_DIFFERENCE)}, on any machine,"
        yield f"A model and its own copy differed by up to {words.percent(floor)}: less than {least} is no difference."
    if rounds < 2:
        yield "One round has no interval, so no difference in speed can be claimed: ask for --rounds 3 or more."
    yield from _differences(document)
    slower = [row for row in document["speedups"] if row["verdict"] == "slower"]
    for name in dict.fromkeys(row["model"] for row in slower):
        places = "; ".join(cell_name(row) for row in slower if row["model"] == name)
        yield f"{name} is slower than the baseline here: {places}."
    yield from gpu_left_out(document)
    yield from document["notes"]


def _differences(document: Mapping[str, Any]) -> Iterator[str]:
    """Which models are worse or better than the baseline beyond doubt, in one line each."""
    metric = document["metric"]
    for model in document["models"]:
        found = model["difference"]
        if metric is not None and found is not None and not found["low"] <= 0 <= found["high"]:
            estimate, low, high = (_signed(found[name], metric["share"]) for name in ("estimate", "low", "high"))
            unit = " points" if metric["share"] else ""
            yield (
                f"{model['name']} is {'better' if found['estimate'] > 0 else 'worse'} than the baseline: "
                f"{metric['title']} {estimate}{unit} (95% interval {low} to {high}, on the same rows)."
            )


def _signed(difference: float, share: bool) -> str:
    return words.signed(difference) if share else f"{difference:+.3f}".replace("-", "−")


def headline_cell(document: Mapping[str, Any]) -> tuple[int, int | None]:
    """The cell that the table shows: one text at the data's own lengths, else the shortest of the grid."""
    places = [_cell(row) for row in document["latency"]]
    own = [place for place in places if place == (1, None)]
    return own[0] if own else min(places, key=lambda place: (place[0], place[1] or 0), default=(1, None))


def _cell(row: Mapping[str, Any]) -> tuple[int, int | None]:
    return row["batch_size"], row["sequence_length"]


def _cell_title(batch_size: int, sequence_length: int | None) -> str:
    return f"{batch_size} x {'own' if sequence_length is None else sequence_length}"


def _drawn(found: Table) -> Iterator[str]:
    header, rows = found
    lines: Sequence[Sequence[str]] = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    for index, cells in enumerate(lines):
        yield f"| {' | '.join(cells if index == 1 else [escape(cell) for cell in cells])} |"
