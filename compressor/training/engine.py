"""One training engine for teachers and students: ``transformers.Trainer`` with a given objective.

The Trainer brings mixed precision, gradient accumulation and resume. What is added
here: batches bucketed by length, the best checkpoint by validation accuracy, checkpoints by the clock, and
a restart that continues from the last whole checkpoint.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from torch.utils.data import Sampler
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from compressor.artifacts import TrainingCurve
from compressor.errors import ProviderError
from compressor.events import Listener, Note, Progress
from compressor.training import losses

Batch = Mapping[str, torch.Tensor]
Objective = Callable[[PreTrainedModel, Batch], tuple[torch.Tensor, torch.Tensor, dict[str, float]]]
"""(model, batch) -> loss, logits of shape (batch, labels), running figures to show."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Learning rates are peak values; ratios are shares of all steps."""

    stage: str
    epochs: float
    learning_rate: float
    batch_size: int
    seed: int
    gradient_accumulation_steps: int = 1
    warmup_ratio: float = 0.1
    lr_scheduler: str = "linear"
    weight_decay: float = 0.01
    patience: int = 2
    precision: str = "fp32"
    device: str = "cpu"
    checkpoint_minutes: float = 2.0


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and validated with.

    Attributes:
        train: Rows with ``input_ids``, ..., ``labels`` and what the objective needs.
        sampler: Order of the training rows; its ``set_epoch`` is called before every epoch.
        validation: Rows with ``input_ids``, ..., ``labels``.
        collate: Pads a list of rows to one batch of tensors.
        teacher_labels: The teacher's answer for each validation row, if there is a teacher.
    """

    train: Any
    sampler: Sampler[int]
    validation: Any
    collate: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]
    teacher_labels: npt.NDArray[np.int64] | None = None


def resolve_device(choice: str, precision: str = "fp32") -> str:
    """Turn ``auto`` into the device that this machine has.

    Raises:
        ProviderError: ``cuda`` was asked for, or ``fp16`` which needs it, and torch sees no GPU.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ProviderError(
            f"--device cuda was asked for, but torch {torch.__version__} sees no CUDA device.",
            "Install a CUDA build of torch on a machine with a GPU, or drop --device.",
        )
    device = "cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu"
    if precision == "fp16" and device == "cpu":
        raise ProviderError(
            "--precision fp16 was asked for, but this run trains on the CPU.", "Choose --precision bf16 or fp32."
        )
    return device


def classify(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
    """Plain fine-tuning: cross-entropy with the labels."""
    logits = model(**forward_inputs(batch)).logits
    return losses.hard_label(logits, batch["labels"]), logits, {}


def forward_inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """Keep what a model's ``forward`` takes: everything but the targets."""
    return {name: tensor for name, tensor in batch.items() if name not in ("labels", "soft_labels")}


def train(
    model: PreTrainedModel,
    data: TrainingData,
    settings: TrainingSettings,
    folder: Path,
    listen: Listener,
    objective: Objective = classify,
    callbacks: Sequence[TrainerCallback] = (),
    ready: Callable[[], bool] = lambda: True,
) -> TrainingCurve:
    """Train a model in place; it ends with the weights of its best validation accuracy.

    Args:
        model: The model to train.
        data: Rows, their order and collation.
        settings: How.
        folder: Checkpoints; a whole one found here is continued from. The caller removes it.
        listen: Receives ``Progress`` after every step.
        objective: The training loss. Validation always measures the labels.
        callbacks: More callbacks of the Trainer, such as a pruner.
        ready: Says whether the present weights may be kept as the best (a pruner is not ready
            before its last step).

    Returns:
        Losses and evaluations, those before an interruption included.
    """
    last = last_checkpoint(folder)
    if last is not None:
        listen(Note(f"Continued {settings.stage} from step {last.name.rpartition('-')[2]} of an interrupted run."))
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, folder),
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collate,
        compute_metrics=_Scores(data.teacher_labels),
        callbacks=[
            EarlyStoppingCallback(early_stopping_patience=settings.patience),
            _Clock(settings.checkpoint_minutes * 60),
            *callbacks,
        ],
    )
    trainer.prepare_run(objective, data.sampler, ready)
    trainer.add_callback(_Reporter(settings.stage, listen, trainer.figures))
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    # accelerate leaves autocast in model.forward, and an export would follow it.
    trained: torch.nn.Module = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    trained.eval().to("cpu")
    return _curve(trainer.state)


def last_checkpoint(folder: Path) -> Path | None:
    """Find the newest whole checkpoint and delete broken ones.

    The Trainer writes ``trainer_state.json`` last, so a checkpoint that was cut short by a kill has none that
    can be read.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return path
    return None


class _Trainer(Trainer):
    """The Trainer with an injected objective, a fixed order of batches and a say in what is best."""

    def prepare_run(self, objective: Objective, sampler: Sampler[int], ready: Callable[[], bool]) -> None:
        self._objective = objective
        self._sampler = sampler
        self._ready = ready
        self.figures: dict[str, float] = {}
        # Otherwise the Trainer leaves the division by the accumulation steps to the model's own loss.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._sampler

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        objective = self._objective if model.training else classify
        loss, logits, figures = objective(model, inputs)
        if model.training:
            for name, value in {"loss": float(loss.detach()), **figures}.items():
                previous = self.figures.get(name, value)
                self.figures[name] = 0.9 * previous + 0.1 * value
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return bool(super()._determine_best_metric(metrics, trial)) if self._ready() else False


class _Scores:
    """Validation metrics: accuracy, macro-F1, and agreement with the teacher where there is one."""

    def __init__(self, teacher_labels: npt.NDArray[np.int64] | None) -> None:
        self._teacher_labels = teacher_labels

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        answers = np.asarray(prediction.predictions).argmax(-1)
        truth = np.asarray(prediction.label_ids)
        found = {
            "accuracy": float((answers == truth).mean()),
            "macro_f1": float(f1_score(truth, answers, average="macro", zero_division=0)),
        }
        if self._teacher_labels is not None:
            found["agreement"] = float((answers == self._teacher_labels).mean())
        return found


class _Clock(TrainerCallback):
    """Asks for a checkpoint whenever the last one is old enough."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._saved = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if time.monotonic() - self._saved >= self._seconds:
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved = time.monotonic()


class _Reporter(TrainerCallback):
    """Hands the Trainer's progress to the listener."""

    def __init__(self, stage: str, listen: Listener, figures: dict[str, float]) -> None:
        self._stage = stage
        self._listen = listen
        self._figures = figures

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._listen(Progress(self._stage, state.global_step, state.max_steps, dict(self._figures)))


def _arguments(settings: TrainingSettings, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size * 2,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type=settings.lr_scheduler if settings.lr_scheduler != "constant" else "constant_with_warmup",
        weight_decay=settings.weight_decay,
        bf16=settings.precision == "bf16",
        fp16=settings.precision == "fp16",
        use_cpu=settings.device == "cpu",
        seed=settings.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        logging_steps=10,
        logging_first_step=True,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=torch.cuda.is_available() and settings.device != "cpu",
    )


def _curve(state: TrainerState) -> TrainingCurve:
    logged = [entry for entry in state.log_history if "loss" in entry]
    evaluated = [entry for entry in state.log_history if "eval_accuracy" in entry]
    names = ("accuracy", "macro_f1", "agreement", "loss")
    return TrainingCurve(
        steps=tuple(int(entry["step"]) for entry in logged),
        losses=tuple(float(entry["loss"]) for entry in logged),
        evaluations=tuple(
            {"step": float(entry["step"])}
            | {name: float(entry[f"eval_{name}"]) for name in names if f"eval_{name}" in entry}
            for entry in evaluated
        ),
    )
