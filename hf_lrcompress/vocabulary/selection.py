"""Token selection: choose the tokens of a smaller vocabulary from how often each occurs."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.alphabet import alphabet_ids
from hf_lrcompress.vocabulary.bpe import byte_alphabet, is_byte_level, merge_table
from hf_lrcompress.vocabulary.candidates import Candidates, ClosedCandidates
from hf_lrcompress.vocabulary.ids import id_count, special_ids
from hf_lrcompress.vocabulary.tokenizer_trimming import require_trimmable

FEW = 100
"""Tokens before the padding token are kept if they are fewer than this: some models count positions from its id."""


def select_tokens(
    tokenizer: PreTrainedTokenizerFast,
    counts: torch.Tensor,
    vocab_size: int | None = None,
    keep: Sequence[str] = (),
    min_count: float | None = None,
    coverage: float | None = None,
    pad_to_multiple_of: int | None = None,
) -> torch.Tensor:
    """Choose the tokens of a smaller vocabulary.

    In this order, until there are `vocab_size`:

    1. all special tokens, the tokens before the padding token if they are few, those of single bytes, and `keep`;
    2. the single characters that 99.99 % of the corpus is written with (with WordPiece at the start of a word and inside it);
    3. in at most a tenth of the vocabulary its other single characters, then those that do not occur but are their
       neighbours in Unicode: rare letters and marks do not become unknown, and noise cannot use up the vocabulary;
    4. the most frequent tokens; of equally frequent ones, those with lower ids.

    With BPE, a token brings what it is made of along, and tokens are not taken but given up, the rarest first that no other
    is made of (see [`MergeTable`]). A byte-level tokenizer has no steps 2 and 3.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A WordPiece, Unigram or BPE tokenizer; not changed.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`):
            How often each token occurs, from [`count_tokens`], or of several corpora from [`weighted_counts`].
        vocab_size (`int`, *optional*): How many tokens to keep.
        keep (`Sequence[str]`, *optional*, defaults to `()`):
            Tokens to keep in any case, spelled as in the vocabulary (`"▁Bratislava"`, `"##ami"`).
        min_count (`float`, *optional*): Instead of `vocab_size`: keep all tokens that occur at least so often.
        coverage (`float`, *optional*):
            Instead of `vocab_size`: the smallest one whose tokens make up this share, above 0 and at most 1, of all that
            `counts` holds, the tokens that the untrimmed tokenizer made of the corpus: the `coverage` of a [`CurvePoint`].
        pad_to_multiple_of (`int`, *optional*):
            Keep more, until their number is a multiple of this, as tensor cores like it: the next most frequent tokens, then ones
            that do not occur. No row of the embeddings is without a token.

    Returns:
        `torch.LongTensor` of shape `(vocab_size,)`: The ids of the chosen tokens, ascending.

    Raises:
        ValueError: If `counts` has the wrong length, `keep` a token that does not exist, `vocab_size` is larger than what
            tokenizer or corpus has or too small for the tokens that must stay, not exactly one of `vocab_size`, `min_count` and
            `coverage` is given, or the tokenizer has too few tokens for the multiple.

    Example:
    ```python
    >>> keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, texts), 40_000)
    >>> keep_ids.shape
    torch.Size([40000])
    ```
    """
    return TokenSelector(tokenizer, counts, keep).select(vocab_size, min_count, coverage, pad_to_multiple_of)


class TokenSelector:
    """[`select_tokens`] for as many sizes as are asked: the tokenizer, which takes seconds, is read once.

    Args:
        tokenizer, counts, keep: As in [`select_tokens`].

    Raises:
        ValueError: If `counts` has the wrong length, `keep` a token that does not exist, or the tokenizer cannot be trimmed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, counts: torch.Tensor, keep: Sequence[str] = ()) -> None:
        require_trimmable(tokenizer)
        vocab = tokenizer.get_vocab()
        self._tokens = len(vocab)
        demanded = _check_request(vocab, id_count(tokenizer), counts, keep)
        self._candidates = _candidates(tokenizer, vocab, counts, demanded)

    def select(
        self,
        vocab_size: int | None = None,
        min_count: float | None = None,
        coverage: float | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> torch.Tensor:
        """The ids that [`select_tokens`] chooses."""
        check_one_rule(vocab_size, min_count, coverage)
        if vocab_size is not None and vocab_size > self._tokens:
            raise ValueError(f"vocab_size {vocab_size} is a vocabulary larger than the tokenizer's {self._tokens}")
        kept = _chosen(self._candidates, vocab_size, min_count, coverage)
        if pad_to_multiple_of is not None:
            kept = _padded(self._candidates, kept, pad_to_multiple_of)
        return torch.tensor(sorted(kept))


def check_one_rule(vocab_size: int | None, min_count: float | None, coverage: float | None) -> None:
    """Raise a `ValueError` if not exactly one of these decides how many tokens are kept, or it is out of range."""
    if [vocab_size, min_count, coverage].count(None) != 2:
        raise ValueError("give exactly one of vocab_size, min_count and coverage")
    if min_count is not None and not min_count > 0:
        raise ValueError(f"min_count must be more than 0, got {min_count}")
    if coverage is not None and not 0 < coverage <= 1:
        raise ValueError(f"coverage must be more than 0 and at most 1, got {coverage}; give a share such as 0.999")


def _chosen(candidates: Candidates, vocab_size: int | None, min_count: float | None, coverage: float | None) -> set[int]:
    if vocab_size is not None:
        return candidates.most(vocab_size)
    if min_count is not None:
        return candidates.often(min_count)
    return candidates.covering(cast(float, coverage))


def _padded(candidates: Candidates, kept: set[int], multiple: int) -> set[int]:
    size = padded_size(len(kept), multiple)
    if size > len(candidates.ids):
        raise ValueError(
            f"pad_to_multiple_of {multiple} makes {size} tokens of {len(kept)}, but the tokenizer has only "
            f"{len(candidates.ids)}; choose fewer tokens or another multiple"
        )
    return candidates.filled(kept, size)


def padded_size(size: int, multiple: int | None) -> int:
    """The next multiple, if there is one to keep to.

    Raises:
        ValueError: If `multiple` is not positive.
    """
    if multiple is None:
        return size
    if multiple < 1:
        raise ValueError(f"pad_to_multiple_of must be 1 or more, got {multiple}; give a number such as 64")
    return math.ceil(size / multiple) * multiple


def weighted_counts(counts: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Combine the token counts of several corpora, so that each has its weight whatever its size.

    Each corpus' counts are divided by their sum, multiplied by its weight and added; the result is scaled to the number of
    tokens of all, so that `min_count` means the same.

    Args:
        counts (`Mapping[str, torch.Tensor]`): Counts of shape `(len(tokenizer),)` by language or domain.
        weights (`Mapping[str, float]`): The weight of each, such as `{"sk": 0.8, "en": 0.2}`; any positive numbers.

    Returns:
        `torch.DoubleTensor` of shape `(len(tokenizer),)`: The combined count of each token.

    Raises:
        ValueError: If names differ, a weight is not positive, or a corpus has no tokens.
    """
    if counts.keys() != weights.keys():
        raise ValueError(f"there are counts of {', '.join(counts)}, but weights of {', '.join(weights)}; give both for each")
    for name, weight in weights.items():
        if not weight > 0 or not counts[name].sum() > 0:
            raise ValueError(f"{name}: weight and number of tokens must be more than 0; leave it out instead")
    total = sum(each.double().sum() for each in counts.values())
    scale = sum(weights.values())
    shares = [weights[name] / scale * total * each.double() / each.sum() for name, each in counts.items()]
    return sum(shares, start=torch.zeros_like(shares[0]))


def _candidates(
    tokenizer: PreTrainedTokenizerFast, vocab: Mapping[str, int], counts: torch.Tensor, demanded: Sequence[int]
) -> Candidates:
    """What there is to choose from, where the tokens `demanded` stay."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    special = set(special_ids(tokenizer, state))
    required = special | _fixed(tokenizer, state, vocab) | set(demanded)
    spare: list[int] = []
    if not is_byte_level(state):
        needed, spare = alphabet_ids(tokenizer, counts, demanded, special)
        required |= needed
    if state["model"]["type"] == "BPE":
        return ClosedCandidates(counts, vocab, required, spare, merge_table(state))
    return Candidates(counts, vocab.values(), required, spare)


def _fixed(tokenizer: PreTrainedTokenizerFast, state: dict, vocab: Mapping[str, int]) -> set[int]:
    """The ids of single bytes, and those before the padding token's if they are few."""
    single_bytes = {vocab[token] for token in byte_alphabet(state) if token in vocab}
    padding = vocab[tokenizer.pad_token] if tokenizer.special_tokens_map.get("pad_token") else 0
    if padding >= FEW:
        return single_bytes
    return single_bytes | {i for i in vocab.values() if i < padding}


def _check_request(vocab: Mapping[str, int], ids: int, counts: torch.Tensor, keep: Sequence[str]) -> list[int]:
    """The ids of `keep`."""
    if counts.shape != (ids,):
        raise ValueError(f"counts must have one entry for each of the {ids} tokens, got shape {list(counts.shape)}")
    strangers = [token for token in keep if token not in vocab]
    if strangers:
        raise ValueError(
            f"keep holds {', '.join(map(repr, strangers[:10]))}, which the tokenizer does not have; "
            "spell tokens as in its vocabulary (see tokenizer.tokenize)"
        )
    return [vocab[token] for token in keep]
