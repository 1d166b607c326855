"""A Trainer for masked-LM distillation."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import DynamoBackend
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from hf_lrcompress.distillation.checks import check_student_and_teacher
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.forward import HIDDEN_STATE_LOSSES, encode_teacher, return_losses
from hf_lrcompress.distillation.masking import ReproducibleMasking
from hf_lrcompress.distillation.sharding import ShardingTrainer, gathered
from hf_lrcompress.models.architectures import disable_dropout, layers_of

LOSS_PARTS = ("mlm_loss", "distillation_loss", "feature_loss")


class DistillationTrainer(ShardingTrainer):
    """Train a masked-LM student on `alpha · MLM + (1 - alpha) · distillation loss` against a frozen teacher.

    The logits over the whole vocabulary are never held (see `losses.py`), and the losses are made inside the student's wrapped
    forward (see `forward.py`). Each is logged (`mlm_loss`, `distillation_loss`, `feature_loss`); evaluation reports the accuracy
    at masked tokens (`eval_mlm_accuracy`). Losses are sums divided by the counts of the whole optimiser step, so gradient
    accumulation and several processes give what one large batch gives. Checkpoints hold student and optimiser, in the same files
    for one process, DDP and FSDP 2: one resumes the other. A loss or a weight that is not finite stops the training.

    Args:
        model ([`~transformers.PreTrainedModel`]): The student, with a masked-LM head.
        args ([`DistillationConfig`]): How to train.
        teacher_model ([`~transformers.PreTrainedModel`], *optional*):
            A masked LM in eval mode with the same vocabulary. It is not trained and in no checkpoint. Not needed where
            `args.alpha` is 1 and there is no `args.feature_loss`.
        data_collator (*optional*): By default masks `args.mlm_probability` of the tokens of `processing_class`.
        teacher_processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            The teacher's tokenizer, to be compared with `processing_class`.
        kwargs: What [`~transformers.Trainer`] takes besides (`train_dataset`, `eval_dataset`, `processing_class`,
            `callbacks`, `optimizers`, …), except `compute_metrics`.

    Raises:
        ValueError: If a teacher is needed and there is none, it is in training mode, student and teacher have different
            vocabularies, several GPUs are given to one process, or the launcher asks for FSDP 1.
        FloatingPointError: While training, if the loss or a weight to be saved is not finite.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: DistillationConfig,
        *,
        teacher_model: PreTrainedModel | None = None,
        data_collator: Any = None,
        processing_class: Any = None,
        teacher_processing_class: PreTrainedTokenizerBase | None = None,
        **kwargs,
    ):
        check_student_and_teacher(model, teacher_model, processing_class, teacher_processing_class, args)
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
        self.teacher_model = teacher_model if args.needs_teacher else None
        if self.teacher_model is not None:
            self.teacher_model.to(args.device)
            _add_feature_projection(model, self.teacher_model, args)
        return_losses(model, self.teacher_model, args)
        self.accelerator.state.dynamo_plugin.backend = DynamoBackend.NO  # it would compile the whole student, losses and all
        if args.torch_compile:
            self._compile_layers()
        self._vocab_size = len(model.get_output_embeddings().weight)  # asked for now: sharding may leave an empty weight
        self._weights = torch.tensor([args.alpha, 1 - args.alpha, args.feature_weight], device=args.device)
        self._logged_parts = torch.zeros(len(LOSS_PARTS), device=args.device)
        self._logged_from = None
        self.shard_if_asked()

    def _compile_layers(self) -> None:
        """Compile the layers of student and teacher in place, one graph for all: the losses around them are kernels already."""
        for name in [name for name in os.environ if name.startswith("ACCELERATE_DYNAMO_")]:
            del os.environ[name]  # TrainingArguments leave it to every later Trainer of the process
        for model in filter(None, (self.model, self.teacher_model)):
            for layer in layers_of(model):
                layer.compile(backend=self.args.torch_compile_backend, mode=self.args.torch_compile_mode)

    def train(self, *args, **kwargs):
        if self.state.global_step and _needs_projection(self.model, self.teacher_model, self.args):
            raise ValueError("its feature projection is gone after training; make a new DistillationTrainer")
        try:
            return super().train(*args, **kwargs)
        finally:
            if hasattr(self.model, "feature_projection"):
                del self.model.feature_projection  # it is part of the training, not of the student

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}", self.state.global_step + 1)
        return loss

    def _stop(self, reason: str, step: int) -> None:
        checkpoint = get_last_checkpoint(self.args.output_dir) if Path(self.args.output_dir).is_dir() else None
        rest = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint was saved before"
        raise FloatingPointError(f"{reason} at step {step}; {rest}; lower the learning rate, or train without fp16 or bf16")

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Masked tokens and tokens of one optimiser step, over all processes: shape `(2,)`."""
        counts = torch.stack([_counts(batch) for batch in batch_samples]).sum(dim=0) if batch_samples else torch.zeros(2)
        return self.accelerator.reduce(counts.to(device), reduction="sum")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if num_items_in_batch is None:
            num_items_in_batch = self._get_num_items_in_batch([inputs], self.args.device)
        outputs = self._run_student(model, inputs)
        # Processes average their gradients; the counts are sums over processes.
        parts = (
            (outputs if model.training else outputs[:, :3].sum(dim=0))
            / self._divisor(num_items_in_batch)
            * self.accelerator.num_processes
        )
        if model.training:
            self._log_parts(parts)
        loss = (self._weights * parts).sum()
        return (loss, outputs) if return_outputs else loss

    def _run_student(self, model, inputs: dict[str, Any]) -> torch.Tensor:
        inputs = dict(inputs)
        labels, mask = inputs.pop("labels"), _token_mask(inputs)
        encoded_teacher = None
        if self.teacher_model is not None:
            with self.accelerator.autocast():
                encoded_teacher = encode_teacher(self.teacher_model, self.args.feature_loss, **inputs)
        return model(**inputs, distillation={"labels": labels, "mask": mask, "teacher": encoded_teacher})

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
        counts = torch.stack([(inputs["labels"] != -100).sum(dim=1), _token_mask(inputs).sum(dim=1)], dim=1)
        return None, outputs, counts  # _evaluation_metrics divides, once

    def _evaluation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        *loss_sums, correct = prediction.predictions.astype(np.float64).sum(axis=0)
        parts = np.array(loss_sums) / self._divisor(torch.as_tensor(prediction.label_ids).sum(dim=0)).numpy()
        return {
            "loss": float((self._weights.cpu().numpy() * parts).sum()),
            "mlm_accuracy": float(correct / max(1, prediction.label_ids[:, 0].sum())),
            **self._named(parts.tolist()),
        }

    def _named(self, parts: list[float]) -> dict[str, float]:
        """The losses that there are, by name."""
        there = 1 if self.teacher_model is None else 3 if self.args.feature_loss else 2
        return dict(zip(LOSS_PARTS[:there], parts[:there], strict=True))

    def _divisor(self, counts: torch.Tensor) -> torch.Tensor:
        """What the sums of the losses are divided by, from masked tokens and tokens: shape `(3,)`."""
        masked, tokens = counts.clamp(min=1)
        distilled = masked if self.args.distillation_positions == "masked" else tokens
        if self.args.distillation_loss == "mse":
            distilled = distilled * self._vocab_size
        return torch.stack([masked, distilled, tokens])

    def _log_parts(self, parts: torch.Tensor) -> None:
        if self._logged_from is None:
            self._logged_from = self.state.global_step
        self._logged_parts += parts.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._logged_from is not None:
            steps = max(1, self.state.global_step - self._logged_from)
            means = self.accelerator.reduce(self._logged_parts, reduction="mean") / steps
            logs |= {name: round(value, 6) for name, value in self._named(means.tolist()).items()}
            self._logged_parts.zero_()
            self._logged_from = None
        super().log(logs, start_time)

    def _inner_training_loop(self, batch_size=None, args=None, resume_from_checkpoint=None, **kwargs):
        if resume_from_checkpoint and not self.args.auto_find_batch_size:
            batch_size = self.args.train_batch_size  # not the checkpoint's: there may be more or fewer processes now
        return super()._inner_training_loop(batch_size, args, resume_from_checkpoint, **kwargs)

    def _save_checkpoint(self, model, trial):
        if not all(gathered(parameter.detach().isfinite().all()) for parameter in self.model.parameters()):
            self._stop("a weight is not finite", self.state.global_step)
        super()._save_checkpoint(model, trial)


class _MaskAnew(TrainerCallback):
    """Masks other tokens in every epoch."""

    def __init__(self, collator: ReproducibleMasking):
        self.collator = collator

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.collator.epoch = int(state.epoch + 1e-6)


def _token_mask(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    mask = inputs.get("attention_mask")
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def _counts(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Masked tokens and tokens of a batch: shape `(2,)`."""
    return torch.stack([(batch["labels"] != -100).sum(), _token_mask(batch).sum()])


def _needs_projection(student: nn.Module, teacher: nn.Module | None, args: DistillationConfig) -> bool:
    return args.feature_loss in HIDDEN_STATE_LOSSES and student.config.hidden_size != teacher.config.hidden_size


def _add_feature_projection(student: nn.Module, teacher: nn.Module, args: DistillationConfig) -> None:
    """A learned projection of the student's hidden states; at first dimension i to dimension i, as truncation left them."""
    if _needs_projection(student, teacher, args):
        sizes = student.config.hidden_size, teacher.config.hidden_size
        student.feature_projection = nn.Linear(*sizes, bias=False, device=student.device, dtype=student.dtype)
        nn.init.eye_(student.feature_projection.weight)
