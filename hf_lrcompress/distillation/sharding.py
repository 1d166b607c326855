"""Fully sharded training (FSDP 2) whose checkpoints are those of an unsharded run."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel, Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.models.architectures import layers_of


class ShardingTrainer(Trainer):
    """A Trainer that shards its model where accelerate's configuration asks for FSDP 2, and saves it whole.

    Checkpoints have the files of an unsharded run, so that either resumes the other. The Trainer's own can be read by FSDP only.
    """

    model: PreTrainedModel
    args: DistillationConfig
    optimizer: torch.optim.Optimizer
    lr_scheduler: Any
    _sharded = False

    def shard_if_asked(self) -> None:
        """Shard the model. To be called at the end of `__init__`, when the model is as it will be trained."""
        if not self.is_fsdp_enabled:
            return
        plugin = self.accelerator.state.fsdp_plugin
        if plugin.fsdp_version != 2:
            raise ValueError("FSDP 1 keeps the output layer from the loss; set fsdp_version: 2 in accelerate's configuration")
        shard(self.model, cpu_offload=isinstance(plugin.cpu_offload, CPUOffloadPolicy))
        self._sharded = True
        self.is_fsdp_enabled = False

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, whole, and the tokenizer, from the main process. All processes must call it."""
        if not self._sharded:
            return super().save_model(output_dir, _internal_call)
        state = whole_state(self.model)  # all processes gather
        if self.args.should_save:
            self._save(output_dir or self.args.output_dir, state_dict=state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._sharded:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        load_whole_model(self.model, load_file(Path(resume_from_checkpoint) / SAFE_WEIGHTS_NAME))

    def _load_best_model(self) -> None:
        if not self._sharded:
            return super()._load_best_model()
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._sharded:
            return super()._save_optimizer_and_scheduler(output_dir)
        state = gathered(self.optimizer.state_dict())  # all processes gather
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_deepspeed_enabled or not (Path(checkpoint) / OPTIMIZER_NAME).is_file():
            return super()._load_optimizer_and_scheduler(checkpoint)
        # Unsharded too: the Trainer cannot load on the CPU where there are several processes (torch.load to "cpu:0").
        load_whole_optimizer(self.optimizer, _load(Path(checkpoint) / OPTIMIZER_NAME))
        self.lr_scheduler.load_state_dict(_load(Path(checkpoint) / SCHEDULER_NAME))


def shard(model: PreTrainedModel, cpu_offload: bool = False) -> None:
    """Shard `model` in place over all processes: each layer is a unit, and embeddings and head one with the rest of the model.

    So the output layer's weight is whole while the student's forward makes its losses. Weights are gathered in fp32 and autocast
    does the rest.
    """
    policy = CPUOffloadPolicy() if cpu_offload else OffloadPolicy()
    for layer in layers_of(model):
        fully_shard(layer, offload_policy=policy)
    fully_shard(model, offload_policy=policy)


def gathered(value: Any) -> Any:
    """`value` with every sharded tensor inside whole and on the CPU. All processes must call it."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: gathered(inner) for key, inner in value.items()}
    return [gathered(inner) for inner in value] if isinstance(value, list) else value


def whole_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a sharded model as whole tensors; tied weights stay one tensor. All processes must call it."""
    made: dict[int, torch.Tensor] = {}
    state = model.state_dict(keep_vars=True)
    for tensor in state.values():
        if id(tensor) not in made:
            made[id(tensor)] = gathered(tensor.detach())
    return {name: made[id(tensor)] for name, tensor in state.items()}


def load_whole_model(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load whole tensors into a module that is sharded, or not.

    Raises:
        ValueError: If a tensor is missing that the model would save; a file holds tied weights under one of their names.
    """
    own = model.state_dict(keep_vars=True)
    model.load_state_dict({name: _sharded_like(own[name], tensor) for name, tensor in state.items()}, strict=False)
    loaded = {id(own[name]) for name in state}
    elsewhere = getattr(model, "_keys_to_ignore_on_save", None) or ()  # not in this file
    missing = [name for name, tensor in own.items() if id(tensor) not in loaded and name not in elsewhere]
    if missing:
        raise ValueError(f"the checkpoint lacks {len(missing)} weights, such as {missing[0]}")


def load_whole_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an unsharded optimiser's state, into the optimiser of a sharded model or of a whole one."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sharded = {index: _sharded_moments(parameters[index], moments) for index, moments in state["state"].items()}
    optimizer.load_state_dict(state | {"state": sharded})


def _sharded_moments(parameter: torch.Tensor, moments: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state of one parameter, sharded as that is; numbers and counts of steps stay as they are."""
    sharded = dict(moments)
    for name, value in moments.items():
        if torch.is_tensor(value) and value.ndim:
            sharded[name] = _sharded_like(parameter, value)
    return sharded


def _sharded_like(target: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    if not isinstance(target, DTensor):
        return whole
    return distribute_tensor(whole.to(target.device), target.device_mesh, target.placements)


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
