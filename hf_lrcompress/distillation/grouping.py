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

    The whole batch with the longest example is the first: if the memory is too small for it, that shows at once.

    Args:
        lengths (`Sequence[int]` or `torch.Tensor` of shape `(examples,)`): Tokens of every example.
        batch_size (`int`): Examples of a batch.
        seed (`int`): Seeds the order.
    """

    def __init__(self, lengths: Sequence[int] | torch.Tensor, batch_size: int, seed: int) -> None:
        self.lengths = torch.as_tensor(lengths)  # Python's own numbers take four times the memory
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
        ranked = torch.cat([self._ranked(together) for together in order.split(BATCHES_AT_ONCE * self.batch_size)])
        whole = len(ranked) // self.batch_size
        places = torch.randperm(whole, generator=generator)
        longest = torch.argmax(self.lengths[ranked[: whole * self.batch_size]]) // self.batch_size if whole else 0
        for place in torch.cat([places[places == longest], places[places != longest]]).numpy():
            yield from ranked[place * self.batch_size : (place + 1) * self.batch_size].tolist()
        yield from ranked[whole * self.batch_size :].tolist()

    def _ranked(self, together: torch.Tensor) -> torch.Tensor:
        """Examples by their length, the longest first."""
        return together[torch.argsort(self.lengths[together], descending=True, stable=True)]


def lengths_of(dataset: Any) -> torch.Tensor | None:
    """The lengths of a data set's examples, where it has a column of them and is not streamed."""
    columns = getattr(dataset, "column_names", None) or ()
    if LENGTH not in columns or not hasattr(dataset, "__len__"):
        return None
    lengths = dataset.with_format("numpy", columns=[LENGTH])[:][LENGTH]
    return torch.from_numpy(lengths) if lengths.dtype.kind in "iu" else None  # a column of that name may hold anything
