"""The tokens that a smaller vocabulary can be made of: so many of them, all frequent ones, or enough for a share of the text."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

import torch

from hf_lrcompress.vocabulary.bpe import MergeTable


def covered_share(counts: torch.Tensor, kept: Collection[int]) -> float:
    """The share of all occurrences that is of tokens that are kept, in double precision.

    What is lost is subtracted: where nothing is, weighted counts give 1 exactly, in whatever order they are added.
    """
    left_out = torch.ones(len(counts), dtype=torch.bool)
    left_out[list(kept)] = False
    lost = counts[left_out].sum().item()
    total = counts.sum().item()
    return (total - lost) / total if lost else 1.0


class Candidates:
    """Tokens by their ids, where any set of them is a vocabulary: WordPiece and Unigram.

    Args:
        counts (`torch.Tensor` of shape `(len(tokenizer),)`): How often each token occurs.
        ids (`Iterable[int]`): All tokens: ids may have gaps.
        required (`set[int]`): Tokens that stay.
        spare (`Sequence[int]`): Tokens that come next, in at most a tenth of the vocabulary.
    """

    def __init__(self, counts: torch.Tensor, ids: Iterable[int], required: set[int], spare: Sequence[int]) -> None:
        self.counts = counts
        self.ids = set(ids)
        self.required = self.closed(required)
        self._spare = spare

    def closed(self, tokens: Iterable[int]) -> set[int]:
        """Tokens with those that cannot be left out where they are kept."""
        return set(tokens)

    def filled(self, kept: set[int], size: int) -> set[int]:
        """`kept` and the most frequent others, until there are `size`; of equally frequent ones, those with lower ids."""
        rank = self.counts.to(torch.float64, copy=True)
        rank[list(kept)] = float("inf")
        gaps = torch.ones(len(rank), dtype=torch.bool)
        gaps[list(self.ids)] = False
        rank[gaps] = -1
        return set(rank.argsort(descending=True, stable=True)[:size].tolist())

    def most(self, size: int) -> set[int]:
        """So many of those that stay and those that occur.

        Raises:
            ValueError: If those that stay are more, or those that occur are fewer.
        """
        if size < len(self.required):
            needed = f"special tokens, the corpus' characters (or bytes) and `keep` need {len(self.required)}"
            raise ValueError(f"vocab_size {size} is too small: {needed}")
        largest = self._largest(size)
        if size > largest:
            while self._largest(largest) < largest:  # a smaller one has less room for what does not occur
                largest = self._largest(largest)
            raise ValueError(
                f"the corpus has only {largest} distinct tokens with those that must stay, not {size}; "
                f"give more text or a vocab_size of at most {largest}"
            )
        first = self._first(size)
        return self.filled(first if len(first) <= size else self.required, size)

    def often(self, min_count: float) -> set[int]:
        """All that occur at least so often, and those that come before them."""
        frequent = (self.counts >= min_count).nonzero().flatten().tolist()
        return self.required | self.closed(self._spare[: len(frequent) // 10]) | self.closed(frequent)

    def covering(self, share: float) -> set[int]:
        """The fewest of [`Candidates.most`] that make up a share of all occurrences.

        A larger vocabulary holds all tokens of a smaller one, so the size is found by bisection.
        """

        def covers(size: int) -> bool:
            return size > self._largest(size) or covered_share(self.counts, self.most(size)) >= share

        sizes = range(len(self.required), len(self.ids) + 1)
        return self.most(sizes[bisect_left(sizes, True, key=covers)])

    @cached_property
    def _occurring(self) -> set[int]:
        return self.closed(self.counts.nonzero().flatten().tolist())

    def _first(self, size: int) -> set[int]:
        """What comes before the most frequent in a vocabulary of `size`."""
        room = min(size // 10, size - len(self.required))
        return self.required | self.closed(self._spare[:room])

    def _largest(self, size: int) -> int:
        """All that occur, with what comes before them."""
        return len(self._first(size) | self._occurring)


class ClosedCandidates(Candidates):
    """For BPE: every vocabulary holds what its tokens are made of, see [`MergeTable`].

    Args:
        counts, required, spare: As in [`Candidates`].
        vocab (`Mapping[str, int]`): All tokens and their ids.
        table ([`MergeTable`]): How they are made.
    """

    def __init__(
        self, counts: torch.Tensor, vocab: Mapping[str, int], required: set[int], spare: Sequence[int], table: MergeTable
    ) -> None:
        self._vocab = vocab
        self._table = table
        self._token_of = {i: token for token, i in vocab.items()}
        self._values = dict(zip(range(len(counts)), counts.tolist(), strict=True))
        super().__init__(counts, vocab.values(), required, spare)

    def closed(self, tokens: Iterable[int]) -> set[int]:
        """Tokens and what they are made of."""
        return self._ids(self._table.close(self._token_of[i] for i in tokens))

    def filled(self, kept: set[int], size: int) -> set[int]:
        """`kept` and others, until there are `size`: the rarest of those that occur, or of all, are given up."""
        wider = kept | self._occurring
        if len(wider) < size:
            wider = self.ids
        counts = {self._token_of[i]: self._values[i] for i in wider}
        return self._ids(self._table.shrink(set(counts), counts, {self._token_of[i] for i in kept}, size))

    def _ids(self, tokens: Iterable[str]) -> set[int]:
        return {self._vocab[token] for token in tokens}
