"""A Trainer's part that finds batches which the memory is enough for."""

import logging
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache
from transformers import PreTrainedModel, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.training_memory import BatchTooLarge, smaller_batches_advised

logger = logging.getLogger(__name__)


class BatchFindingTrainer(Trainer):
    """A Trainer whose `auto_find_batch_size` leaves a step as large as it was.

    The Trainer's own takes fewer examples a step than were asked for, and goes on with weights that have begun to learn. Here a
    batch that does not fit into the first step gives way to half of it, accumulated twice as often. After that step, and in
    several processes, a smaller one is only advised.
    """

    args: DistillationConfig
    model: PreTrainedModel
    _first_step: int | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Train; see [`~transformers.Trainer.train`]. A batch that does not fit ends it with advice, or gives way to another."""
        finds = self.args.auto_find_batch_size and self.accelerator.num_processes == 1 and not self.is_deepspeed_enabled
        self._first_step = None
        while True:
            try:
                with smaller_batches_advised(self.args):
                    return super().train(resume_from_checkpoint, *args, **kwargs)
            except BatchTooLarge as error:
                if not finds or not error.batch_size or self._has_stepped():
                    raise
                logger.warning("%s: begun again with them", error)
                self._take_batches_of(error.batch_size)
            self.model.zero_grad()  # nothing was learnt before the first step
            clear_device_cache(garbage_collection=True)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As the Trainer's; the first leaves room for what AdamW keeps of every weight from then on."""
        step = self.state.global_step
        if self._first_step is None:
            self._first_step = step
        moments = 2 * self.get_num_trainable_parameters() if self.args.auto_find_batch_size and step == 0 else 0
        room = torch.empty(moments, device=self.args.device)
        loss = super().training_step(*args, **kwargs)
        del room
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's; while training, batches that do not fit are those of the training."""
        if not self.is_in_train:
            return super().evaluate(*args, **kwargs)
        with smaller_batches_advised(self.args):
            return super().evaluate(*args, **kwargs)

    def _inner_training_loop(
        self, batch_size: Any = None, args: Any = None, resume_from_checkpoint: Any = None, *others: Any, **named: Any
    ) -> Any:
        if resume_from_checkpoint and self.args.auto_find_batch_size:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
            self._take_batches_of(state.train_batch_size or 0)  # the order of the examples depends on it
        # Else not the checkpoint's: there may be more or fewer processes now.
        batch_size = self.args.train_batch_size
        with smaller_batches_advised(self.args):  # what calls this would go on with any batch
            return super()._inner_training_loop(batch_size, args, resume_from_checkpoint, *others, **named)

    def _has_stepped(self) -> bool:
        return self._first_step is not None and self.state.global_step > self._first_step

    def _take_batches_of(self, size: int) -> None:
        """Take smaller batches, if they make up the same step."""
        step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        if 0 < size < self.args.per_device_train_batch_size and step % size == 0:
            self.args.gradient_accumulation_steps = step // size
            self.args.per_device_train_batch_size = size
            self.args.per_device_eval_batch_size = min(size, self.args.per_device_eval_batch_size)
