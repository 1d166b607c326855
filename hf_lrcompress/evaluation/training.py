"""Training one model on one task with one seed, and scoring it once on test."""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_lrcompress.evaluation.adapters import load_for_task
from hf_lrcompress.evaluation.cheap_training import fast_dropout, make_cheap
from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.missed_labels import missed_labels
from hf_lrcompress.evaluation.settings import TaskTraining
from hf_lrcompress.evaluation.tasks import WEIGHT_DECAY
from hf_lrcompress.machine import computes_in_bf16


def train_and_score(
    model: ModelUnderTest,
    encoded: EncodedTask,
    training: TaskTraining,
    seed: int,
    padding: str = "longest",
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Train a model on a task; the best epoch on validation is scored once on test. The same seed gives the same scores.

    Args:
        model ([`ModelUnderTest`]): The model to start from; its files are not changed.
        encoded ([`EncodedTask`]): The task as the model's tokens.
        training ([`TaskTraining`]): Settings, with one learning rate at most.
        seed (`int`): Seeds head, adapters, dropout and order.
        padding (`str`, *optional*, defaults to `"longest"`): `"max_length"` pads all to the maximum, to compare the speed with.
        callbacks (`Sequence[TrainerCallback]`, *optional*): Those of the training that the caller wants to add.

    Returns:
        `dict`: `scores` on test, `missed` (see [`missed_labels`]), `validation` and `epoch` of the best epoch, `seconds` of the
            training, `predictions` (one a test example: `text` or `tokens`, `gold`, `predicted`, `seed`).

    Raises:
        ValueError: If the checkpoint lacks weights of the encoder, or there are several learning rates.
    """
    task = encoded.data.task
    set_seed(seed)
    network = load_for_task(
        model.path, encoded.data.labels, task.tokens, training.tuning, training.reduction_factor, model.revision
    )
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
            callbacks=[best, *callbacks],
        )
        trainer.remove_callback(PrinterCallback)
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
        best.restore(network)
        trainer.compute_metrics = None
        test_examples: Any = encoded.splits["test"].features
        predicted = trainer.predict(test_examples).predictions
    scores, decoded = encoded.scores("test", predicted)
    return {
        "scores": scores,
        "missed": missed_labels(task, decoded, [example.labels for example in encoded.splits["test"].examples]),
        "validation": best.score,
        "epoch": best.epoch,
        "seconds": seconds,
        "predictions": _prediction_rows(encoded, decoded, seed),
    }


class BestEpoch(TrainerCallback):
    """Keeps the trained parameters of the best epoch in memory: there are few, and nothing is left on the disk.

    Args:
        metric (`str`): The metric to go by; of equal epochs the first counts.
        patience (`int`, *optional*): Stop after so many epochs without a better one.
    """

    def __init__(self, metric: str, patience: int | None = None) -> None:
        self.metric = metric
        self.patience = patience
        self.score = float("-inf")
        self.epoch = 0
        self._state: dict[str, torch.Tensor] = {}

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the parameters if this epoch is the best, and stop the training if the best is long ago."""
        score = kwargs["metrics"][self.metric]
        epoch = round(state.epoch or 0)
        if score > self.score:
            self.score = score
            self.epoch = epoch
            trained = ((name, p) for name, p in kwargs["model"].named_parameters() if p.requires_grad)
            self._state = {name: parameter.detach().clone() for name, parameter in trained}
        elif self.patience and epoch - self.epoch >= self.patience:
            control.should_training_stop = True

    def restore(self, model: torch.nn.Module) -> None:
        """Put the best epoch's parameters back."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self._state.items():
                parameters[name].copy_(value)


class _TaskTrainer(Trainer):
    """A Trainer whose batches hold examples of about one length, and whose dropout is fast on a CPU."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with fast_dropout():
            return super().training_step(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        features: Any = self.train_dataset
        lengths = [len(feature["input_ids"]) for feature in features]
        return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)


def _arguments(output_dir: str, encoded: EncodedTask, training: TaskTraining, seed: int) -> TrainingArguments:
    task = encoded.data.task
    epochs = training.epochs_of(task)
    rates = training.rates_of(task)
    if len(rates) > 1:
        raise ValueError(f"a training has one learning rate, got {list(rates)}; score_models chooses among several")
    steps = epochs * -(-len(encoded.data.train) // task.batch_size)
    arguments = TrainingArguments(
        output_dir,
        seed=seed,
        learning_rate=rates[0],
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
    arguments._n_gpu = min(1, arguments.n_gpu)  # on several GPUs torch would train with batches several times as large
    return arguments


def _collator(encoded: EncodedTask, padding: str) -> DataCollatorWithPadding | DataCollatorForTokenClassification:
    collator = DataCollatorForTokenClassification if encoded.data.task.tokens else DataCollatorWithPadding
    return collator(encoded.tokenizer, padding=padding, max_length=encoded.max_length)


def _prediction_rows(encoded: EncodedTask, decoded: list[str | list[str]], seed: int) -> list[dict[str, Any]]:
    key = "tokens" if encoded.data.task.tokens else "text"
    return [
        {key: example.inputs, "gold": example.labels, "predicted": predicted, "seed": seed}
        for example, predicted in zip(encoded.splits["test"].examples, decoded, strict=True)
    ]
