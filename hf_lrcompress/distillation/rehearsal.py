"""What a training makes of its arguments before its first step, tried before any work is done."""

import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.utils import is_liger_kernel_available

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.head_first import never_trained
from hf_lrcompress.files import nearest_existing
from hf_lrcompress.messages import shown

STEPS = 1000
WITHOUT_LIMIT = ("max_grad_norm",)
"""What infinity turns off."""
FROM_ZERO = ("dataloader_num_workers", "warmup_steps", "max_grad_norm")


def rehearse(args: DistillationConfig) -> None:
    """Make optimiser, schedule and loggers as a training would, for one parameter.

    Args:
        args ([`DistillationConfig`]): The training's arguments.

    Raises:
        ValueError: If the training would fail with them, or train nothing.
    """
    _check_numbers(args)
    if args.max_steps == 0:
        raise ValueError("max_steps is 0, so nothing would be trained; give more, or leave it out for num_train_epochs")
    if args.max_steps < 0 and args.num_train_epochs <= 0:
        raise ValueError(f"num_train_epochs is {args.num_train_epochs:g}, so nothing would be trained; give more, or max_steps")
    if args.max_steps > 0 and (still := never_trained(args, args.max_steps)):
        raise ValueError(f"{still}; give fewer head_steps, or more steps")
    if args.save_strategy == "best" and args.metric_for_best_model is None:
        raise ValueError("save_strategy best needs metric_for_best_model, such as eval_loss; or save by steps or epoch")
    if args.metric_for_best_model and args.metric_for_best_model.removeprefix("eval_") not in args.evaluated:
        asked_for = shown(args.metric_for_best_model)
        raise ValueError(f"metric_for_best_model must be one of {', '.join(args.evaluated)}, got {asked_for}")
    if args.use_liger_kernel and not is_liger_kernel_available():
        raise ValueError("use_liger_kernel needs the package liger-kernel; install it, or leave it out")
    try:
        _make_parts(args)
    except (ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        raise ValueError(f"the training cannot begin: {error}") from error
    log_dir = getattr(args, "logging_dir", None)
    if log_dir and "tensorboard" in (args.report_to or ()) and not _can_write(Path(log_dir)):
        raise ValueError(f"logging_dir {log_dir} cannot be written to; give another")


def _check_numbers(args: DistillationConfig) -> None:
    for field in fields(args):
        value = getattr(args, field.name)
        may_be_infinite = field.name in WITHOUT_LIMIT and value == math.inf
        if isinstance(value, float) and not math.isfinite(value) and not may_be_infinite:
            raise ValueError(f"{field.name} must be a finite number, got {value}")
    for name in FROM_ZERO:
        if getattr(args, name) < 0:
            raise ValueError(f"{name} must be 0 or more, got {getattr(args, name)}")


def _make_parts(args: DistillationConfig) -> None:
    network: Any = torch.nn.Linear(1, 1)  # no PreTrainedModel, which nothing here needs
    optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(args, network)
    optimizer: Any = optimizer_class(network.parameters(), **settings)
    settings_of_schedule: Any = args.lr_scheduler_kwargs
    get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=args.get_warmup_steps(STEPS),
        num_training_steps=STEPS,
        scheduler_specific_kwargs=settings_of_schedule,
    )
    for make_logger in get_reporting_integration_callbacks(args.report_to):
        make_logger()


def _can_write(folder: Path) -> bool:
    """Whether a folder can be made, if it is not there, and written to."""
    existing = nearest_existing(folder)
    return existing.is_dir() and os.access(existing, os.W_OK)
