"""A tokenizer beside what was made of it by taking tokens away: what both make of a text, by whomever it was trimmed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.coverage import coverage, unknown_rate
from hf_lrcompress.vocabulary.curve import ids_of, per_word
from hf_lrcompress.vocabulary.ids import unknown_id
from hf_lrcompress.vocabulary.unreachable_tokens import unreachable_tokens


@dataclass(frozen=True, kw_only=True)
class VocabularyComparison:
    """What trimming did to a text. Shares are from 0 to 1; `untrimmed_*` is the same before trimming.

    Args:
        vocab_size, untrimmed_vocab_size (`int`): Number of tokens.
        sentences (`int`): Number of sentences.
        same_sentences (`float`): Share of them that is tokenised exactly as before.
        kept_sentences (`float`): Share of them that was made of kept tokens only.
        same_kept_sentences (`float`): Share of those that is tokenised exactly as before.
        coverage (`float`): Share of the text's untrimmed tokens that are kept.
        tokens_per_word, untrimmed_tokens_per_word (`float`): Tokens a word; words are what white space separates.
        unknown_rate, untrimmed_unknown_rate (`float`): Share of the text's tokens that are the unknown token.
        round_trip, untrimmed_round_trip (`float`): Share of sentences that decoding gives back, white space aside.
        unreachable_tokens (`tuple[str, ...]`): Kept tokens that no text is made into.
        wrong_rows (`int`, *optional*): Embedding rows of kept tokens that are not what they were.
    """

    vocab_size: int
    untrimmed_vocab_size: int
    sentences: int
    same_sentences: float
    kept_sentences: float
    same_kept_sentences: float
    coverage: float
    tokens_per_word: float
    untrimmed_tokens_per_word: float
    unknown_rate: float
    untrimmed_unknown_rate: float
    round_trip: float
    untrimmed_round_trip: float
    unreachable_tokens: tuple[str, ...]
    wrong_rows: int | None = None


class ComparedText:
    """A text as two tokenizers read it.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): The tokenizer as it was.
        trimmed ([`~transformers.PreTrainedTokenizerFast`]): What was made of it.
        new_id (`Mapping[int, int]`): The new id of each kept token, by its old one.
        texts (`Sequence[str]`): Sentences, at least one.

    Raises:
        ValueError: If the untrimmed tokenizer makes no token of them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        trimmed: PreTrainedTokenizerFast,
        new_id: Mapping[int, int],
        texts: Sequence[str],
    ) -> None:
        self.tokenizer = tokenizer
        self.trimmed = trimmed
        self.new_id = new_id
        self.texts = texts
        self.old = ids_of(tokenizer, texts)
        self.new = ids_of(trimmed, texts)
        if not any(self.old):
            raise ValueError("the text has no character that the untrimmed tokenizer knows; give another text")
        kept = set(new_id)
        if type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece":
            kept -= {unknown_id(tokenizer)}  # a word that is unknown to WordPiece may become known
        self.is_kept = [kept.issuperset(row) for row in self.old]
        self._is_same = [self._same(old, new) for old, new in zip(self.old, self.new, strict=True)]

    @property
    def changed(self) -> list[int]:
        """The sentences that were made of kept tokens, and are tokenised otherwise: none, where trimming keeps its promise."""
        return [i for i in range(len(self.texts)) if self.is_kept[i] and not self._is_same[i]]

    def compare(self, models: tuple[PreTrainedModel, PreTrainedModel] | None = None) -> VocabularyComparison:
        """All figures.

        Args:
            models (`tuple[PreTrainedModel, PreTrainedModel]`, *optional*): Before and after trimming, to compare embeddings.
        """
        sentences = len(self.texts)
        kept = sum(self.is_kept)
        return VocabularyComparison(
            vocab_size=len(self.trimmed),
            untrimmed_vocab_size=len(self.tokenizer),
            sentences=sentences,
            same_sentences=sum(self._is_same) / sentences,
            kept_sentences=kept / sentences,
            same_kept_sentences=1 - len(self.changed) / kept if kept else 1.0,
            coverage=coverage(self.old, torch.tensor(list(self.new_id))),
            tokens_per_word=per_word(self.new, self.texts),
            untrimmed_tokens_per_word=per_word(self.old, self.texts),
            unknown_rate=unknown_rate(self.trimmed, self.new),
            untrimmed_unknown_rate=unknown_rate(self.tokenizer, self.old),
            round_trip=_round_trip(self.trimmed, self.new, self.texts),
            untrimmed_round_trip=_round_trip(self.tokenizer, self.old, self.texts),
            unreachable_tokens=tuple(unreachable_tokens(self.trimmed)),
            wrong_rows=_wrong_rows(*models, self.new_id) if models else None,
        )

    def _same(self, old: Sequence[int], new: Sequence[int]) -> bool:
        return [self.new_id.get(i) for i in old] == new


def kept_tokens(tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast) -> dict[int, int]:
    """The new id of each token of `tokenizer` that `trimmed` has too, by its old one.

    Raises:
        ValueError: If less than half of the tokens of `trimmed` are tokens of `tokenizer`.
    """
    old, new = (each.get_vocab() for each in (tokenizer, trimmed))
    kept = {i: new[token] for token, i in old.items() if token in new}
    if 2 * len(kept) < len(new):
        raise ValueError(f"of the {len(new)} tokens only {len(kept)} are of the tokenizer that it should be trimmed from")
    return kept


def _round_trip(tokenizer: PreTrainedTokenizerFast, rows: list[list[int]], texts: Sequence[str]) -> float:
    decoded = tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
    same = ["".join(back.split()) == "".join(text.split()) for back, text in zip(decoded, texts, strict=True)]
    return sum(same) / len(texts)


def _wrong_rows(before: PreTrainedModel, after: PreTrainedModel, new_id: Mapping[int, int]) -> int | None:
    """The number of embedding rows that differ; `None` if the embeddings have another width."""
    old = cast(nn.Embedding, before.get_input_embeddings()).weight
    new = cast(nn.Embedding, after.get_input_embeddings()).weight
    if old.shape[1] != new.shape[1]:
        return None
    differs = old[list(new_id)] != new[list(new_id.values())]
    return int(differs.any(dim=1).sum().item())
