"""Importance of feed-forward neurons, from the gradients of a loss."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.sharding import gathered
from hf_lrcompress.distillation.trainer import DistillationTrainer
from hf_lrcompress.models.architectures import disable_dropout, ffn_inputs_of, intermediate_size_of
from hf_lrcompress.models.eval_mode import mode_kept

SCORES_FILE = "importance_scores.safetensors"
LEFT_BEHIND = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_MIXED_PRECISION")
"""Variables by which settings reach every training of a process."""


class GradientImportanceCallback(TrainerCallback):
    r"""Accumulates the first-order importance of every feed-forward neuron in any [`~transformers.Trainer`].

    For neuron *i* with input weights w_i and bias b_i the score is Σ over optimiser steps of |w_i · ∂L/∂w_i + b_i ∂L/∂b_i|, in
    fp32: to first order, how much the loss changes when the neuron is removed (Molchanov et al. 2017; arXiv 2505.16956, section
    3.2). Where there is a gate, a neuron owns a row of it too, fused or not. Gradients must be those of one batch: use
    `gradient_accumulation_steps=1` and `max_grad_norm=0`. [`score_neurons`] runs a pass with all the settings it needs.

    The scores are saved with each checkpoint and read again on resuming.

    Attributes:
        scores (`torch.FloatTensor` of shape `(num_hidden_layers, intermediate_size)`): Zeros until the first step.

    Raises:
        ValueError: When training begins with gradient accumulation, clipping, an fp16 loss scaler or DeepSpeed.
        FileNotFoundError: When it resumes in another `output_dir`, or from a checkpoint without scores.
    """

    def __init__(self) -> None:
        self.scores = torch.zeros(0, 0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Refuse settings that would bend the scores, and begin with zeros or a checkpoint's."""
        if args.gradient_accumulation_steps != 1 or args.max_grad_norm or args.fp16 or args.deepspeed_plugin:
            raise ValueError(
                "importance needs the gradients of single batches: "
                "set gradient_accumulation_steps=1, max_grad_norm=0 and fp16=False, and launch without DeepSpeed"
            )
        model = kwargs["model"]
        for layer, linears in enumerate(ffn_inputs_of(model)):
            if not all(parameter.requires_grad for linear in linears for parameter in linear.parameters()):
                raise ValueError(f"importance needs gradients: the feed-forward network of layer {layer} is frozen, thaw it")
        self.scores = torch.zeros(len(ffn_inputs_of(model)), intermediate_size_of(model.config))
        if state.global_step:
            saved = Path(f"{args.output_dir}/checkpoint-{state.global_step}") / SCORES_FILE
            if not saved.is_file():
                raise FileNotFoundError(f"{saved} does not exist: resume importance with it, in the output_dir that it began in")
            self.scores = load_file(saved)["scores"]

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the first-order terms of a step's gradients."""
        for layer, linears in enumerate(ffn_inputs_of(kwargs["model"])):
            terms = [_first_order_terms(linear, self.scores.shape[1]) for linear in linears]
            self.scores[layer] += torch.stack(terms).sum(dim=0).abs().cpu()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save the scores with a checkpoint."""
        if state.is_world_process_zero:
            checkpoint = Path(f"{args.output_dir}/checkpoint-{state.global_step}")
            save_file({"scores": self.scores}, checkpoint / SCORES_FILE)


def score_neurons(
    model: PreTrainedModel,
    dataset: Dataset,
    processing_class: Any,
    batch_size: int = 8,
    seed: int = 42,
    bf16: bool = False,
    losses: Mapping[str, float] | None = None,
    teacher: PreTrainedModel | None = None,
    **arguments: Any,
) -> torch.Tensor:
    """Score every feed-forward neuron by its importance for a loss on `dataset`, masked LM as in the paper by default, one pass.

    The weights are not changed (learning rate 0), but dropout stays off in `model` afterwards, and under FSDP it stays sharded:
    score a model that is not used further, or a copy.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with a masked-LM head where a loss needs logits.
        dataset (`Dataset`): Examples with `input_ids` and `attention_mask`; the paper uses validation data.
        processing_class ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer; for masked LM it masks 15 % of the tokens.
        batch_size (`int`, *optional*, defaults to 8): Examples a step and process.
        seed (`int`, *optional*, defaults to 42): Seeds the masking.
        bf16 (`bool`, *optional*, defaults to `False`): Use bf16 autocast.
        losses (`Mapping[str, float]`, *optional*):
            The loss that is distilled, as in [`DistillationConfig`]; by default `{mlm: 1}`.
        teacher ([`~transformers.PreTrainedModel`], *optional*):
            What such a loss compares `model` with, in eval mode. It must compute something else than `model`: where outputs are
            equal most losses have no gradient, and no neuron would count.
        arguments: Further arguments of the losses, as [`DistillationConfig`] has them, such as `temperature`.

    Returns:
        `torch.FloatTensor` of shape `(num_hidden_layers, intermediate_size)`.

    Raises:
        ValueError: If the losses need a teacher or a head that is not there.
    """
    set_seed(seed)
    disable_dropout(model)
    callback = GradientImportanceCallback()
    with tempfile.TemporaryDirectory() as output_dir, _own_settings(), mode_kept(model):
        args = DistillationConfig(
            output_dir=output_dir,
            losses={"mlm": 1.0} if losses is None else dict(losses),
            learning_rate=0.0,
            optim="sgd",
            max_grad_norm=0.0,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            save_strategy="no",
            report_to="none",
            seed=seed,
            bf16=bf16,
            use_cpu=not torch.accelerator.is_available(),  # bf16 on a CPU must be asked for so
            **arguments,
        )
        trainer = _Scoring(
            model, args, teacher_model=teacher, train_dataset=dataset, processing_class=processing_class, callbacks=[callback]
        )
        trainer.train()
    return callback.scores


class _Scoring(DistillationTrainer):
    """A pass that changes no weight."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Say nothing: its `train_loss` would read like that of a training."""


@contextmanager
def _own_settings() -> Iterator[None]:
    """Leave the launcher's and other trainings' settings as they are, and do without two of them.

    DeepSpeed takes the optimiser step before anyone can read the gradients: plain DDP does not. The precision of a training that
    was before is left in the environment (transformers 4), and this one's would be.
    """
    given = {name: os.environ.pop(name) for name in LEFT_BEHIND if name in os.environ}
    try:
        yield
    finally:
        for name in LEFT_BEHIND:
            os.environ.pop(name, None)
        os.environ.update(given)


def _first_order_terms(linear: nn.Linear, intermediate_size: int) -> torch.Tensor:
    """Each neuron's w · ∂L/∂w + b ∂L/∂b: shape `(intermediate_size,)`."""
    terms = (gathered(linear.weight.detach()).float() * gathered(linear.weight.grad).float()).sum(dim=1)
    if linear.bias is not None:
        terms += gathered(linear.bias.detach()).float() * gathered(linear.bias.grad).float()
    return terms.view(-1, intermediate_size).sum(dim=0)
