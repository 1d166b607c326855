"""A Trainer's part that starts, saves and loads the projections between hidden states."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import IterableDataset
from transformers import PreTrainedModel

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.loss_table import LOSSES, compared_depths, that_need
from hf_lrcompress.distillation.observing import Wanted, base_model_outputs, hidden_states_of, identity_output_layer, observe
from hf_lrcompress.distillation.projections import (
    TOKENS_PER_DIMENSION,
    StateMoments,
    StateProjections,
    least_squares_start,
    part_of,
    same_relative_depth,
)
from hf_lrcompress.distillation.sharding import ShardingTrainer, load_whole_model, whole_state
from hf_lrcompress.models.eval_mode import in_eval_mode

PROJECTIONS_FILE = "projections.safetensors"


def token_mask(inputs: dict[str, Any]) -> torch.Tensor:
    """False at padding: shape `(batch, sequence)`."""
    mask = inputs.get("attention_mask")
    return torch.ones_like(inputs["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def projections_between(student: PreTrainedModel, teacher: PreTrainedModel, args: DistillationConfig) -> StateProjections | None:
    """A projection for each hidden state that the losses compare: all, or the last where only sentences are compared."""
    names = that_need("hidden_states", args.loss_weights)
    layers = student.config.num_hidden_layers
    depths = compared_depths(names, layers)
    if not depths:
        return None
    states = tuple(range(layers + 1))[-depths:]
    targets = tuple(args.hidden_layers or same_relative_depth(layers, teacher.config.num_hidden_layers))[-depths:]
    projections = StateProjections(states, targets, student.config.hidden_size, teacher.config.hidden_size)
    projections.requires_grad_(any(LOSSES[name].projects for name in names))
    return projections.to(student.device, student.dtype)


class ProjectingTrainer(ShardingTrainer):
    """A Trainer of a student whose hidden states are compared with a teacher's through [`StateProjections`].

    They start as the least-squares maps on examples of the training data, chosen by the seed: the same ones in every process.
    """

    train_dataset: Any
    teacher_model: PreTrainedModel | None
    projections: StateProjections | None = None
    _projections_started = False

    def start_projections(self) -> None:
        """Compute the least-squares maps, unless they have been computed or loaded.

        Raises:
            ValueError: If there is no training data to compute them from.
        """
        if self.projections is None or self._projections_started:
            return
        if self.train_dataset is None:
            raise ValueError("the projections of hidden states start from training data: give a train_dataset")
        with in_eval_mode(self.model):
            state = least_squares_start(self._moments())
        state = {name: tensor.to(self.args.device) for name, tensor in state.items()}
        load_whole_model(self.projections, broadcast(state))
        self._projections_started = True

    def _moments(self) -> list[StateMoments]:
        assert self.projections is not None  # see start_projections
        assert self.teacher_model is not None
        size = self.model.config.hidden_size
        moments = [StateMoments(size) for _ in self.projections.student_states]
        wanted = Wanted(hidden_states=self.projections.teacher_states)
        for inputs in self._first_batches():
            mask = token_mask(inputs)
            with torch.no_grad(), self.accelerator.autocast():
                targets = observe(self.teacher_model, wanted, **inputs).hidden_states
                states = self._student_states(inputs)
            for each, state, target in zip(moments, states, targets, strict=True):
                each.add(state[mask], target[mask])
            if moments[0].count >= TOKENS_PER_DIMENSION * size:
                break
        if not moments[0].count:
            raise ValueError("the train_dataset has no examples")
        return moments

    def _student_states(self, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """The student's hidden states, by a call of the whole model: that is where FSDP gathers its weights."""
        assert self.projections is not None
        with identity_output_layer(self.model), base_model_outputs(self.model) as encoded:
            self.model(**inputs, output_hidden_states=True)
        return hidden_states_of(encoded[0], self.projections.student_states)

    def _first_batches(self) -> Iterator[dict[str, Any]]:
        """Batches of the training data, shuffled by the seed, the same whatever the number of processes."""
        collate = self._get_collator_with_removed_columns(self.data_collator, description="training")
        if isinstance(self.train_dataset, IterableDataset):
            examples = iter(self.train_dataset)
        else:
            order = torch.randperm(len(self.train_dataset), generator=torch.Generator().manual_seed(self.args.seed))
            examples = (self.train_dataset[i] for i in order.tolist())
        while batch := list(islice(examples, self.args.per_device_train_batch_size)):
            inputs = self._prepare_inputs(collate(batch))
            inputs.pop("labels", None)
            yield inputs

    def create_optimizer(self, *args: Any) -> torch.optim.Optimizer:
        """The Trainer's optimiser, with the projections among its parameters.

        Raises:
            ValueError: If it was given, or made before, without them.
        """
        with part_of(self.model, self.projections):
            optimizer = super().create_optimizer(*args)
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        held |= {id(parameter) for parameter in getattr(optimizer, "optimizer_dict", None) or ()}  # of an optimizer for each
        trained = [parameter for parameter in (self.projections or nn.Module()).parameters() if parameter.requires_grad]
        if any(id(parameter) not in held for parameter in trained):
            raise ValueError(
                f"{', '.join(that_need('hidden_states', self.args.loss_weights))}: the optimizer does not train the projections; "
                "let the Trainer make one (optim), or add trainer.projections to it as parameters"
            )
        return optimizer

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train, from the beginning, from a checkpoint or on from where the last call ended, as the Trainer does."""
        if not resume_from_checkpoint:
            self.start_projections()
        elif self.is_deepspeed_enabled:
            self._projections_started = True  # by what it loads itself
        with part_of(self.model, self.projections):
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.projections is not None and not self.is_deepspeed_enabled:  # DeepSpeed's own files have them
            state = whole_state(self.projections)  # all processes gather
            if self.args.should_save:
                save_file(state, Path(output_dir) / PROJECTIONS_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_projections(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if not self.args.save_only_model and not self.is_deepspeed_enabled:
            self._load_projections(str(self.state.best_model_checkpoint))

    def _load_projections(self, checkpoint: str) -> None:
        if self.projections is None:
            return
        file = Path(checkpoint) / PROJECTIONS_FILE
        if not file.is_file():
            why = "it was saved with other losses, or with save_only_model"
            raise ValueError(f"{checkpoint} has no {PROJECTIONS_FILE}: {why}; train again from the beginning")
        load_whole_model(self.projections, load_file(file))
        self._projections_started = True
