"""Check that a run folder loads through optimum-onnx, which cannot share an environment with transformers 5.

    python tools/verify_optimum.py exported/demo

Makes a virtual environment of its own (optimum-onnx 0.1.0, transformers 4.57.6), loads every ONNX file of the folder
there with ``ORTModelForSequenceClassification``, and compares its logits with those of the runtime and of plain
onnxruntime here. Exit code 0 where all agree within 1e-4.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TOLERANCE = 1e-4
PACKAGES = ("optimum-onnx==0.1.0", "transformers==4.57.6", "torch==2.13.0", "onnxruntime")
TEXTS = (
    "a fine film",
    "dull, overlong and not half as clever as it thinks",
    "the acting is good and the story is not",
    "一部好电影",
    "",
    "word " * 700,
)

INSIDE = """
import json, sys
import numpy as np
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer
folder, out, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder)
found = {}
for name in sys.argv[4:]:
    model = ORTModelForSequenceClassification.from_pretrained(folder, subfolder="onnx", file_name=name)
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
    found[name] = np.asarray(model(**batch).logits)
    assert list(model.config.id2label.values()), "no labels"
np.savez(out, **found)
"""


def main() -> int:
    """Compare, print a line per file, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that compress has written")
    parser.add_argument("--venv", type=Path, default=None, help="where to make (or find) the environment")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    names = sorted(path.name for path in (folder / "onnx").glob("*.onnx"))
    with tempfile.TemporaryDirectory() as scratch:
        python = environment(arguments.venv or Path(scratch) / "venv")
        theirs = ask_optimum(python, folder, names, Path(scratch) / "logits.npz")
    worst = 0.0
    for name in names:
        ours, plain = ask_runtime(folder, name), ask_onnxruntime(folder, name)
        differences = [float(np.abs(theirs[name] - other).max()) for other in (ours, plain)]
        worst = max(worst, *differences)
        print(
            f"{name}: optimum-onnx against the runtime {differences[0]:.1e}, against onnxruntime {differences[1]:.1e}"
        )
    print("same logits" if worst <= TOLERANCE else f"NOT the same logits (tolerance {TOLERANCE:g})")
    return 0 if worst <= TOLERANCE else 1


def environment(venv: Path) -> Path:
    """Make a virtual environment with optimum-onnx, unless it is there; return its Python."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def ask_optimum(python: Path, folder: Path, names: list[str], out: Path) -> dict[str, np.ndarray]:
    """Run optimum-onnx in its own environment; file name to logits of shape (texts, labels)."""
    import json

    subprocess.run([str(python), "-c", INSIDE, str(folder), str(out), json.dumps(TEXTS), *names], check=True)
    with np.load(out) as found:
        return {name: found[name] for name in names}


def ask_runtime(folder: Path, name: str) -> np.ndarray:
    """Logits of the runtime, from text."""
    from compressor.runtime import Predictor

    return Predictor(folder, model=f"onnx/{name}").logits(TEXTS)


def ask_onnxruntime(folder: Path, name: str) -> np.ndarray:
    """Logits of plain onnxruntime, with the tokenizer of plain transformers."""
    import onnxruntime
    from transformers import AutoTokenizer

    session = onnxruntime.InferenceSession(str(folder / "onnx" / name), providers=["CPUExecutionProvider"])
    batch = AutoTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, truncation=True, return_tensors="np")
    return session.run(["logits"], {item.name: batch[item.name] for item in session.get_inputs()})[0]


if __name__ == "__main__":
    sys.exit(main())
