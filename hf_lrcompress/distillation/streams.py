"""Training on a stream, which has no length."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from torch.utils.data import IterableDataset


class EndlessStream(IterableDataset):
    """A stream that begins anew whenever it ends.

    The Trainer takes the end of a stream for the end of an epoch whose length it does not know: resumed in the second pass, it
    skips the batches of all passes, is at the end, and begins anew. In one long epoch it comes to the batch where it was.

    Args:
        dataset (iterable of examples): The stream. What shuffles by its epoch does so anew in every pass.
        collator: What makes its batches; its `epoch`, if it has one, is set to the pass that an example is of.
    """

    def __init__(self, dataset: Any, collator: Any) -> None:
        self.dataset = dataset
        self.collator = collator

    def __iter__(self) -> Iterator[Any]:
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


def without_end(dataset: Any, collator: Any) -> Any:
    """A stream as an [`EndlessStream`]; anything else as it is."""
    return EndlessStream(dataset, collator) if isinstance(dataset, IterableDataset) else dataset
