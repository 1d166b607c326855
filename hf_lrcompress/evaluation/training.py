"""Training one model on one task with one seed, and scoring it once on test."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_lrcompress.evaluation.adapters import TUNINGS, load_for_task
from hf_lrcompress.evaluation.cheap_training import make_cheap
from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.tasks import WEIGHT_DECAY, Task
from hf_lrcompress.machine import computes_in_bf16

SMALL_HIDDEN_SIZE = 564
"""Up to this hidden size a model is small (arXiv 2505.16956, figure 10)."""


@dataclass(frozen=True)
class TaskTraining:
    """How a model is trained on a task, where that is not the task's own.

    Args:
        tuning (`str`, *optional*, defaults to `"seq_bn"`): Adapters and head, or `"full"`: everything.
        reduction_factor (`int`, *optional*, defaults to 16): Of the adapters.
        small_reduction_factor (`int`, *optional*): Instead of that, for models of hidden size up to 564, which gain from 2.
        quick (`bool`, *optional*, defaults to `False`): Fewer epochs.
        epochs (`int`, *optional*): Instead of the task's.
        patience (`int`, *optional*): Stop after so many epochs without a better one.
        label_all_tokens (`bool`, *optional*, defaults to `False`): Every token of a word learns its tag, not only the first.

    Raises:
        ValueError: If a value is out of range.
    """

    tuning: str = "seq_bn"
    reduction_factor: int = 16
    small_reduction_factor: int | None = None
    quick: bool = False
    epochs: int | None = None
    patience: int | None = None
    label_all_tokens: bool = False

    def __post_init__(self):
        if self.tuning not in TUNINGS:
            raise ValueError(f"tuning must be {' or '.join(TUNINGS)}, got {self.tuning!r}")
        for name in ("reduction_factor", "small_reduction_factor", "epochs", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    def of_model(self, hidden_size: int) -> "TaskTraining":
        """The same with the one reduction factor that a model of this hidden size has."""
        factor = self.small_reduction_factor if hidden_size <= SMALL_HIDDEN_SIZE else None
        return replace(self, reduction_factor=factor or self.reduction_factor, small_reduction_factor=None)

    def check_factors(self, factors: Sequence[int]) -> None:
        """Raise if adapters of these sizes cannot be compared.

        Raises:
            ValueError: If there are no adapters, or a reduction factor is out of range.
        """
        if factors and self.tuning != "seq_bn":
            raise ValueError("reduction_factors compares adapters; it needs tuning seq_bn")
        for factor in factors:
            if type(factor) is not int or factor < 1:
                raise ValueError(f"reduction_factors must be whole numbers of 1 or more, got {factor!r}")

    def epochs_of(self, task: Task) -> int:
        """Epochs that a task is trained for."""
        return self.epochs or (task.quick_epochs if self.quick else task.epochs)


def train_and_score(
    model: ModelUnderTest, encoded: EncodedTask, training: TaskTraining, seed: int, padding: str = "longest"
) -> dict[str, Any]:
    """Train a model on a task; the best epoch on validation is scored once on test. The same seed gives the same scores.

    Args:
        model ([`ModelUnderTest`]): What to start from; its files are not changed.
        encoded ([`EncodedTask`]): The task as its tokens.
        training ([`TaskTraining`]): How.
        seed (`int`): Of head, adapters, dropout and order.
        padding (`str`, *optional*, defaults to `"longest"`): `"max_length"` pads all to the maximum, to compare the speed with.

    Returns:
        `dict`: `scores` on test, `validation` and `epoch` of the best epoch, `seconds` of the training, `predictions` (one a test
        example: `text` or `tokens`, `gold`, `predicted`, `seed`).
    """
    task, set_up = encoded.data.task, (encoded.data.labels, encoded.data.task.tokens)
    set_seed(seed)
    network = load_for_task(model.path, *set_up, training.tuning, training.reduction_factor, model.revision)
    make_cheap(network)
    best = BestEpoch(f"eval_{task.metric}", training.patience)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _TaskTrainer(
            network,
            _arguments(scratch, encoded, training, seed),
            train_dataset=encoded.splits["train"].features,
            eval_dataset=encoded.splits["validation"].features,
            data_collator=_collator(encoded, padding),
            compute_metrics=lambda prediction: encoded.scores("validation", prediction.predictions)[0],
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
            callbacks=[best],
        )
        trainer.remove_callback(PrinterCallback)
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
        best.restore(network)
        trainer.compute_metrics = None
        output: EvalPrediction = trainer.predict(encoded.splits["test"].features)
    scores, decoded = encoded.scores("test", output.predictions)
    return {
        "scores": scores,
        "validation": best.score,
        "epoch": best.epoch,
        "seconds": seconds,
        "predictions": _prediction_rows(encoded, decoded, seed),
    }


class BestEpoch(TrainerCallback):
    """Keeps the trained parameters of the best epoch in memory: there are few, and nothing is left on the disk.

    Args:
        metric (`str`): What to go by; of equal epochs the first counts.
        patience (`int`, *optional*): Stop after so many epochs without a better one.
    """

    def __init__(self, metric: str, patience: int | None = None):
        self.metric, self.patience = metric, patience
        self.score, self.epoch = float("-inf"), 0
        self._state: dict[str, torch.Tensor] = {}

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        epoch = round(state.epoch)
        if metrics[self.metric] > self.score:
            self.score, self.epoch = metrics[self.metric], epoch
            self._state = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        elif self.patience and epoch - self.epoch >= self.patience:
            control.should_training_stop = True

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best epoch's parameters back."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self._state.items():
                parameters[name].copy_(value)


class _TaskTrainer(Trainer):
    """A Trainer whose batches hold examples of about one length."""

    def _get_train_sampler(self, train_dataset=None) -> Sampler:
        lengths = [len(feature["input_ids"]) for feature in self.train_dataset]
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)


def _arguments(output_dir: str, encoded: EncodedTask, training: TaskTraining, seed: int) -> TrainingArguments:
    task, epochs = encoded.data.task, training.epochs_of(encoded.data.task)
    steps = epochs * -(-len(encoded.data.train) // task.batch_size)
    return TrainingArguments(
        output_dir,
        seed=seed,
        learning_rate=task.learning_rate,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=round(task.warmup * steps),
        num_train_epochs=epochs,
        per_device_train_batch_size=task.batch_size,
        per_device_eval_batch_size=64,
        eval_strategy="epoch",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.accelerator.is_available(),
        bf16=computes_in_bf16(),
    )


def _collator(encoded: EncodedTask, padding: str) -> DataCollatorWithPadding | DataCollatorForTokenClassification:
    collator = DataCollatorForTokenClassification if encoded.data.task.tokens else DataCollatorWithPadding
    return collator(encoded.tokenizer, padding=padding, max_length=encoded.max_length)


def _prediction_rows(encoded: EncodedTask, decoded: list, seed: int) -> list[dict[str, Any]]:
    key = "tokens" if encoded.data.task.tokens else "text"
    return [
        {key: example.inputs, "gold": example.labels, "predicted": predicted, "seed": seed}
        for example, predicted in zip(encoded.splits["test"].examples, decoded, strict=True)
    ]
