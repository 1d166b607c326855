"""Training on a stream, which has no length."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import Trainer
from transformers.trainer_utils import has_length


class EndlessStream(IterableDataset):
    """A stream that begins anew whenever it ends.

    The Trainer takes the end of a stream for the end of an epoch whose length it does not know: resumed in the second pass, it
    skips the batches of all passes, is at the end, and begins anew. In one long epoch it comes to the batch where it was. With
    several workers that is exact for a stream of one shard; shuffled by its epoch, workers may differ about which that is.

    Args:
        dataset (iterable of examples): The stream. What shuffles by its epoch does so anew in every pass.
        collator: What makes its batches; its `epoch`, if it has one, is set to the pass that an example is of.
    """

    def __init__(self, dataset: Any, collator: Any) -> None:
        self.dataset = dataset
        self.collator = collator

    def __iter__(self) -> Iterator[Any]:
        epoch = getattr(self.dataset, "_epoch", None)
        if get_worker_info() is not None and isinstance(epoch, torch.Tensor):
            self.dataset._epoch = epoch.clone()  # `datasets` shares it among the workers, who would set it all at once
        for number in count():
            if hasattr(self.dataset, "set_epoch"):
                self.dataset.set_epoch(number)
            if hasattr(self.collator, "epoch"):
                self.collator.epoch = number
            is_empty = True
            for example in self.dataset:
                is_empty = False
                yield example
            if is_empty:  # a worker of the loader that has no shard
                return


class StreamingTrainer(Trainer):
    """A Trainer for which a stream is one epoch of `max_steps`, whose end is that of the training."""

    def get_train_dataloader(self) -> DataLoader:
        """The loader of the training data; of a stream without a length one that never ends."""
        given = self.train_dataset
        if isinstance(given, IterableDataset) and not has_length(given):
            self.train_dataset = EndlessStream(given, self.data_collator)
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = given
