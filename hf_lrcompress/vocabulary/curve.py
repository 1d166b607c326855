"""How many tokens are enough: vocabulary size against coverage and tokens per word."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.candidates import covered_share
from hf_lrcompress.vocabulary.selection import TokenSelector
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1, 2)


@dataclass(frozen=True)
class CurvePoint:
    """What a vocabulary size would give.

    Args:
        vocab_size (`int`): Tokens.
        coverage (`float`): Share of the counted tokens that are kept, from 0 to 1.
        tokens_per_word (`float`): Tokens of the held-out text for each of its words.
    """

    vocab_size: int
    coverage: float
    tokens_per_word: float


def measure_curve(
    tokenizer: PreTrainedTokenizerFast, counts: torch.Tensor, vocab_size: int, texts: Sequence[str], keep: Sequence[str] = ()
) -> tuple[CurvePoint, ...]:
    """Select and trim anew for sizes from an eighth to twice `vocab_size`.

    Where the corpus has less than twice as many, the last size is all that it has; where it has no more, the whole tokenizer.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The untrimmed tokenizer.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`): How often each token occurs.
        vocab_size (`int`): The chosen size.
        texts (`Sequence[str]`): Held-out sentences.
        keep (`Sequence[str]`, *optional*, defaults to `()`): Tokens to keep in any case, as at the chosen size.
    """
    points = []
    for keep_ids in _selections(TokenSelector(tokenizer, counts, keep), counts, vocab_size):
        coverage = covered_share(counts, keep_ids.tolist())
        rows = ids_of(trim_tokenizer(tokenizer, keep_ids), texts)
        points.append(CurvePoint(len(keep_ids), coverage, per_word(rows, texts)))
    by_size = {point.vocab_size: point for point in points}
    if max(by_size) <= vocab_size < len(tokenizer):
        by_size[len(tokenizer)] = CurvePoint(len(tokenizer), 1.0, per_word(ids_of(tokenizer, texts), texts))
    return tuple(by_size[size] for size in sorted(by_size))


def _selections(selector: TokenSelector, counts: torch.Tensor, vocab_size: int) -> Iterator[torch.Tensor]:
    """The ids to keep for each size that the corpus allows."""
    largest = 0
    for fraction in FRACTIONS:
        try:
            keep_ids = selector.select(round(fraction * vocab_size))
        except ValueError:  # smaller than the alphabet, or larger than the corpus can fill
            continue
        largest = len(keep_ids)
        yield keep_ids
    if largest <= vocab_size:
        yield selector.select(min_count=counts[counts > 0].min().item())


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, not truncated and without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False)["input_ids"]


def per_word(rows: Sequence[Sequence[int]], texts: Sequence[str]) -> float:
    """Tokens per word; words are what white space separates."""
    return sum(map(len, rows)) / sum(len(text.split()) for text in texts)
