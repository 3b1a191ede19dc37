"""report.md: short enough for a pull-request comment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from compressor.report import words

MARKS = {"ship": "✅", "do not ship": "❌", "cannot tell": "❔"}


def markdown(document: Mapping[str, Any]) -> str:
    """Draw report.md from the content of report.json."""
    verdict = document["verdict"]
    lines = [
        f"# {escape(document['title'])}",
        "",
        f"{MARKS[verdict['decision']]} **{escape(verdict['sentence'])}**",
        "",
        f"**{headline(document)}**",
        "",
        model_table(document),
        "",
        *_behaviour(document),
        *(["", words.vocabulary(document["vocabulary"])] if document.get("vocabulary") else []),
        *(line for part in document["data"].get("added", []) for line in ("", escape(words.addition(part)))),
        *_ladder(document.get("ladder")),
        *_tuning(document.get("tuning")),
    ]
    for title, texts in (("Warnings", document["warnings"]), ("Caveats", document["caveats"])):
        if texts:
            lines += ["", f"### {title}", *(f"- {escape(text)}" for text in texts)]
    return "\n".join(lines) + "\n"


def headline(document: Mapping[str, Any]) -> str:
    """The run in one line: speed, score, size."""
    head = document["headline"]
    size = f"{words.times(head['size_ratio'])} smaller ({words.megabytes(head['size_bytes'])})"
    kept = f"keeps {words.percent(head['score_retained'])} of the {document['metric']['title']}"
    if head["speedup"] is None:
        return f"{size}, {kept}; speed was not measured."
    interval = f" ({words.times_between(head['speedup_ci95'])})" if head["speedup_ci95"] else ""
    speed = "faster" if head["speedup_verdict"] == "faster" else f"the speed ({head['speedup_verdict']})"
    return f"{words.times(head['speedup'])} {speed}{interval}, {size}, {kept}."


def model_table(document: Mapping[str, Any]) -> str:
    """The models with their scores, latency and size."""
    metrics = document["models"][0]["metrics"]
    header = ["model", "size", f"{metrics[0]['title']} (95%)", metrics[1]["title"], "agrees", "1 text", "speed-up"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *_models(document)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escape(text: str) -> str:
    """Keep a text from being read as Markdown or HTML, or from ending a line."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _models(document: Mapping[str, Any]) -> list[list[str]]:
    own = {row["model"]: row for row in document["latency"] if _is_own(row)}
    ratios = {row["model"]: row for row in document["speedups"] if _is_own(row)}
    share = document["metric"]["share"]
    return [
        [
            escape(row["title"]),
            words.megabytes(row["size_bytes"]),
            f"{words.score(row['score'], share)} ({words.scores(row['ci95'], share)})",
            words.score(row["metrics"][1]["estimate"], row["metrics"][1]["share"]),
            words.percent(row["agreement_with_teacher"]),
            words.millis(own.get(row["name"], {}).get("p50_ms")),
            words.times(ratios.get(row["name"], {}).get("speedup")),
        ]
        for row in document["models"]
    ]


def _is_own(row: Mapping[str, Any]) -> bool:
    return row["batch_size"] == 1 and row["sequence_length"] is None and row["provider"] == "cpu"


def _behaviour(document: Mapping[str, Any]) -> Iterator[str]:
    found = next(item for item in document["comparisons"] if item["model"] == document["verdict"]["model"])
    row_word, p_value = document["metric"]["row_word"], document["verdict"]["mcnemar_p"]
    if found["flipped"] is not None:
        test = f" McNemar's test: {words.p_is(p_value)}." if p_value is not None else ""
        broken = (
            ""
            if found["broken"] is None
            else f": {found['broken']:,} broken, {found['repaired']:,} repaired, {found['moved']:,} moved"
        )
        yield (
            f"The student decides otherwise than its teacher about {found['flipped']:,} of "
            f"{document['verdict']['rows']:,} {row_word}s{broken}.{test}"
        )
    told = [
        f"{item['title']} {words.changed(item['interval']['estimate'], item['share'])}"
        f"{' points' if item['share'] else ''} ({words.changed(item['interval']['low'], item['share'])} to "
        f"{words.changed(item['interval']['high'], item['share'])})"
        for item in found.get("differences", [])
    ]
    if told:
        yield ""
        yield f"Other metrics against the teacher, with 95% intervals: {'; '.join(told)}."
    company = document.get("company", [])
    if company:
        titles = {row["name"]: row["title"] for row in document["models"]}
        each = "; ".join(f"{escape(titles[row['model']])}: {company_in_words(row)}" for row in company)
        yield ""
        yield f"The same text alone, padded, or in a batch ({company[0]['rows']:,} test texts): {each}."


def _ladder(ladder: Mapping[str, Any] | None) -> Iterator[str]:
    if ladder is None:
        return
    yield from (
        "",
        f"### Ladder: {words.percent(ladder['max_drop'])} of {ladder['metric']} may be lost, "
        f"{words.percent(ladder['max_flips'])} of decisions may flip",
        "",
        f"| rung | weights | {ladder['metric']}, {ladder['rows']:,} validation rows | drop | flips | size | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    )
    for cells in ladder_rows(ladder):
        yield f"| {' | '.join(escape(cell) for cell in cells)} |"


def ladder_rows(ladder: Mapping[str, Any]) -> list[list[str]]:
    """Rungs as cells: name, weights, score, drop, flips, size, verdict."""
    return [
        [
            rung["name"],
            rung["detail"],
            words.score(rung["score"], ladder["share"]),
            "–" if rung["drop"] is None else words.changed(-rung["drop"], ladder["share"]),
            words.percent(rung["flips"], 2),
            words.megabytes(rung["size_bytes"]),
            rung["verdict"] + (f": {rung['reason']}" if rung["reason"] else ""),
        ]
        for rung in ladder["rungs"]
    ]


def _tuning(tuning: Mapping[str, Any] | None) -> Iterator[str]:
    if tuning is None:
        return
    names = list(tuning["trials"][0]["values"])
    yield from (
        "",
        f"### Tuning: {len(tuning['trials'])} short trials",
        "",
        f"| trial | {' | '.join(name.replace('_', ' ') for name in names)} | {tuning['metric_title']}, validation | |",
        f"| --- |{' ---: |' * (len(names) + 1)} --- |",
    )
    for number, trial in enumerate(tuning["trials"]):
        cells = [f"{trial['values'][name]:g}" for name in names]
        score = words.score(trial["score"], tuning["share"])
        yield f"| {number + 1} | {' | '.join(cells)} | {score} | {fate(tuning, number)} |"


def fate(tuning: Mapping[str, Any], number: int) -> str:
    """What became of a trial: ``chosen``, ``stopped early``, or nothing to say."""
    if number == tuning["chosen"]:
        return "chosen"
    return "stopped early" if tuning["trials"][number]["pruned"] else ""


def company_in_words(row: Mapping[str, Any]) -> str:
    """What padding and neighbours change, as in ``outputs within 1.2e-06, 0 decisions changed``."""
    largest = max(row["padded_difference"], row["batched_difference"])
    outputs = "the same output to the last bit" if largest == 0 else f"outputs within {largest:.1e}"
    changed = [row[name] for name in ("padded_labels", "batched_labels") if row[name] is not None]
    return f"{outputs}, {max(changed):,} decisions changed" if changed else outputs
