"""Token selection: choose the tokens of a smaller vocabulary from how often each occurs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.alphabet import alphabet_ids
from hf_lrcompress.vocabulary.bpe import byte_alphabet, is_byte_level, merge_table
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

    Returns:
        `torch.LongTensor` of shape `(vocab_size,)`: The ids of the chosen tokens, ascending.

    Raises:
        ValueError: If `counts` has the wrong length, `keep` a token that does not exist, or `vocab_size` is larger than
            the tokenizer, larger than what the corpus can fill, or too small for the tokens that must stay.

    Example:
    ```python
    >>> keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, texts), 40_000)
    >>> keep_ids.shape
    torch.Size([40000])
    ```
    """
    require_trimmable(tokenizer)
    demanded = _check_request(tokenizer, counts, vocab_size, keep, min_count)
    vocab = tokenizer.get_vocab()
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    special = set(special_ids(tokenizer, state))
    required = special | _fixed(tokenizer, state, vocab) | set(demanded)
    spare: list[int] = []
    if not is_byte_level(state):
        needed, spare = alphabet_ids(tokenizer, counts, demanded, special)
        required |= needed
    frequent = counts >= min_count if min_count else counts > 0
    tenth = (vocab_size or int(frequent.sum())) // 10
    room = (vocab_size or len(vocab)) - len(required)
    candidates = _Candidates(counts, required, spare[: max(0, min(tenth, room))], frequent)
    if state["model"]["type"] == "BPE":
        return _select_closed(candidates, vocab_size, state)
    return _select_frequent(candidates, vocab_size)


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
    total = sum(int(each.sum()) for each in counts.values())
    scale = sum(weights.values())
    shares = [weights[name] / scale * total * each.double() / each.sum() for name, each in counts.items()]
    return sum(shares, start=torch.zeros_like(shares[0]))


@dataclass(frozen=True)
class _Candidates:
    """What to choose from: `required` ids stay, `spare` ids come first, then those where `frequent` is true, by `counts`."""

    counts: torch.Tensor
    required: set[int]
    spare: list[int]
    frequent: torch.Tensor


def _fixed(tokenizer: PreTrainedTokenizerFast, state: dict, vocab: Mapping[str, int]) -> set[int]:
    """The ids of single bytes, and those before the padding token's if they are few."""
    single_bytes = {vocab[token] for token in byte_alphabet(state) if token in vocab}
    padding = vocab[tokenizer.pad_token] if tokenizer.special_tokens_map.get("pad_token") else 0
    if padding >= FEW:
        return single_bytes
    return single_bytes | {i for i in vocab.values() if i < padding}


def _select_frequent(candidates: _Candidates, vocab_size: int | None) -> torch.Tensor:
    first = torch.zeros(len(candidates.counts), dtype=torch.bool)
    first[[*candidates.required, *candidates.spare]] = True
    wanted = first | candidates.frequent
    if vocab_size is None:
        return wanted.nonzero().flatten()
    _check_size(vocab_size, len(candidates.required), int(wanted.sum()))
    rank = torch.where(first, float("inf"), candidates.counts.double())
    return rank.argsort(descending=True, stable=True)[:vocab_size].sort().values


def _select_closed(candidates: _Candidates, vocab_size: int | None, state: dict) -> torch.Tensor:
    """For BPE: [`_select_frequent`] with sets of tokens that hold what each token is made of."""
    table = merge_table(state)
    vocab = state["model"]["vocab"] | {token["content"]: token["id"] for token in state["added_tokens"]}
    token_of = {i: token for token, i in vocab.items()}
    required = table.close(token_of[i] for i in candidates.required)
    first = required | table.close(token_of[i] for i in candidates.spare)
    tokens = first | table.close(token_of[i] for i in candidates.frequent.nonzero().flatten().tolist())
    if vocab_size is not None:
        _check_size(vocab_size, len(required), len(tokens))
        values = candidates.counts.tolist()
        stay = first if len(first) <= vocab_size else required
        tokens = table.shrink(tokens, {token: values[vocab[token]] for token in tokens}, stay, vocab_size)
    return torch.tensor(sorted(vocab[token] for token in tokens))


def _check_size(vocab_size: int, smallest: int, largest: int) -> None:
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: special tokens, the corpus' characters (or bytes) and `keep` need {smallest}"
        )
    if vocab_size > largest:
        raise ValueError(
            f"the corpus has only {largest} distinct tokens with those that must stay, not {vocab_size}; "
            f"give more text or a vocab_size of at most {largest}"
        )


def _check_request(
    tokenizer: PreTrainedTokenizerFast,
    counts: torch.Tensor,
    vocab_size: int | None,
    keep: Sequence[str],
    min_count: float | None,
) -> list[int]:
    """The ids of `keep`."""
    size = len(tokenizer)
    ids = id_count(tokenizer)
    vocab = tokenizer.get_vocab()
    if counts.shape != (ids,):
        raise ValueError(f"counts must have one entry for each of the {ids} tokens, got shape {list(counts.shape)}")
    if (vocab_size is None) == (min_count is None):
        raise ValueError("give either vocab_size or min_count")
    if min_count is not None and not min_count > 0:
        raise ValueError(f"min_count must be more than 0, got {min_count}")
    if vocab_size is not None and vocab_size > size:
        raise ValueError(f"vocab_size {vocab_size} is a vocabulary larger than the tokenizer's {size}")
    strangers = [token for token in keep if token not in vocab]
    if strangers:
        raise ValueError(
            f"keep holds {', '.join(map(repr, strangers[:10]))}, which the tokenizer does not have; "
            "spell tokens as in its vocabulary (see tokenizer.tokenize)"
        )
    return [vocab[token] for token in keep]
