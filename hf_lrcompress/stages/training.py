"""The training that stages share: its arguments, its checkpoints."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.machine import computes_in_bf16

OWNED_BY_THE_STAGE = ("output_dir", "do_train", "resume_from_checkpoint", "seed", "push_to_hub")


def training_arguments(settings: Mapping[str, Any], output_dir: str, seed: int) -> DistillationConfig:
    """Training arguments from a configuration's `training` section.

    Where `bf16` and `fp16` are not set, bf16 is used if the hardware computes in it.

    Raises:
        ValueError: If a key is unknown or belongs to the stage, or a value is out of range.
    """
    known = {field.name: field.default for field in fields(DistillationConfig) if field.name not in OWNED_BY_THE_STAGE}
    for key, value in settings.items():
        if key not in known:
            raise ValueError(f"unknown training argument {key!r}; see transformers.TrainingArguments and DistillationConfig")
        _check_type(key, value, known[key])
    precision = {} if "bf16" in settings or "fp16" in settings else {"bf16": computes_in_bf16()}
    defaults = {
        "save_total_limit": 1,
        "logging_steps": 50,
        "report_to": "none",
        "run_name": Path(output_dir).resolve().name,
        "project": Path(output_dir).resolve().parent.name,
        "trackio_space_id": None,  # as in transformers 5: 4 would put a Space on the Hub that nobody asked for
        "disable_tqdm": False,
        "use_cpu": not torch.accelerator.is_available(),
    }
    try:
        return DistillationConfig(output_dir=output_dir, seed=seed, **(defaults | precision | dict(settings)))
    except TypeError as error:
        raise ValueError(f"training: {error}") from error


def _check_type(key: str, value: Any, default: Any) -> None:
    """A number or a switch must be one: YAML has `no` as text, which would count as true or fail much later."""
    wanted = {bool: bool, int: int, float: int | float}.get(type(default))
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
        name = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise ValueError(f"training: {key} must be {name}, got {value!r}")
    if key in ("per_device_train_batch_size", "gradient_accumulation_steps") and value < 1:
        raise ValueError(f"training: {key} must be 1 or more, got {value}")


def _end_wandb_run() -> None:
    """The Trainer leaves a wandb run open, and the next stage would go on in it. TensorBoard and trackio it closes itself."""
    wandb = sys.modules.get("wandb")
    if wandb and wandb.run:
        wandb.finish()


def _last_checkpoint(stage_dir: Path) -> str | None:
    """The newest checkpoint that was written whole: its trainer state is written last."""
    whole = [path.parent for path in stage_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None
