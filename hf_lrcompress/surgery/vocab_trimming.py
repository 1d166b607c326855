"""Vocabulary trimming: count the tokens of a corpus, choose which to keep, cut the others."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from tokenizers import Tokenizer
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.architectures import architecture_of, changed, moved_dimensions, rebuild
from hf_lrcompress.surgery.tokenizer_trimming import check_model, special_ids, trim_tokenizer

BATCH_SIZE = 1000


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> torch.LongTensor:
    """Count how often each token occurs in a corpus, without the special tokens put around a text.

    Texts are read in batches, so an iterator over a file of any length can be given.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.
        texts (`Iterable[str]`): Sentences or documents; they are never truncated.

    Returns:
        `torch.LongTensor` of shape `(len(tokenizer),)`: The count of each token id.

    Raises:
        ValueError: If `texts` is one string.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list or an iterator of strings, not one string")
    backend = _without_limits(tokenizer)
    counts = torch.zeros(len(tokenizer), dtype=torch.long)
    for batch in _batches(texts):
        encodings = backend.encode_batch_fast(batch, add_special_tokens=False)
        ids = torch.tensor(list(chain.from_iterable(encoding.ids for encoding in encodings)), dtype=torch.long)
        counts += torch.bincount(ids, minlength=len(counts))
    return counts


def select_tokens(
    tokenizer: PreTrainedTokenizerFast, counts: torch.LongTensor, vocab_size: int, keep: Sequence[int] = ()
) -> torch.LongTensor:
    """Choose the tokens of a smaller vocabulary.

    All special tokens, then the tokens of the single characters that the corpus is written with (with WordPiece at the
    start of a word and inside it), then the most frequent tokens; of equally frequent ones, those with lower ids. A
    token that does not occur is chosen only as special, as a character, or by `keep`.

    Where every character has a token of its own in the tokenizer, as in those of XLM-R and mBERT, text in characters
    that occur in the corpus has no more unknown tokens after [`trim_tokenizer`] than before.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A WordPiece or Unigram tokenizer; not changed.
        counts (`torch.LongTensor` of shape `(len(tokenizer),)`): How often each token occurs, from [`count_tokens`].
        vocab_size (`int`): How many tokens to keep.
        keep (`Sequence[int]`, *optional*, defaults to `()`): Further tokens to keep in any case.

    Returns:
        `torch.LongTensor` of shape `(vocab_size,)`: The ids of the chosen tokens, ascending.

    Raises:
        ValueError: If `counts` has the wrong length, `keep` an id that does not exist, or `vocab_size` is larger than
            the tokenizer, larger than what the corpus can fill, or too small for the tokens that must stay.

    Example:

    ```python
    >>> keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, texts), 40_000)
    >>> keep_ids.shape
    torch.Size([40000])
    ```
    """
    check_model(tokenizer)
    _check_request(tokenizer, counts, vocab_size, keep)
    seen, special = counts > 0, special_ids(tokenizer)
    required = torch.zeros_like(seen)
    required[[*special, *keep]] = True
    written_with = set((seen | required).nonzero().flatten().tolist()) - set(special)
    required[_character_ids(tokenizer, written_with)] = True
    smallest, largest = int(required.sum()), int((required | seen).sum())
    if vocab_size < smallest:
        raise ValueError(f"vocab_size {vocab_size} is too small: special tokens, single characters and `keep` need {smallest}")
    if vocab_size > largest:
        raise ValueError(
            f"the corpus has only {int(seen.sum())} distinct tokens ({largest} with those that must stay), "
            f"not {vocab_size}; give more text or a vocab_size of at most {largest}"
        )
    rank = torch.where(required, torch.iinfo(torch.long).max, counts.long())
    return rank.argsort(descending=True, stable=True)[:vocab_size].sort().values


@dataclass(frozen=True)
class TrimmedVocab:
    """A model and its tokenizer with a smaller vocabulary.

    Args:
        model ([`~transformers.PreTrainedModel`]): With one embedding (and output) row a token.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The old id of each token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    keep_ids: torch.LongTensor


def trim_vocab(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, keep_ids: torch.LongTensor) -> TrimmedVocab:
    """Remove tokens from a model and its tokenizer.

    For text that `tokenizer` makes into kept tokens, the returned tokenizer makes the same tokens and the returned model
    computes the same hidden states, and the same logits for the kept tokens. Rows that belong to no token are removed.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its WordPiece or Unigram tokenizer; not changed.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The tokens to keep, ascending, from [`select_tokens`].

    Returns:
        [`TrimmedVocab`]: New model, new tokenizer and `keep_ids`.

    Raises:
        ValueError: If the model has fewer rows than the tokenizer has tokens, a special token of the tokenizer or the config
            is not kept, or the padding token of a model that counts positions from it would move.
    """
    keep_ids = torch.as_tensor(keep_ids)
    config = trimmed_config(model.config, tokenizer, keep_ids)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    moves = moved_dimensions(model, "vocab_size", step=1)

    def cut(name: str, tensor: torch.Tensor) -> torch.Tensor:
        for dim in moves.get(name, {}):
            tensor = tensor.index_select(dim, keep_ids.to(tensor.device))
        return tensor

    return TrimmedVocab(rebuild(model, config, cut), trimmed, keep_ids)


def trimmed_config(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, keep_ids: torch.LongTensor) -> PretrainedConfig:
    """The config of a model with a smaller vocabulary; raises what [`trim_vocab`] would, without the model."""
    if config.vocab_size < len(tokenizer):
        raise ValueError(
            f"the model has {config.vocab_size} rows, but its tokenizer {len(tokenizer)} tokens; they do not belong together"
        )
    trimmed = changed(config, vocab_size=len(keep_ids), **_new_token_ids(config, keep_ids.tolist()))
    if architecture_of(config).position_offset and trimmed.pad_token_id != config.pad_token_id:
        raise ValueError("this model counts positions from its padding token, which must keep its id: keep all tokens before it")
    return trimmed


def _new_token_ids(config: PretrainedConfig, keep_ids: list[int]) -> dict[str, int]:
    """Every `*_token_id` of a config as it is after trimming."""
    new_id = {old: new for new, old in enumerate(keep_ids)}
    token_ids = {key: value for key, value in config.to_dict().items() if key.endswith("_token_id") and isinstance(value, int)}
    for key, value in token_ids.items():
        if value not in new_id:
            raise ValueError(f"the config's {key} {value} is not among the kept tokens")
    return {key: new_id[value] for key, value in token_ids.items()}


def _without_limits(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy that neither truncates nor pads, whatever the caller's tokenizer was last used for."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = tokenizer.backend_tokenizer.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    return backend


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(islice(texts, BATCH_SIZE)):
        yield batch


def _check_request(tokenizer: PreTrainedTokenizerFast, counts: torch.LongTensor, vocab_size: int, keep: Sequence[int]) -> None:
    size = len(tokenizer)
    if counts.shape != (size,):
        raise ValueError(f"counts must have one entry for each of the {size} tokens, got shape {list(counts.shape)}")
    if vocab_size > size:
        raise ValueError(f"vocab_size {vocab_size} is a vocabulary larger than the tokenizer's {size}")
    strangers = [i for i in keep if not 0 <= i < size]
    if strangers:
        raise ValueError(f"keep holds {strangers[0]}, but the tokenizer has ids 0 to {size - 1}")


def _character_ids(tokenizer: PreTrainedTokenizerFast, ids: Iterable[int]) -> list[int]:
    """The single-character tokens that text in the characters of the tokens `ids` can need."""
    backend, vocab = tokenizer.backend_tokenizer, tokenizer.get_vocab()
    prefix = getattr(backend.model, "continuing_subword_prefix", "")  # "##" of WordPiece; Unigram has one form only
    added = backend.get_added_tokens_decoder()
    characters, inside = set(), set()
    for i in ids:
        token = backend.id_to_token(i)
        if i in added and backend.normalizer:  # an added token is matched in raw text, which the model never sees
            token = backend.normalizer.normalize_str(token)
        body = token.removeprefix(prefix)
        characters.update(body)
        inside.update(body if body != token else body[1:])
    inside.update(character for character in characters - inside if prefix and _joins(backend, character))
    forms = characters | {prefix + character for character in inside}
    byte_tokens = {f"<0x{byte:02X}>" for byte in range(256)}  # what characters without a token fall back to, if at all
    if byte_tokens <= vocab.keys():
        forms |= byte_tokens
    return [vocab[form] for form in forms if form in vocab]


def _joins(backend: Tokenizer, character: str) -> bool:
    """Whether a character can stand inside a word; to BERT, each punctuation mark is a word of its own."""
    text = f"a{character}{character}"
    if backend.normalizer:
        text = backend.normalizer.normalize_str(text)
    words = backend.pre_tokenizer.pre_tokenize_str(text) if backend.pre_tokenizer else [(text, (0, len(text)))]
    return any(character in word[1:] for word, _ in words)
