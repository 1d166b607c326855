"""A Trainer for distillation from an encoder into a smaller one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import DynamoBackend
from torch import nn
from torch.utils.data import Sampler
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from hf_lrcompress.distillation.attention import attention_for_training
from hf_lrcompress.distillation.batch_finding import BatchFindingTrainer
from hf_lrcompress.distillation.checkpoints import SealingTrainer, newest_whole
from hf_lrcompress.distillation.checks import check_student_and_teacher, check_weights_are_there
from hf_lrcompress.distillation.compiling import compile_layers
from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.feature_losses import FEWEST_COMPARED
from hf_lrcompress.distillation.forward import LossesOfTraining, accept_losses, wanted_of_teacher
from hf_lrcompress.distillation.grouping import GroupedByLength, lengths_of
from hf_lrcompress.distillation.head_first import HeadFirstTrainer
from hf_lrcompress.distillation.loss_table import COUNTED, LOSSES, that_need, unit_of
from hf_lrcompress.distillation.masking import MaskAnew, ReproducibleMasking, default_collator
from hf_lrcompress.distillation.observing import Observed, observe
from hf_lrcompress.distillation.projecting import ProjectingTrainer, projections_between, token_mask
from hf_lrcompress.distillation.projections import part_of
from hf_lrcompress.distillation.sharding import gathered
from hf_lrcompress.distillation.streams import StreamingTrainer
from hf_lrcompress.models.architectures import disable_dropout


class DistillationTrainer(BatchFindingTrainer, HeadFirstTrainer, ProjectingTrainer, SealingTrainer, StreamingTrainer):
    """Train a student on a weighted sum of losses, most of which compare it with a frozen teacher.

    The losses are those of `args.losses`, or `alpha · MLM + (1 - alpha) · distillation loss` (see [`DistillationConfig`]).
    The logits over the whole vocabulary are never held (see `losses.py`), and the losses are made inside the student's wrapped
    forward (see `forward.py`). Each is logged by its name (`mlm_loss`, `logits_mse_loss`, …), in evaluation too, which with `mlm`
    also reports the accuracy at masked tokens (`eval_mlm_accuracy`); `predict` gives each row's sums of losses as predictions.
    Losses are sums divided by the counts of the whole optimiser step, so gradient accumulation and several processes give what
    one large batch gives. Checkpoints hold student, optimiser and projections, in the same files for one process, DDP and FSDP 2:
    one resumes the other. A streamed data set is one epoch of `max_steps`, read again and again: evaluate and save by steps.

    Args:
        model ([`~transformers.PreTrainedModel`]): The student; with a masked-LM head where a loss needs logits.
        args ([`DistillationConfig`]): How to train.
        teacher_model ([`~transformers.PreTrainedModel`], *optional*):
            An encoder in eval mode with the same vocabulary, and with a masked-LM head where a loss needs logits. It is not
            trained and in no checkpoint. Not needed where `mlm` is the only loss.
        data_collator (*optional*):
            By default masks `args.mlm_probability` of the tokens of `processing_class` where a loss needs masked tokens, and
            only pads where none does.
        teacher_processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            The teacher's tokenizer, to be compared with `processing_class`.
        kwargs: What [`~transformers.Trainer`] takes besides (`train_dataset`, `eval_dataset`, `processing_class`,
            `callbacks`, `optimizers`, …), except `compute_metrics`, `compute_loss_func`, `model_init` and
            `preprocess_logits_for_metrics`.

    Raises:
        ValueError: If a teacher is needed and there is none, it is in training mode, student and teacher have different
            vocabularies or lack what a loss needs, several GPUs are given to one process, or the launcher asks for FSDP 1.
        FloatingPointError, MemoryError: While training, if the loss or a weight is not finite, or a batch too large.
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
        **kwargs: Any,
    ) -> None:
        check_student_and_teacher(model, teacher_model, processing_class, teacher_processing_class, args)
        check_weights_are_there(model=model, teacher_model=teacher_model)
        if args.n_gpu > 1:
            raise ValueError("several GPUs in one process (nn.DataParallel) are not supported; start with accelerate launch")
        for name in ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics", "model_init"):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} would not be called: losses and metrics are those of args.losses, for this model")
        super().__init__(
            model,
            args,
            data_collator or default_collator(args, processing_class),
            processing_class=processing_class,
            compute_metrics=self._evaluation_metrics,
            **kwargs,
        )
        if isinstance(self.data_collator, ReproducibleMasking):
            self.add_callback(MaskAnew(self.data_collator, args))
        # compute_loss divides by the counts of the whole optimiser step: the Trainer must not divide again.
        self.model_accepts_loss_kwargs = True  # transformers 4
        self.loss_is_scaled_for_ga = True  # transformers 5
        if args.disable_dropout:
            disable_dropout(model)
        self.teacher_model = teacher_model if args.needs_teacher else None
        if self.teacher_model is not None:
            self.teacher_model.to(args.device)  # type: ignore[arg-type]  # transformers wraps `to` without its own types
            self.projections = projections_between(model, self.teacher_model, args)
        self._wanted_of_teacher = wanted_of_teacher(args, self.projections)
        self._losses = LossesOfTraining.between(model, self.teacher_model, self.projections, args)
        accept_losses(model)
        self.accelerator.state.dynamo_plugin.backend = DynamoBackend.NO  # it would compile the whole student, losses and all
        if args.torch_compile:
            compile_layers(filter(None, (model, self.teacher_model)), args)
        # Asked for now: sharding may leave an empty weight.
        self._vocab_size = len(model.get_output_embeddings().weight) if that_need("features", args.loss_weights) else 1
        self._weights = torch.tensor(list(args.loss_weights.values()), device=args.device)
        self._logged_losses = torch.zeros(len(self._weights), device=args.device)
        self._logged_from: int | None = None
        with part_of(model, self.projections):
            self.shard_if_asked()

    def _get_train_sampler(self, *args: Any) -> Sampler | None:
        lengths = lengths_of(self.train_dataset)
        strategy = getattr(self.args, "train_sampling_strategy", "random")  # transformers 4 has none
        if lengths is None or strategy not in ("random", "group_by_length"):
            return super()._get_train_sampler(*args)
        return GroupedByLength(lengths, self.args.train_batch_size, self.args.seed)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward pass of one batch; a loss that is not finite ends the training."""
        with attention_for_training(self.args.device, compiled=self.args.torch_compile):
            loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            self._stop(f"the loss is {loss.item()}", self.state.global_step + 1)
        return loss

    def _stop(self, reason: str, step: int) -> None:
        checkpoint = newest_whole(Path(self.args.output_dir or "."))
        rest = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint was saved before"
        raise FloatingPointError(f"{reason} at step {step}; {rest}; lower the learning rate, or train without fp16 or bf16")

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """What is [`COUNTED`] in one optimiser step, over all processes: shape `(4,)`."""
        batches = [self._row_counts(batch).sum(dim=0) for batch in batch_samples]
        counts = torch.stack(batches).sum(dim=0) if batches else torch.zeros(len(COUNTED))
        return self.accelerator.reduce(counts.to(device), reduction="sum")

    def _row_counts(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """What is [`COUNTED`] in each row of a batch: shape `(batch, 4)`."""
        tokens = token_mask(batch).sum(dim=1)
        labels = batch.get("labels") if self.args.needs_masked_tokens else None
        if labels is None and self.args.needs_masked_tokens:
            raise ValueError("the losses need masked tokens, but the data_collator gives no labels; leave it out, or mask in it")
        masked = torch.zeros_like(tokens) if labels is None else (labels != -100).sum(dim=1)
        compared = torch.full_like(tokens, len(tokens) >= FEWEST_COMPARED)
        return torch.stack([masked, tokens, torch.ones_like(tokens), compared], dim=1)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted sum of the losses: their sums over a batch, divided by the counts of the optimiser step."""
        if num_items_in_batch is None:
            num_items_in_batch = self._get_num_items_in_batch([inputs], self.args.device)
        outputs = self._run_student(model, inputs)
        sums = outputs if model.training else outputs[:, : len(self._weights)].sum(dim=0)
        # Processes average their gradients; the counts are sums over processes.
        losses = sums / self._divisors(num_items_in_batch) * self.accelerator.num_processes
        if model.training:
            self._add_to_log(losses)
        loss = (self._weights * losses).sum()
        return (loss, outputs) if return_outputs else loss

    def _run_student(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        self.start_projections()
        mask = token_mask(inputs)
        labels = inputs["labels"] if "labels" in inputs else torch.full_like(inputs["input_ids"], -100)
        inputs = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        teacher = Observed()
        if self.teacher_model is not None:
            with torch.no_grad(), self.accelerator.autocast():
                teacher = observe(self.teacher_model, self._wanted_of_teacher, **inputs)
        return model(**inputs, losses=self._losses, batch={"teacher": teacher, "labels": labels, "mask": mask})

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """What `evaluate` and `predict` go through: with the same masks in each, and a training goes on as without."""
        collator: Any = self.data_collator
        epoch = getattr(collator, "epoch", None)
        if epoch is not None:
            collator.epoch = 0
        try:
            with torch.random.fork_rng(devices=[]):  # a data loader draws a seed, which would change the dropout after it
                return super().evaluation_loop(*args, **kwargs)
        finally:
            if epoch is not None:
                collator.epoch = epoch

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """The sums and counts of a batch's rows, in place of predictions and labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            outputs = self._run_student(model, inputs)
        return None, outputs, self._row_counts(inputs)  # _evaluation_metrics divides, once

    def _evaluation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        sums = np.asarray(prediction.predictions, dtype=np.float64).sum(axis=0)
        counts = torch.as_tensor(prediction.label_ids).sum(dim=0)
        losses = sums[: len(self._weights)] / self._divisors(counts).cpu().numpy()
        metrics = {"loss": float((self._weights.cpu().numpy() * losses).sum())}
        if "mlm" in self.args.loss_weights:
            metrics["mlm_accuracy"] = float(sums[-1] / max(1, counts[0]))
        return metrics | self._by_name(losses.tolist())

    def _by_name(self, losses: list[float]) -> dict[str, float]:
        return {f"{name}_loss": loss for name, loss in zip(self.args.loss_weights, losses, strict=True)}

    def _divisors(self, counts: torch.Tensor) -> torch.Tensor:
        """What the sum of each loss is divided by, from what is [`COUNTED`]: shape `(losses,)`."""
        divisors = []
        for name in self.args.loss_weights:
            units = counts[COUNTED.index(unit_of(name, self.args.distillation_positions))].clamp(min=1)
            divisors.append(units * self._vocab_size if LOSSES[name].over_vocabulary else units)
        return torch.stack(divisors)

    def _add_to_log(self, losses: torch.Tensor) -> None:
        if self._logged_from is None:
            self._logged_from = self.state.global_step
        self._logged_losses += losses.detach()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and with the training loss each of its parts."""
        if "loss" in logs and self._logged_from is not None:
            steps = max(1, self.state.global_step - self._logged_from)
            means = self.accelerator.reduce(self._logged_losses, reduction="mean") / steps
            logs |= {name: round(value, 6) for name, value in self._by_name(means.tolist()).items()}
            self._logged_losses.zero_()
            self._logged_from = None
        super().log(logs, start_time)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> Any:
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise ValueError("all weights of the student are frozen: nothing would be trained")
        self._logged_losses.zero_()  # what an earlier training had not logged yet is not of this one
        self._logged_from = None
        return super()._inner_training_loop(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if not all(gathered(parameter.detach().isfinite().all()) for parameter in self.model.parameters()):
            self._stop("a weight is not finite", self.state.global_step)
        super()._save_checkpoint(model, trial)
