"""A Trainer's part that finds batches which the memory is enough for."""

import logging
from typing import Any

from accelerate.utils.memory import clear_device_cache
from transformers import PreTrainedModel, Trainer

from hf_lrcompress.distillation.config import DistillationConfig
from hf_lrcompress.distillation.training_memory import BatchTooLarge, smaller_batches_advised

logger = logging.getLogger(__name__)


class BatchFindingTrainer(Trainer):
    """A Trainer whose `auto_find_batch_size` leaves a step as large as it was.

    The Trainer's own takes fewer examples a step than were asked for, and goes on with the weights as they are by then. Here a
    batch that does not fit gives way to half of it, accumulated twice as often, and the training begins again where it began.
    That is tried in one process, with an optimizer that the Trainer makes; elsewhere the batch is only advised.
    """

    args: DistillationConfig
    model: PreTrainedModel

    def _inner_training_loop(self, batch_size: Any = None, args: Any = None, *others: Any, **named: Any) -> Any:
        is_alone = self.accelerator.num_processes == 1 and self.optimizer is None and self.lr_scheduler is None
        if not (self.args.auto_find_batch_size and is_alone):
            return self._train_in_batches(args, *others, **named)
        begun_with = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        while True:
            try:
                return self._train_in_batches(args, *others, **named)
            except BatchTooLarge as error:
                if not error.batch_size:
                    raise
                logger.warning("%s: begun again with them", error)
                self._take_batches_of(error.batch_size)
            clear_device_cache(garbage_collection=True)  # the error is gone, and with it what its frames held
            self.model.load_state_dict(begun_with)
            self.forget_training()

    def _train_in_batches(self, args: Any, *others: Any, **named: Any) -> Any:
        """Train with the batches of the arguments, not of the checkpoint: there may be more or fewer processes now."""
        with smaller_batches_advised(self.args):
            return super()._inner_training_loop(self.args.train_batch_size, args, *others, **named)

    def _take_batches_of(self, size: int) -> None:
        examples = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        self.args.gradient_accumulation_steps = examples // size
        self.args.per_device_train_batch_size = size
        self.args.per_device_eval_batch_size = min(size, self.args.per_device_eval_batch_size)

    def forget_training(self) -> None:
        """Forget what a training left that did not end."""
        self.optimizer = None
        self.lr_scheduler = None
