"""Vocabulary trimming: cut the tokens that are not kept from a tokenizer and its model."""

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from hf_lrcompress.models.architectures import architecture_of
from hf_lrcompress.models.rebuilding import changed, rebuild
from hf_lrcompress.vocabulary.ids import check_rows
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer


@dataclass(frozen=True)
class TrimmedVocab:
    """A model and its tokenizer with a smaller vocabulary.

    Args:
        model ([`~transformers.PreTrainedModel`]): The model, with one embedding row (and one output row) for each token.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The old id of each token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    keep_ids: torch.Tensor


def trim_vocab(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, keep_ids: torch.Tensor) -> TrimmedVocab:
    """Remove tokens from a model and its tokenizer.

    For text that `tokenizer` makes into kept tokens, the returned tokenizer makes the same tokens and the returned model
    computes the same hidden states, and the same logits for the kept tokens. Rows that belong to no token are removed.

    Args:
        model ([`~transformers.PreTrainedModel`]): An encoder, with or without a head; not changed.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its WordPiece, Unigram or BPE tokenizer; not changed.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The tokens to keep, ascending, from [`select_tokens`].

    Returns:
        [`TrimmedVocab`]: New model, new tokenizer and `keep_ids`.

    Raises:
        ValueError: If the model has fewer rows than the tokenizer has tokens, a special token of the tokenizer or the config
            is not kept, or the padding token of a model that counts positions from it would move.
    """
    keep_ids = torch.as_tensor(keep_ids)
    config = trimmed_config(model.config, tokenizer, keep_ids)
    trimmed = trim_tokenizer(tokenizer, keep_ids.tolist())
    return TrimmedVocab(rebuild(model, config, lambda name, dim, length: keep_ids), trimmed, keep_ids)


def trimmed_config(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, keep_ids: torch.Tensor) -> PretrainedConfig:
    """The config of a model with a smaller vocabulary, without the model.

    Args:
        config ([`~transformers.PretrainedConfig`]): The config of the model.
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Its tokenizer.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)`): The tokens to keep, ascending.

    Returns:
        [`~transformers.PretrainedConfig`]: A new config, in which every token id is the new one.

    Raises:
        ValueError: What [`trim_vocab`] would raise.
    """
    check_rows(tokenizer, config.vocab_size)
    trimmed = changed(config, vocab_size=len(keep_ids), **_new_token_ids(config, keep_ids.tolist()))
    if architecture_of(config).position_offset and trimmed.pad_token_id != config.pad_token_id:
        raise ValueError("this model counts positions from its padding token, which must keep its id: keep all tokens before it")
    return trimmed


def config_tokens(config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens that a config names by their ids, which must be kept whether the tokenizer calls them special or not."""
    ids = {i for ids in _token_ids(config).values() for i in ids if i >= 0}
    return [token for token in tokenizer.convert_ids_to_tokens(sorted(ids)) if token is not None]


def _token_ids(config: PretrainedConfig) -> dict[str, list[int]]:
    """Every `*_token_id` of a config, as a list."""
    token_ids = {key: value for key, value in config.to_dict().items() if key.endswith("_token_id") and value is not None}
    return {key: value if isinstance(value, list) else [value] for key, value in token_ids.items()}


def _new_token_ids(config: PretrainedConfig, keep_ids: list[int]) -> dict[str, int | list[int]]:
    """Every `*_token_id` of a config as it is after trimming."""
    new_id = {old: new for new, old in enumerate(keep_ids)}
    renumbered: dict[str, int | list[int]] = {}
    for key, old_ids in _token_ids(config).items():
        for old_id in old_ids:
            if old_id not in new_id:
                raise ValueError(
                    f"the config's {key} {old_id} is not among the kept tokens; give that token to select_tokens, in keep"
                )
        new_ids = [new_id[old_id] for old_id in old_ids]
        renumbered[key] = new_ids if isinstance(getattr(config, key), list) else new_ids[0]
    return renumbered
