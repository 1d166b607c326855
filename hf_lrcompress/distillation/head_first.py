"""Training a head that is new before the encoder under it moves."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, get_scheduler

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.sharding import ShardingTrainer

logger = logging.getLogger(__name__)


class HeadFirstTrainer(ShardingTrainer):
    """A Trainer whose encoder stands still for the first `args.head_steps` steps.

    The parameters outside of the base model follow the schedule of the whole run. Those of the base model, tied embeddings among
    them, have learning rate 0 for `head_steps` steps and then follow the schedule, warm-up included, of a run that begins there.
    """

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        """The Trainer's optimiser, its groups of parameters split into those of the encoder and the others."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(*args)
        if self.args.head_steps and is_new:
            optimizer.param_groups[:] = _split_groups(optimizer.param_groups, _encoder_parameters(self.model))
        elif self.args.head_steps and any("encoder" not in group for group in optimizer.param_groups):
            raise ValueError("head_steps needs an optimizer that the Trainer makes; give none, or set head_steps=0")
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the configuration; the encoder's begins after `head_steps`."""
        if self.lr_scheduler is None:
            self._warn_of_few(num_training_steps)
        if not self.args.head_steps or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        head = self._schedule(num_training_steps)
        encoder = partial(_delayed, self._schedule(max(1, num_training_steps - self.args.head_steps)), self.args.head_steps)
        optimizer = self.optimizer if optimizer is None else optimizer
        optimizer = getattr(optimizer, "optimizer", optimizer)  # without accelerate's wrapper
        self.lr_scheduler = LambdaLR(optimizer, [encoder if group["encoder"] else head for group in optimizer.param_groups])
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _warn_of_few(self, steps: int) -> None:
        """Say what so few steps leave undone."""
        if still := never_trained(self.args, steps):
            logger.warning("%s", still)
        warmup = self.args.get_warmup_steps(steps)
        if warmup >= steps:
            rising = f"the warm-up is {warmup} steps, the whole training {steps}: the learning rate only rises"
            logger.warning("%s; set warmup_steps to a tenth of it, or give more text", rising)

    def _schedule(self, steps: int) -> Callable[[int], float]:
        """The learning rate's factor by step, in a run of so many steps."""
        kwargs: Any = self.args.lr_scheduler_kwargs  # a mapping: the Trainer has parsed it
        scheduler = get_scheduler(
            self.args.lr_scheduler_type,
            torch.optim.SGD([torch.zeros(1)], lr=1.0),
            num_warmup_steps=self.args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=kwargs,
        )
        if not isinstance(scheduler, LambdaLR):
            raise ValueError(f"head_steps needs a schedule that depends on the step alone, not {self.args.lr_scheduler_type}")
        return scheduler.lr_lambdas[0]


def never_trained(args: DistillationConfig, steps: int) -> str | None:
    """Says that the encoder would stand still in all of so many steps; `None` where it would not."""
    if not args.head_steps or args.head_steps < steps:
        return None
    return f"head_steps={args.head_steps}, but the training has {steps} steps: the encoder is never trained"


def _delayed(schedule: Callable[[int], float], by: int, step: int) -> float:
    return schedule(step - by) if step >= by else 0.0


def _encoder_parameters(model: PreTrainedModel) -> set[int]:
    return {id(parameter) for parameter in model.base_model.parameters()}


def _split_groups(groups: list[dict[str, Any]], encoder: set[int]) -> list[dict[str, Any]]:
    """Each group as two: of the encoder, and not."""
    split = []
    for group in groups:
        for of_encoder in (True, False):
            parameters = [parameter for parameter in group["params"] if (id(parameter) in encoder) == of_encoder]
            split.append(group | {"params": parameters, "encoder": of_encoder})
    return split
