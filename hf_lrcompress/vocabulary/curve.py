"""How many tokens are enough: vocabulary size against coverage and tokens per word, as numbers and as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.selection import select_tokens
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1, 2)


@dataclass(frozen=True)
class CurvePoint:
    """A vocabulary size, the share of the counted tokens that it covers, and tokens per word of the held-out text."""

    vocab_size: int
    coverage: float
    tokens_per_word: float


def measure_curve(
    tokenizer: PreTrainedTokenizerFast, counts: torch.Tensor, vocab_size: int, texts: Sequence[str]
) -> tuple[CurvePoint, ...]:
    """Select and trim anew for sizes from an eighth to twice `vocab_size`, as far as the corpus allows them.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The untrimmed tokenizer.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`): How often each token occurs.
        vocab_size (`int`): The size in the middle.
        texts (`Sequence[str]`): Held-out sentences.
    """
    points = []
    for fraction in FRACTIONS:
        try:
            keep_ids = select_tokens(tokenizer, counts, round(fraction * vocab_size))
        except ValueError:  # smaller than the alphabet, or larger than the corpus can fill
            continue
        coverage = (counts[keep_ids].sum() / counts.sum()).item()
        rows = ids_of(trim_tokenizer(tokenizer, keep_ids), texts)
        points.append(CurvePoint(len(keep_ids), coverage, per_word(rows, texts)))
    return tuple(points)


def draw_curve(points: Sequence[CurvePoint], vocab_size: int, untrimmed_tokens_per_word: float) -> Figure:
    """The curve, with a line at the chosen size and one at the tokens per word of the untrimmed tokenizer."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    sizes = [point.vocab_size for point in points]
    (covered,) = left.plot(sizes, [100 * point.coverage for point in points], "o-", label="tokens covered, %")
    (length,) = right.plot(sizes, [point.tokens_per_word for point in points], "s--", color="C1", label="tokens per word")
    right.axhline(untrimmed_tokens_per_word, color="C1", linewidth=0.5)
    left.axvline(vocab_size, color="grey", linewidth=0.5)
    left.set(
        xscale="log", xlabel="vocabulary size", ylabel="tokens covered, %", xticks=sizes, xticklabels=[f"{n:,}" for n in sizes]
    )
    left.minorticks_off()
    right.set_ylabel("tokens per word of held-out text")
    left.legend(handles=[covered, length], loc="center right")
    return figure


def ids_of(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts, whole and without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False, truncation=False, padding=False)["input_ids"]


def per_word(rows: Sequence[Sequence[int]], texts: Sequence[str]) -> float:
    """Tokens per word; words are what white space separates."""
    return sum(map(len, rows)) / sum(len(text.split()) for text in texts)
