"""Tokens that several tokenizers have in common in a text: where models of different vocabularies can be compared."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Encoding
from transformers import BatchEncoding, PreTrainedTokenizerFast

TEXTS_AT_ONCE = 256
"""Texts whose tokens are held at once: what is known of a token takes some hundred times its text."""
Span = tuple[int, int]
"""First character of a token in its text, and the one after its last."""


def shared_spans(texts: Sequence[str], tokenizers: Sequence[PreTrainedTokenizerFast], max_length: int) -> list[tuple[Span, ...]]:
    """Find the ordinary tokens that are the same characters of a text for every tokenizer.

    Args:
        texts (`Sequence[str]`): The texts.
        tokenizers (`Sequence[PreTrainedTokenizerFast]`): The tokenizers; not changed but for how they truncate.
        max_length (`int`): Tokens at which a text is cut, special tokens among them.

    Returns:
        `list[tuple[Span, ...]]`: For each text the characters of its shared tokens, in ascending order.
    """
    spans: list[tuple[Span, ...]] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        spans += _spans_of_batch(texts[start : start + TEXTS_AT_ONCE], tokenizers, max_length)
    return spans


def _spans_of_batch(
    texts: Sequence[str], tokenizers: Sequence[PreTrainedTokenizerFast], max_length: int
) -> list[tuple[Span, ...]]:
    shared = [_pieces(text, tokenizers[0]) for text in _encoded(texts, tokenizers[0], max_length)]
    for tokenizer in tokenizers[1:]:
        encodings = _encoded(texts, tokenizer, max_length)
        shared = [pieces & _pieces(text, tokenizer) for pieces, text in zip(shared, encodings, strict=True)]
    return [tuple(sorted((start, end) for _, start, end in pieces)) for pieces in shared]


def encode_with_places(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], spans: Sequence[Sequence[Span]], max_length: int
) -> tuple[BatchEncoding, torch.Tensor]:
    """Tokenize a batch of texts, and find given tokens in it.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer; not changed but for how it truncates and pads.
        texts (`Sequence[str]`): The texts.
        spans (`Sequence[Sequence[Span]]`): For each text the characters of the tokens to find.
        max_length (`int`): Tokens at which a text is cut.

    Returns:
        `tuple[BatchEncoding, torch.Tensor]`: What the model takes, padded, and which of its tokens are those at `spans`, of
        shape `(batch, sequence)`.

    Raises:
        ValueError: If the tokenizer has no token at a span.
    """
    inputs = tokenizer(list(texts), truncation=True, max_length=max_length, padding=True, return_tensors="pt")
    places = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    for row, encoding in enumerate(inputs.encodings):
        wanted = set(spans[row])
        found = [place for place, span in enumerate(encoding.offsets) if span in wanted]
        if len(found) != len(wanted):
            raise ValueError("the tokenizer splits the text differently; choose the tokens with this tokenizer too")
        places[row, found] = True
    return inputs, places


def batches_by_length(texts: Sequence[str], batch_size: int) -> Iterator[list[int]]:
    """Indices of texts, the shortest first, so that little of a batch is padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def _encoded(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_length: int) -> list[Encoding]:
    return tokenizer(list(texts), truncation=True, max_length=max_length).encodings


def _pieces(text: Encoding, tokenizer: PreTrainedTokenizerFast) -> set[tuple[str, int, int]]:
    """Token and span of the ordinary tokens that share their characters with no other token."""
    special = set(tokenizer.all_special_ids)
    times = Counter(text.offsets)
    pieces = set()
    for token, token_id, (start, end) in zip(text.tokens, text.ids, text.offsets, strict=True):
        ordinary = token_id not in special and start < end
        if ordinary and times[start, end] == 1:
            pieces.add((token, start, end))
    return pieces
