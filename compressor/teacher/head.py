"""The head of a checkpoint: whether it holds one for the task, whole, and what its outputs are called.

Names and shapes in the weights' header are compared with those of a model with the task's head, without memory behind
its weights (the skeleton), so that a head which the checkpoint does not hold is never taken for a trained one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressor.errors import TeacherError
from compressor.events import Listener, Note
from compressor.tasks import TASKS, Kind, Task, TaskName
from compressor.teacher.checkpoint import Checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from compressor.heads import Model

Shapes = Mapping[str, tuple[int, ...]]

DAMAGED = "The folder was assembled from different models, or is damaged: download or save it again."

# A head for masked words is the mark of a pre-trained model: it says nothing of what the model is to do.
_SAID: dict[str, TaskName] = {row.head: row.name for row in TASKS.values() if row.head and row.kind != "fill-mask"}
_EXCLUSIVE: tuple[Kind, ...] = ("single-label", "token-classification")
_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # checkpoints of 2018


def said(checkpoint: Checkpoint) -> TaskName | None:
    """Name the task that a checkpoint's head is for, by the class that it was saved as."""
    written = _written(checkpoint)
    return next((name for head, name in _SAID.items() if any(item.endswith(head) for item in written)), None)


def in_head(key: str, prefix: str) -> bool:
    """Tell whether a weight belongs to the head, or to the pooler that the head stands on.

    Args:
        key: Name in the state dict of the model with the task's head.
        prefix: ``base_model_prefix`` of that model.
    """
    return not key.startswith(f"{prefix}.") or key.startswith(f"{prefix}.pooler.")


def normalized(checkpoint: Checkpoint, prefix: str) -> dict[str, tuple[int, ...]]:
    """Shapes by the names of the model with a head: base models are saved without the prefix."""
    bare = not any(key.startswith(f"{prefix}.") for key in checkpoint.tensors)
    found = {}
    for key, tensor in checkpoint.tensors.items():
        new = key
        for old, current in _RENAMED.items():
            new = new.replace(old, current)
        found[f"{prefix}.{new}" if bare else new] = tensor.shape
    return found


def tied(model: Model) -> Mapping[str, str]:
    """Weights that are others again, as a head's that projects onto the word embeddings: name to name."""
    found: Mapping[str, str] = getattr(model, "all_tied_weights_keys", {})
    return found


def _written(checkpoint: Checkpoint) -> list[str]:
    """Names of the classes that the model was saved as."""
    return [str(item) for item in checkpoint.config.get("architectures") or ()]


def holds_head(checkpoint: Checkpoint, task: Task, skeleton: Model, met: Shapes, listen: Listener) -> bool:
    """Tell whether a checkpoint holds a whole head for the task.

    Args:
        checkpoint: The model folder.
        task: What the model is to do; where it needs no head, every checkpoint has it.
        skeleton: The model with the task's head.
        met: Shapes in the checkpoint, by the names of the skeleton.
        listen: Told why a head that is there is not used (``Note``).
    """
    name, written = checkpoint.name, _written(checkpoint)
    titled = any("For" in item for item in written)
    if not task.head:
        if any(item.endswith(tuple(_SAID)) for item in written):
            listen(Note(f"{name} is a {written[0]}: its head is left out."))
        return True
    prefix, same = skeleton.base_model_prefix, tied(skeleton)
    head = [key for key in skeleton.state_dict() if in_head(key, prefix) and key not in same]
    missing = [key for key in head if key not in met]
    is_other = bool(written) and not any(item.endswith(task.head) for item in written)
    # Pre-trained models of other names hold a whole head for masked words too (BertForPreTraining).
    if is_other and (missing or task.kind != "fill-mask"):
        if titled:
            listen(Note(f"{name} is a {written[0]}: its head is for another task and is replaced by a new one."))
        return False
    if not missing:
        return True
    if written or len(missing) < len(head):
        listen(Note(f"The head of {name} is incomplete ({missing[0]} is missing): it is replaced by a new one."))
    return False


def fits(name: str, task: Task, config: PreTrainedConfig, listen: Listener) -> bool:
    """Tell whether a text classifier's head can be of the kind that the user asks for.

    Args:
        name: What the user called the model.
        task: What is asked for.
        config: Of the model.
        listen: Told why the head is not used (``Note``).
    """
    if task.problem_type is None or config.problem_type == task.problem_type:
        return True
    outputs = int(config.num_labels or 0)
    if (outputs == 1) == (task.kind == "regression"):
        return True
    listen(
        Note(
            f"The head of {name} has {outputs} output{'' if outputs == 1 else 's'}, which does not make a "
            f"{task.kind} model: it is replaced by a new one."
        )
    )
    return False


def check_shapes(name: str, skeleton: Model, met: Shapes, layers: str, has_head: bool) -> None:
    """Make sure that the weights are those that the config promises.

    Args:
        name: What the user called the model.
        skeleton: The model that the config describes.
        met: Shapes in the checkpoint, by the names of the skeleton.
        layers: Path of the encoder's layers.
        has_head: The checkpoint's head is used, so it counts too.

    Raises:
        TeacherError: A weight of another shape, too few or too many.
    """
    expected = {key: tuple(value.shape) for key, value in skeleton.state_dict().items() if key not in tied(skeleton)}
    prefix = f"{skeleton.base_model_prefix}."
    labels = skeleton.config.num_labels
    for key, shape in expected.items():
        if key not in met or met[key] == shape or (not has_head and not key.startswith(prefix)):
            continue
        outputs = met[key][0] if met[key] else 0
        if not key.startswith(prefix) and shape[0] == labels != outputs:
            raise TeacherError(
                f"The head of {name} has {outputs} outputs, but its config names {labels} labels.",
                "Correct id2label and label2id in config.json.",
            )
        raise TeacherError(
            f"{name}: {key} has the shape {met[key]} in the weights, and {shape} by config.json.", DAMAGED
        )
    missing = [key for key in expected if not in_head(key, skeleton.base_model_prefix) and key not in met]
    if missing:
        raise TeacherError(
            f"{name} lacks {len(missing)} of the encoder's weights that config.json promises, such as {missing[0]}.",
            DAMAGED,
        )
    extra = [key for key in met if key.startswith(f"{layers}.") and key not in expected]
    if extra:
        raise TeacherError(
            f"{name} has {len(extra)} encoder weights that config.json knows nothing of, such as {extra[0]}.", DAMAGED
        )


def label_names(name: str, task: Task, config: PreTrainedConfig) -> tuple[str, ...]:
    """Read the names of a head's outputs, in order.

    Raises:
        TeacherError: Their number does not fit the task, or their names are not distinct and complete.
    """
    count = int(config.num_labels or 0)
    if task.kind == "regression" and count > 1:
        raise TeacherError(
            f"The head of {name} predicts {count} values; only a regression of one value is supported.",
            "Give a model with one output, or the model without its head to train a new one.",
        )
    if task.kind in _EXCLUSIVE and count < 2:
        raise TeacherError(
            f"The head of {name} has one output, but is for {task.kind}: there is nothing to choose from.",
            "Correct problem_type in config.json, or give another model.",
        )
    names: dict[Any, str] = dict(config.id2label or {})
    if sorted(names) != list(range(count)):
        raise TeacherError(
            f"id2label of {name} numbers its labels {sorted(names)}, not 0 to {count - 1}.",
            "Correct id2label in config.json.",
        )
    labels = tuple(str(names[index]) for index in range(count))
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise TeacherError(f"id2label of {name} names {twice[0]!r} twice.", "Correct id2label in config.json.")
    return labels
