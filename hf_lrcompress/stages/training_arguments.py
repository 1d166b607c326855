"""Training arguments as a configuration has them: which are known, which change a result, and what they are made into."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import READ_BY_LOSSES
from hf_lrcompress.machine import computes_in_bf16
from hf_lrcompress.messages import shown

OWNED_BY_THE_STAGE = {
    "output_dir": "a stage trains in its own folder",
    "do_train": "leave a stage out of `stages`, or give it distil: false",
    "resume_from_checkpoint": "a stage goes on from its last checkpoint by itself",
    "save_only_model": "a stage goes on from its checkpoints, which need the optimiser",
    "seed": "give seed at the top of the configuration, or --set seed=42",
}
"""Training arguments that are no settings, and what to do instead."""
OF_THE_HUB = ("hub_", "push_to_hub")
"""How the names of training arguments begin that publish checkpoints; one of them is an access token."""
LOSS_ARGUMENTS = READ_BY_LOSSES | {"losses", "alpha", "distillation_loss"}
"""Training arguments that say what is distilled."""
WITHOUT_EFFECT = frozenset(
    {
        "logging_steps",
        "logging_strategy",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "eval_steps",
        "eval_strategy",
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "logging_dir",
        "disable_tqdm",
        "auto_find_batch_size",
        "dataloader_num_workers",
        "per_device_eval_batch_size",
    }
)
"""Training arguments that do not change the result: a stage made with other values of them is kept."""

EVALUATING = frozenset({"save_steps", "save_strategy", "eval_steps", "eval_strategy", "per_device_eval_batch_size"})
"""Of these, what decides where evaluations choose the weights or the learning rate."""

COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
"""What must be 1 or more."""

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping", list: "a list"}
"""The types that YAML has, in words."""

FOLLOWING = ("reduce_lr_on_plateau", "greedy")
"""Schedules of the learning rate that follow the evaluations."""


def with_effect(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those training arguments that change the result.

    Args:
        settings (`Mapping`): Training arguments by name.
    """
    chooses = settings.get("load_best_model_at_end") or settings.get("lr_scheduler_type") in FOLLOWING
    ignored = WITHOUT_EFFECT - EVALUATING if chooses else WITHOUT_EFFECT
    return {key: value for key, value in settings.items() if key not in ignored}


def training_arguments(settings: Mapping[str, Any], output_dir: str, seed: int) -> DistillationConfig:
    """Training arguments from a configuration's `training` section.

    Where `bf16` and `fp16` are not set, bf16 is used if the hardware computes in it. Evaluations have batches as large as the
    training's where nothing else is said: a loss of states costs by the batch, and what fits for training fits for them.

    Args:
        settings (`Mapping`): Training arguments by name.
        output_dir (`str`): Where checkpoints go.
        seed (`int`): Seeds the order of the examples, the masking and the dropout.

    Raises:
        ValueError: If a key is unknown or belongs to the stage, or a value is out of range.
    """
    hints = get_type_hints(DistillationConfig)
    known = {field.name: hints[field.name] for field in fields(DistillationConfig) if field.name not in OWNED_BY_THE_STAGE}
    for key, value in settings.items():
        if key.startswith(OF_THE_HUB):
            raise ValueError(f"training: {key} is no setting; publish with --push_to_hub, and log in with hf auth login")
        if key in OWNED_BY_THE_STAGE:
            raise ValueError(f"training: {key} is no setting; {OWNED_BY_THE_STAGE[key]}")
        if key not in known:
            close = difflib.get_close_matches(str(key)[:40], known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see transformers.TrainingArguments and DistillationConfig"
            raise ValueError(f"unknown training argument {key!r}; {hint}")
        _check_type(key, value, known[key])
    precision = {} if settings.keys() & {"bf16", "fp16"} else {"bf16": computes_in_bf16()}
    directory = Path(output_dir).resolve()
    defaults: dict[str, Any] = {
        "save_total_limit": 1,
        "logging_steps": 50,
        "report_to": "none",
        "run_name": directory.name,
        "project": directory.parent.name,
        "trackio_space_id": None,  # as in transformers 5: 4 would put a Space on the Hub that nobody asked for
        "disable_tqdm": False,
        "use_cpu": not torch.accelerator.is_available(),
    }
    if "per_device_train_batch_size" in settings:
        defaults["per_device_eval_batch_size"] = settings["per_device_train_batch_size"]
    try:
        return DistillationConfig(output_dir=output_dir, seed=seed, **(defaults | precision | dict(settings)))
    except TypeError as error:
        raise ValueError(f"training: {error}") from error


def _check_type(key: str, value: Any, hint: Any) -> None:
    """Refuse a value of another type than an argument's: YAML has `no` as text, which would count as true or fail much later."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    allowed = {get_origin(kind) or kind for kind in kinds}
    is_checked = allowed <= KINDS.keys() | {NoneType}
    fits = type(value) in allowed or (type(value) is int and float in allowed)
    if is_checked and not fits:
        names = " or ".join(name for kind, name in KINDS.items() if kind in allowed)
        raise ValueError(f"training: {key} must be {names}, got {shown(value)}")
    if key in COUNTS and value < 1:
        raise ValueError(f"training: {key} must be 1 or more, got {value}")
