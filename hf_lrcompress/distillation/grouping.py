"""Batches of examples of about one length: little of them is padding."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

BATCHES_AT_ONCE = 50
"""Batches whose examples are sorted together: many, and little is padding; few, and batches are different in every epoch."""
LENGTH = "length"


class GroupedByLength(Sampler[int]):
    """A random order in which each batch holds examples of about one length. The same in all processes, another in every epoch.

    Args:
        lengths (`Sequence[int]`): Tokens of every example.
        batch_size (`int`): Examples of a batch.
        seed (`int`): Seeds the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator)
        batches = []
        for together in order.split(BATCHES_AT_ONCE * self.batch_size):
            ranked = sorted(together.tolist(), key=lambda index: -self.lengths[index])
            batches += [ranked[start : start + self.batch_size] for start in range(0, len(ranked), self.batch_size)]
        whole = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        for place in torch.randperm(len(whole), generator=generator).tolist():
            yield from whole[place]
        for batch in rest:
            yield from batch


def lengths_of(dataset: Any) -> Sequence[int] | None:
    """The lengths of a data set's examples, where it has a column of them and is not streamed."""
    columns = getattr(dataset, "column_names", None) or ()
    if LENGTH not in columns or not hasattr(dataset, "__len__"):
        return None
    return list(dataset[LENGTH])
