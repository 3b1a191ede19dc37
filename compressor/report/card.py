"""README.md of the run folder: a model card in the metadata format of the model hub.

The header is YAML, of which JSON values are a part: they need no writer and no guess about quoting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from compressor.report import words
from compressor.report.markdown import escape, headline, model_table
from compressor.tasks import TASKS, Kind

# What the hub calls them (https://hf.co/metrics); others go by their own names.
_HUB_METRICS = {"macro_f1": "f1", "micro_f1": "f1", "entity_f1": "f1", "answer_f1": "f1", "spearman": "spearmanr",
                "pearson": "pearsonr"}  # fmt: skip
_PAIRED = 'predictor([("a text", "the text that it is compared with")])'
_USE: Mapping[Kind, str] = {
    "single-label": 'predictor(["a text to label"])',
    "multi-label": 'predictor(["a text with any number of labels"])',
    "regression": 'predictor(["a text to score"])',
    "token-classification": 'predictor(["Anna moved from Bern to Lisbon"])',
    "question-answering": 'predictor([("Where did Anna move?", "Anna moved from Bern to Lisbon in May.")])',
    "fill-mask": 'predictor(["Paris is the {mask} of France."])',
    "feature-extraction": 'predictor(["a text", "another text"])  # float32 array of shape (texts, dimension)',
}


def model_card(document: Mapping[str, Any], name: str) -> str:
    """Draw the model card from the content of report.json.

    Args:
        document: The content of report.json.
        name: Of the model: the run folder's.
    """
    teacher, data, verdict = document["teacher"], document["data"], document["verdict"]
    header = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _metadata(document, name))
    steps = "\n".join(_steps(document))
    limits = "\n".join(f"- {escape(text)}" for text in (*document["warnings"], *document["caveats"]))
    labels = ", ".join(escape(label) for label in data["labels"][:30]) + (", …" if len(data["labels"]) > 30 else "")
    shipped = next(row for row in document["models"] if row["name"] == verdict["model"])
    return f"""---
{header}
---

# {escape(name)}

{escape(teacher["name"])}, compressed from {document["layer_map"]["teacher_layers"]} layers to \
{document["layer_map"]["student_layers"]} and exported to ONNX. {headline(document)}

**{escape(verdict["sentence"])}**

## Use it

```python
from compressor.runtime import Predictor
predictor = Predictor("path/to/this/folder")
{_use(document)}
```

That needs the compressor package, without torch. The folder also loads with `{_loader(document)}` (the fp32 student), \
and the files in `onnx/` in onnxruntime.

## Results

On the test split of {escape(data["source"])} ({verdict["rows"]:,} {document["metric"]["row_word"]}s), intervals at \
95%. The model that ships: {escape(shipped["title"])}.

{model_table(document)}

All of it, with the flipped examples and the latency grid: `report/report.html`.

## How it was made

{steps}

`recipe.toml` repeats the run; every number that it came to is in `report/report.json`.

## Limits

{f"- Labels: {labels}." + chr(10) if labels else ""}- {_limit(document)}
{limits}
"""


def _use(document: Mapping[str, Any]) -> str:
    task, data = TASKS[document["kind"]], document["data"]
    if data.get("pairs") and task.name == "text-classification":
        return _PAIRED
    return _USE[task.kind].replace("{mask}", data.get("mask_token") or "[MASK]")


def _limit(document: Mapping[str, Any]) -> str:
    length = document["data"]["max_length"]
    if TASKS[document["kind"]].unit == "token":
        return f"Texts longer than {length} tokens are read in windows that overlap."
    return f"Texts longer than {length} tokens are cut."


def _loader(document: Mapping[str, Any]) -> str:
    if document["slimming"] and document["slimming"]["uneven"]:
        return "compressor.load_student"
    return f"{TASKS[document['kind']].auto_class}.from_pretrained"


def _metadata(document: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    teacher, data = document["teacher"], document["data"]
    shipped = next(row for row in document["models"] if row["name"] == document["verdict"]["model"])
    yield "library_name", "transformers"
    yield "pipeline_tag", document["task"]
    # The hub checks these two against its own names; a local path would be rejected there.
    if teacher["hub_id"]:
        yield "base_model", [teacher["hub_id"]]
    if data["hub_id"]:
        yield "datasets", [data["hub_id"]]
    yield "metrics", [_HUB_METRICS.get(item["name"], item["name"]) for item in shipped["metrics"]]
    tags = ["onnx", "onnxruntime", "compressor", "distillation"]
    tags += ["pruned"] * bool(document["pruning"])
    tags += [document["quantization"].get("precision", "int8")] if document["quantization"] else []
    yield "tags", tags
    yield (
        "model-index",
        [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": document["task"]},
                        "dataset": {
                            "type": data["hub_id"] or "custom",
                            "name": data["hub_id"] or data["source"],
                            "split": "test",
                        },
                        "metrics": [
                            {
                                "type": _HUB_METRICS.get(item["name"], item["name"]),
                                "value": item["estimate"],
                                "name": f"{item['title'][0].upper()}{item['title'][1:]}",
                            }
                            for item in shipped["metrics"]
                        ],
                    }
                ],
            }
        ],
    )


def _steps(document: Mapping[str, Any]) -> Iterator[str]:
    layers, recipe = document["layer_map"], document["recipe"]
    if document["teacher"].get("commit"):
        yield f"- The teacher is commit `{document['teacher']['commit']}` of {escape(document['teacher']['hub_id'])}."
    if document["teacher"]["fine_tuned"]:
        yield "- The teacher had no head for the task: it was fine-tuned on the training split."
    for part in document["data"].get("added", []):
        yield f"- {escape(words.addition(part))}"
    copied = ", ".join(map(str, layers["copied_from"]))
    yield (
        f"- The student starts from teacher layers {copied}." if copied else "- The student starts from random weights."
    )
    distill = recipe.get("distill", {})
    if distill:
        weights = ", ".join(
            f"{name} {distill[key]:g}"
            for name, key in (
                ("soft labels", "soft_weight"),
                ("labels", "hard_weight"),
                ("hidden states", "hidden_weight"),
            )
            if distill.get(key)
        )
        yield f"- It was distilled at temperature {distill.get('temperature', 1):g}; weights: {weights}."
    if document["pruning"]:
        yield f"- {words.percent(document['pruning']['requested'], 0)} of its linear weights were pruned by magnitude."
    if document["slimming"]:
        left = (words.percent(document["slimming"][name], 0) for name in ("attention", "feed_forward"))
        yield "- Heads and feed-forward neurons were cut out: {} and {} of the widths are left.".format(*left)
    if document.get("vocabulary"):
        yield f"- {words.vocabulary(document['vocabulary'])}"
    changed = sum(row["changed_labels"] for row in document["parity"])
    yield f"- ONNX was checked against torch at {len(document['parity'])} shapes: {changed} changed labels."
    found = document["quantization"]
    if found:
        yield (
            f"- {found.get('precision', 'int8')} weights ({escape(found['weight_type'])}) for {found['target']}: "
            f"{found['quantized']} of "
            f"{found['expected']} matrix products."
        )
        for status in ("verified", "believed", "doubted"):
            names = [item["target"] for item in found.get("targets", []) if item["status"] == status]
            if names:
                yield f"- That file is {status} on {', '.join(names)}."
    shipped = next(row for row in document["models"] if row["name"] == document["verdict"]["model"])
    if shipped["temperature"] is not None:
        yield (
            f"- A temperature of {shipped['temperature']:.2f} was fitted on validation texts: "
            "`Predictor(..., calibrated=True)` gives scores by it."
        )
