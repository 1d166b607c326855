"""Whether a trimmed vocabulary does for held-out text, and which size would."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain

import torch
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.curve import ids_of
from hf_lrcompress.vocabulary.ids import unknown_id
from hf_lrcompress.vocabulary.selection import TokenSelector
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

MOST_SENTENCES = 10_000
NEW_UNKNOWN_LIMIT = 0.01
COVERAGE_LIMIT = 0.5


def check_coverage(
    tokenizer: PreTrainedTokenizerFast,
    trimmed: PreTrainedTokenizerFast,
    keep_ids: torch.Tensor,
    texts: Sequence[str],
    counts: torch.Tensor | None = None,
    keep: Sequence[str] = (),
) -> None:
    """Refuse a vocabulary that does not do for held-out text, as when that is in another language or there was little to count.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer as it was.
        trimmed ([`~transformers.PreTrainedTokenizerFast`]): What [`trim_tokenizer`] made of it.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The kept tokens.
        texts (`Sequence[str]`): Held-out sentences; the first 10,000 are used.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`, *optional*):
            What the tokens were chosen by, to name a size that does.
        keep (`Sequence[str]`, *optional*, defaults to `()`): The tokens that were to be kept in any case.

    Raises:
        ValueError: If 1 % more of the text's tokens are unknown than before, or less than half of them are kept.
    """
    held_out = _HeldOutText(tokenizer, texts)
    problem = held_out.problem(trimmed, keep_ids)
    if problem is None:
        return
    if counts is None or held_out.coverage(torch.cat([keep_ids, counts.nonzero().flatten()])) < COVERAGE_LIMIT:
        raise ValueError(f"{problem}; is the text that the tokens were counted on in the same language and script?")
    size = held_out.sufficient_size(len(keep_ids), counts, keep)
    larger = "" if size is None else f", or a larger vocab_size: with this text {size} is enough"
    raise ValueError(f"{problem}; give more text to count{larger}")


class _HeldOutText:
    """Held-out text, and what the untrimmed tokenizer makes of it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._texts = list(texts[:MOST_SENTENCES])
        self._rows = ids_of(tokenizer, self._texts)
        self._unknown_before = unknown_rate(tokenizer, self._rows)

    def problem(self, trimmed: PreTrainedTokenizerFast, keep_ids: torch.Tensor) -> str | None:
        """What is wrong with a trimmed vocabulary."""
        before = self._unknown_before
        after = unknown_rate(trimmed, ids_of(trimmed, self._texts))
        if after - before > NEW_UNKNOWN_LIMIT:
            return f"{after:.1%} of the held-out text's tokens would be unknown, {before:.1%} before trimming"
        kept = self.coverage(keep_ids)
        return f"only {kept:.1%} of the held-out text's tokens would be kept" if kept < COVERAGE_LIMIT else None

    def coverage(self, ids: torch.Tensor) -> float:
        """The share of the text's untrimmed tokens that is among `ids`."""
        return coverage(self._rows, ids)

    def sufficient_size(self, size: int, counts: torch.Tensor, keep: Sequence[str]) -> int | None:
        """The smallest larger size that does, to within a twentieth, if the counted text can fill one."""
        selector = TokenSelector(self._tokenizer, counts, keep)
        sufficient = []

        def is_enough_or_too_much(larger: int) -> bool:
            try:
                keep_ids = selector.select(larger)
            except ValueError:  # more than the text can fill
                return True
            if self.problem(trim_tokenizer(self._tokenizer, keep_ids), keep_ids) is None:
                sufficient.append(larger)
            return larger in sufficient

        step = max(1, size // 20)
        sizes = range(size + step, 2 * int((counts > 0).sum()), step)
        bisect_left(sizes, True, key=is_enough_or_too_much)
        return min(sufficient, default=None)


def unknown_rate(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Sequence[int]]) -> float:
    """The share of token ids that is the model's unknown token."""
    unknown = unknown_id(tokenizer)
    ids = list(chain.from_iterable(rows))
    return sum(i == unknown for i in ids) / max(1, len(ids))


def coverage(rows: Sequence[Sequence[int]], keep_ids: torch.Tensor) -> float:
    """The share of token ids that is kept."""
    ids = torch.tensor(list(chain.from_iterable(rows)))
    return torch.isin(ids, keep_ids).double().mean().item()
