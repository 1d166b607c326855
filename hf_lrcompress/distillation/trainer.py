"""A Trainer for masked-LM distillation."""

import inspect
from contextlib import contextmanager
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainerCallback

from hf_lrcompress.architectures import disable_dropout
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.losses import linear_argmax, linear_cross_entropy, linear_kl, linear_mse
from hf_lrcompress.distillation.masking import ReproducibleMasking

LOSS_PARTS = ("mlm_loss", "distillation_loss")


class DistillationTrainer(Trainer):
    """Train a masked-LM student on `alpha · MLM + (1 - alpha) · distillation loss` against a frozen teacher.

    The logits over the whole vocabulary are never held (see `losses.py`), and the loss is computed inside the student's wrapped
    forward. Both parts of the loss are logged (`mlm_loss`, `distillation_loss`); evaluation reports the accuracy at masked
    tokens (`eval_mlm_accuracy`). Losses are sums divided by the counts of the whole optimiser step, so gradient accumulation
    and several processes give what one large batch gives.

    Args:
        model ([`~transformers.PreTrainedModel`]): The student, with a masked-LM head.
        args ([`DistillationConfig`]): How to train.
        teacher_model ([`~transformers.PreTrainedModel`], *optional*):
            A masked LM with the same vocabulary. It is put into eval mode and frozen, and is in no checkpoint. Not needed
            where `args.alpha` is 1.
        data_collator (*optional*): By default masks `args.mlm_probability` of the tokens of `processing_class`.
        kwargs: What [`~transformers.Trainer`] takes besides (`train_dataset`, `eval_dataset`, `processing_class`,
            `callbacks`, `optimizers`, …), except `compute_metrics`.

    Raises:
        ValueError: If there is no teacher and `alpha` is below 1, student and teacher have different vocabularies, or several
            GPUs are given to one process.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: DistillationConfig,
        *,
        teacher_model: PreTrainedModel | None = None,
        data_collator: Any = None,
        processing_class: Any = None,
        **kwargs,
    ):
        _check_models(model, teacher_model, args)
        if args.n_gpu > 1:
            raise ValueError("several GPUs in one process (nn.DataParallel) are not supported; start with accelerate launch")
        if data_collator is None:
            if processing_class is None:
                raise ValueError("give a data_collator that masks tokens, or the tokenizer as processing_class")
            data_collator = ReproducibleMasking(processing_class, args.mlm_probability, args.seed)
        super().__init__(
            model,
            args,
            data_collator,
            processing_class=processing_class,
            compute_metrics=self._evaluation_metrics,
            **kwargs,
        )
        if isinstance(data_collator, ReproducibleMasking):
            self.add_callback(_MaskAnew(data_collator))
        # compute_loss divides by the counts of the whole optimiser step: the Trainer must not divide again.
        self.model_accepts_loss_kwargs = True  # transformers 4
        self.loss_is_scaled_for_ga = True  # transformers 5
        if args.disable_dropout:
            disable_dropout(model)
        self.teacher_model = teacher_model if args.alpha < 1 else None
        if self.teacher_model is not None:
            self.teacher_model.requires_grad_(False).eval().to(args.device)
        _compute_losses_in_forward(model, self.teacher_model, args)
        self._logged_parts = torch.zeros(len(LOSS_PARTS), device=args.device)
        self._logged_from = None

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Masked tokens and tokens of one optimiser step, over all processes: shape `(2,)`."""
        counts = torch.stack([_counts(batch) for batch in batch_samples]).sum(dim=0) if batch_samples else torch.zeros(2)
        return self.accelerator.reduce(counts.to(device), reduction="sum")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if num_items_in_batch is None:
            num_items_in_batch = self._get_num_items_in_batch([inputs], self.args.device)
        outputs = self._run_student(model, inputs)
        # Processes average their gradients; the counts are sums over processes.
        parts = outputs["loss_sums"] / self._divisor(num_items_in_batch) * self.accelerator.num_processes
        if model.training:
            self._log_parts(parts)
        loss = self.args.alpha * parts[0] + (1 - self.args.alpha) * parts[1]
        return (loss, outputs) if return_outputs else loss

    def _run_student(self, model, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        inputs = dict(inputs)
        labels, mask = inputs.pop("labels"), _token_mask(inputs)
        teacher_features = None
        if self.teacher_model is not None:
            with torch.no_grad(), self.accelerator.autocast():
                teacher_features = features_of(self.teacher_model, **inputs)[mask]
        return model(**inputs, distillation=(labels, mask, teacher_features))

    def evaluate(self, *args, **kwargs):
        epoch = getattr(self.data_collator, "epoch", None)
        if epoch is not None:
            self.data_collator.epoch = 0  # the same masks in every evaluation
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            if epoch is not None:
                self.data_collator.epoch = epoch

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            outputs = self._run_student(model, inputs)
        labels, rows = inputs["labels"], len(inputs["labels"])
        sums = torch.cat([outputs["correct"][:, None], (outputs["loss_sums"] / rows).expand(rows, -1)], dim=1)
        counts = torch.stack([(labels != -100).sum(dim=1), _token_mask(inputs).sum(dim=1)], dim=1)
        return None, sums, counts  # _evaluation_metrics divides, once

    def _evaluation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        correct, *loss_sums = prediction.predictions.astype(np.float64).sum(axis=0)
        mlm_loss, distillation_loss = loss_sums / self._divisor(torch.as_tensor(prediction.label_ids).sum(dim=0)).numpy()
        return {
            "loss": float(self.args.alpha * mlm_loss + (1 - self.args.alpha) * distillation_loss),
            "mlm_accuracy": float(correct / max(1, prediction.label_ids[:, 0].sum())),
            "mlm_loss": float(mlm_loss),
            "distillation_loss": float(distillation_loss),
        }

    def _divisor(self, counts: torch.Tensor) -> torch.Tensor:
        """What the sums of both losses are divided by, from masked tokens and tokens: shape `(2,)`."""
        vocab_size = self.model.get_output_embeddings().weight.shape[0] if self.args.distillation_loss == "mse" else 1
        return counts.clamp(min=1) * torch.tensor([1, vocab_size], device=counts.device)

    def _log_parts(self, parts: torch.Tensor) -> None:
        if self._logged_from is None:
            self._logged_from = self.state.global_step
        self._logged_parts += parts.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._logged_from is not None:
            steps = max(1, self.state.global_step - self._logged_from)
            means = self.accelerator.reduce(self._logged_parts, reduction="mean") / steps
            names = LOSS_PARTS if self.teacher_model is not None else LOSS_PARTS[:1]
            logs |= {name: round(value, 6) for name, value in zip(names, means.tolist(), strict=False)}
            self._logged_parts.zero_()
            self._logged_from = None
        super().log(logs, start_time)


class _MaskAnew(TrainerCallback):
    """Masks other tokens in every epoch."""

    def __init__(self, collator: ReproducibleMasking):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.epoch = int(state.epoch + 1e-6)


@contextmanager
def _identity_output_layer(model: PreTrainedModel):
    """Let the output layer pass its input through: the model's "logits" are then the features before it."""
    layer = model.get_output_embeddings()
    layer.forward = lambda features: features
    try:
        yield
    finally:
        del layer.forward


def features_of(model: PreTrainedModel, **inputs) -> torch.Tensor:
    """The input of a masked LM's output layer, for every token: shape `(batch, sequence, hidden)`."""
    with _identity_output_layer(model):
        return type(model).forward(model, **inputs).logits


def _compute_losses_in_forward(student: PreTrainedModel, teacher: PreTrainedModel | None, args: DistillationConfig) -> None:
    """Teach the student's forward the argument `distillation`, with which it returns losses instead of logits.

    They must be made inside the wrapped forward: that is where DDP watches which parameters are used and FSDP has gathered them.
    """
    plain_forward = student.forward

    def forward(self, *positional, distillation=None, **inputs):
        if distillation is None:
            return plain_forward(*positional, **inputs)
        labels, mask, teacher_features = distillation
        features, masked = features_of(self, **inputs), labels != -100
        layer = self.get_output_embeddings()
        mlm = linear_cross_entropy(features[masked], layer.weight, layer.bias, labels[masked])
        distilled = mlm.new_zeros(())
        if teacher_features is not None:
            target = teacher.get_output_embeddings()
            pair = (features[mask], layer.weight, layer.bias, teacher_features, target.weight, target.bias)
            distilled = linear_mse(*pair) if args.distillation_loss == "mse" else linear_kl(*pair, args.temperature)
        outputs = {"loss_sums": torch.stack([mlm, distilled])}
        if not self.training:
            hits = torch.zeros_like(labels, dtype=torch.float32)
            hits[masked] = (linear_argmax(features[masked], layer) == labels[masked]).float()
            outputs["correct"] = hits.sum(dim=1)
        return outputs

    forward.__signature__ = inspect.signature(type(student).forward)  # the Trainer drops data columns by it
    student.forward = MethodType(forward, student)


def _token_mask(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    mask = inputs.get("attention_mask")
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def _counts(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Masked tokens and tokens of a batch: shape `(2,)`."""
    return torch.stack([(batch["labels"] != -100).sum(), _token_mask(batch).sum()])


def _check_models(student: nn.Module, teacher: nn.Module | None, args: DistillationConfig) -> None:
    if teacher is None:
        if args.alpha < 1:
            raise ValueError(f"alpha={args.alpha} distils from a teacher: give teacher_model, or set alpha=1 for masked LM only")
        return
    if teacher is student:
        raise ValueError("teacher_model and model are the same object; load or copy the student separately")
    rows = [model.get_output_embeddings().weight.shape[0] for model in (student, teacher)]
    if rows[0] != rows[1]:
        raise ValueError(
            f"the student's vocabulary has {rows[0]} rows, the teacher's {rows[1]}; trim the teacher's with trim_vocab first"
        )
