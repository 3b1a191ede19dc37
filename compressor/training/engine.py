"""One training engine for teachers and students of every task: ``transformers.Trainer`` with a given objective.

The Trainer brings mixed precision, gradient accumulation and resume. What is added
here: batches bucketed by length, validation by the task's own metric, the best checkpoint by it, checkpoints by the
clock, and a restart that continues from the last whole checkpoint.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from compressor import processes
from compressor.answers import INPUT_NAMES, Answers, collect
from compressor.artifacts import TrainingCurve
from compressor.errors import DivergedError, ProviderError
from compressor.events import Listener, Note
from compressor.heads import asking
from compressor.tasks import TASKS, Task
from compressor.training.batches import Collator, share_of
from compressor.training.objectives import Figures, Objective
from compressor.training.on_cpu import fast_on_cpu
from compressor.training.progress import Clock, Patience, Reporter, waited
from compressor.training.shared_gradients import SharedGradients
from compressor.training.validation import Score, accuracy_of, agreement

Groups = Callable[[nn.Module], list[dict[str, Any]]]
"""Groups the weights of a model for an optimiser, each with its learning rate."""


TEACHER_STAGE = "fine-tune"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. Learning rates are peak values; ratios are shares of all steps; dropout is the model's own.

    Attributes:
        patience: Stop after this many epochs without a better score; ``None``: never.
    """

    stage: str
    epochs: float
    learning_rate: float
    batch_size: int
    seed: int
    gradient_accumulation_steps: int = 1
    warmup_ratio: float = 0.1
    lr_scheduler: str = "linear"
    weight_decay: float = 0.01
    dropout: bool = True
    patience: int | None = None
    precision: str = "fp32"
    device: str = "cpu"
    checkpoint_minutes: float = 2.0


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and validated with.

    Attributes:
        train: Rows with ``input_ids``, ... and what the objective needs.
        sampler: Order of the training rows; its ``set_epoch`` is called before every epoch.
        validation: Rows of a tokenised split, with ``length``.
        collate: Pads a list of rows to one batch of tensors.
        task: What the model does.
        score: Judges the answers about the validation rows. Default: accuracy and macro-F1 of single labels.
        metric: Name of the figure that says which weights are best.
        teacher: The teacher's answers about the validation rows, if there is a teacher; the score then has the
            ``agreement`` with it too, for tasks that decide something.
        mask_token_id: Of a masked language model's tokenizer.
        longest: Tokens of the longest training row, where that is known.
    """

    train: Any
    sampler: Sampler[int]
    validation: Any
    collate: Collator
    task: Task = TASKS["single-label"]
    score: Score | None = None
    metric: str = "accuracy"
    teacher: Answers | None = None
    mask_token_id: int | None = None
    longest: int | None = None


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


def arithmetic(device: str, precision: str) -> torch.autocast:
    """Compute in a precision while the block runs, and in fp32 what needs it."""
    return torch.autocast(device, _DTYPES.get(precision), enabled=precision in _DTYPES)


def train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    folder: Path,
    listen: Listener,
    objective: Objective,
    callbacks: Sequence[TrainerCallback] = (),
    ready: Callable[[], bool] = lambda: True,
    groups: Groups | None = None,
) -> TrainingCurve:
    """Train a model in place; it ends with the weights of its best validation score.

    Args:
        model: The model to train. What hangs on it (projections of hints) is trained and saved with it.
        data: Rows, their order, collation and how they are judged.
        settings: How.
        folder: Checkpoints; a whole one found here is continued from. The caller removes it.
        listen: Receives ``Progress`` after every step.
        objective: The training loss.
        callbacks: More callbacks of the Trainer, such as a pruner.
        ready: Says whether the present weights may be kept as the best (a pruner is not ready
            before its last step). Where they never may, the last ones are kept.
        groups: Learning rates of single layers. Default: one for all.

    Returns:
        Losses and evaluations, those before an interruption included.

    Raises:
        ValueError: There is no score, and the rows have no single labels.
        DivergedError: The weights are no numbers any more.
    """
    if data.score is None and data.task.kind != "single-label":
        raise ValueError(f"a {data.task.kind} model needs a score")
    here = processes.here()
    last = processes.by_first(lambda: last_checkpoint(folder))
    if last is not None:
        listen(Note(f"Continued {settings.stage} from step {last.name.rpartition('-')[2]} of an interrupted run."))
        settings = _as_far_as_it_goes(settings, last)
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, folder, data.metric),
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collate,
        callbacks=[
            *([Patience(settings.patience)] if settings.patience else []),
            Clock(settings.checkpoint_minutes * 60),
            *callbacks,
        ],
    )
    trainer.prepare_run(objective, data, ready, groups, dropout=settings.dropout)
    if here.count > 1:
        processes.spread(model.parameters())
        set_seed(settings.seed + here.rank)  # another dropout in each
    trainer.add_callback(Reporter(settings.stage, listen, trainer.figures))
    trainer.remove_callback(PrinterCallback)
    with fast_on_cpu(model, str(trainer.args.device), data.longest):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    processes.spread(model.parameters())  # the best ones: only the first process knows which checkpoint has them
    # accelerate leaves autocast in model.forward, and an export would follow it.
    trained: nn.Module = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    trained.eval().to("cpu")
    if not all(bool(torch.isfinite(weight).all()) for weight in trained.parameters()):
        rate = "--teacher-learning-rate" if settings.stage == TEACHER_STAGE else "--learning-rate"
        raise DivergedError(
            f"The stage {settings.stage} diverged: its weights are no numbers any more.",
            f"Lower {rate} ({settings.learning_rate:g} now); in half precision, try --precision fp32.",
        )
    return _curve(trainer.state)


def _as_far_as_it_goes(settings: TrainingSettings, last: Path) -> TrainingSettings:
    """Leave out the epochs that a training out of patience would not have had; it was killed before it was kept."""
    state = TrainerState.load_from_json(str(last / "trainer_state.json"))
    if settings.patience is None or waited(state) < settings.patience:
        return settings
    return replace(settings, epochs=min(settings.epochs, float(state.epoch or 0.0)))


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
    """The Trainer with an injected objective, a fixed order of batches, our validation and a say in what is best.

    Of several processes each has a Trainer that believes itself alone, with its share of every batch. They average
    their gradients before a step; the first one writes the checkpoints.
    """

    def prepare_run(
        self,
        objective: Objective,
        data: TrainingData,
        ready: Callable[[], bool],
        groups: Groups | None,
        *,
        dropout: bool,
    ) -> None:
        self._objective = objective
        self._data = data
        self._judge = data.score or accuracy_of(data.validation)
        self._ready = ready
        self._groups = groups
        self._dropout = dropout
        self.figures: Figures = {}
        trained: Any = self.model
        self._gradients = SharedGradients(trained) if processes.here().count > 1 else None
        # Otherwise the Trainer leaves the division by the accumulation steps to the model's own loss.
        self.model_accepts_loss_kwargs = False

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._data.sampler

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None and self._groups is not None:
            trained: Any = self.model if model is None else model
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = kind(self._groups(trained), **options)
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        return optimizer

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not self._dropout:
            # Encoders differ between training and inference in nothing else; the Trainer calls train() in every step.
            model.eval()
        loss, figures = self._objective(model, inputs)
        for name, value in {"loss": loss.detach(), **figures}.items():
            previous = self.figures.get(name, value)
            self.figures[name] = 0.9 * previous + 0.1 * value
        return loss

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if self._gradients is None:
            return loss
        return self._gradients.after_backward(loss, is_step=self.accelerator.sync_gradients)

    def floating_point_ops(self, inputs: Any) -> int:
        """Count nothing: the Trainer would count all weights anew in every step, and nobody reads the sum."""
        return 0

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Judge the model's answers about the validation rows by the task's own score."""
        data = self._data
        model: Any = self.model
        model.eval()
        found = collect(
            asking(model, data.task, str(self.args.device), data.mask_token_id),
            data.validation,
            data.task,
            names=[name for name in INPUT_NAMES if name in data.validation.column_names],
            pad_token_id=data.collate.pad_token_id,
        )
        figures = {**self._judge(found), **agreement(data.task, found, data.teacher)}
        metrics = {f"{metric_key_prefix}_{name}": float(value) for name, value in figures.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if processes.here().is_first:
            processes.wait_for_all()  # its state of training is written last, and makes the checkpoint whole
            super()._save_checkpoint(model, trial)
        else:
            place = _own_state(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}")
            place.mkdir(parents=True, exist_ok=True)
            self._save_rng_state(str(place))
            processes.wait_for_all()
        processes.wait_for_all()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(None if checkpoint is None else str(_own_state(Path(checkpoint))))

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        return bool(super()._determine_best_metric(metrics, trial)) if self._ready() else False


def _own_state(checkpoint: Path) -> Path:
    """Where a process has the states of its random numbers: the first one where the Trainer looks for them."""
    me = processes.here()
    return checkpoint if me.is_first else checkpoint / f"process-{me.rank}"


def _arguments(settings: TrainingSettings, folder: Path, metric: str) -> TrainingArguments:
    on_gpu = torch.cuda.is_available() and settings.device != "cpu"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=share_of(settings.batch_size),
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
        metric_for_best_model=metric,
        greater_is_better=True,
        logging_steps=10,
        logging_first_step=True,
        # Looking for losses that are not finite would wait for the GPU in every step; see ``_curve``.
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},
    )
    # One process, one GPU: the Trainer would put a batch on each (DataParallel). Several are for torchrun.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _curve(state: TrainerState) -> TrainingCurve:
    logged = [entry for entry in state.log_history if math.isfinite(entry.get("loss", math.nan))]
    evaluated = [entry for entry in state.log_history if any(name.startswith("eval_") for name in entry)]
    return TrainingCurve(
        steps=tuple(int(entry["step"]) for entry in logged),
        losses=tuple(float(entry["loss"]) for entry in logged),
        evaluations=tuple(
            {"step": float(entry["step"])}
            | {name[5:]: float(value) for name, value in entry.items() if name.startswith("eval_")}
            for entry in evaluated
        ),
    )
