"""Tokenizer trimming: keep some of the tokens of a fast tokenizer, one function per tokenizer model."""

import json
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.models.loading import require_fast
from hf_lrcompress.vocabulary.bpe import trim_bpe

STALE_ARGUMENTS = frozenset(
    [
        "vocab",
        "merges",
        "vocab_file",
        "merges_file",
        "tokenizer_file",
        "spm_file",
        "special_tokens_map_file",
        "added_tokens_decoder",
        "tokenizer_object",
        "from_slow",
    ]
)
"""Arguments that describe the untrimmed vocabulary; everything else a tokenizer was made with is passed on."""

CURRENT_ATTRIBUTES = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "chat_template",
)
"""Attributes that may have been set after the tokenizer was made."""


def trim_tokenizer(tokenizer: PreTrainedTokenizerFast, keep_ids: Sequence[int] | torch.Tensor) -> PreTrainedTokenizerFast:
    """Remove tokens from a fast tokenizer.

    Old id `keep_ids[i]` has new id `i`. Text that `tokenizer` makes into kept tokens, the returned tokenizer makes
    into the same tokens. There is one exception, to the better: a word that is unknown to a WordPiece model can become
    known where a removed token no longer hides the way through it.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A WordPiece, Unigram or BPE tokenizer; not changed.
        keep_ids (`torch.LongTensor` of shape `(vocab_size,)` or `Sequence[int]`):
            The tokens to keep, ascending, among them all special tokens (see [`special_ids`]) and, with BPE, what each is
            made of (see [`MergeTable`]); [`select_tokens`] gives such a set.

    Returns:
        [`~transformers.PreTrainedTokenizerFast`]: A new tokenizer of the same class with `vocab_size` tokens. The
        files that `save_pretrained` writes for it hold the trimmed vocabulary only.

    Raises:
        ValueError: If the ids are not ascending, not unique or not the tokenizer's, if a special token or what a BPE token
            is made of is missing, if the tokenizer is slow, of another model or drops merges at random, or if its class does
            not rebuild it faithfully.

    Example:
    ```python
    >>> keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, texts), 40_000)
    >>> trimmed = trim_tokenizer(tokenizer, keep_ids)
    ```
    """
    require_trimmable(tokenizer)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    keep_ids = torch.as_tensor(keep_ids).tolist()
    _check_ids(tokenizer, keep_ids, special_ids(tokenizer, state))
    new_id = {old: new for new, old in enumerate(keep_ids)}

    state["model"] = TRIM_MODEL[state["model"]["type"]](state, new_id)
    kept = [token for token in state["added_tokens"] if token["id"] in new_id]
    state["added_tokens"] = [{**token, "id": new_id[token["id"]]} for token in kept]
    for holder, key in _post_processor_slots(state["post_processor"]):
        holder[key] = new_id[holder[key]]
    if state["padding"]:
        state["padding"]["pad_id"] = new_id[state["padding"]["pad_id"]]

    trimmed = type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **_arguments(tokenizer))
    _check_result(tokenizer, trimmed, keep_ids, state)
    return trimmed


def special_ids(tokenizer: PreTrainedTokenizerFast, state: dict | None = None) -> list[int]:
    """List the tokens that a tokenizer cannot work without.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.
        state (`dict`, *optional*): Its JSON, where the caller has parsed it already.

    Returns:
        `list[int]`: Ascending ids of the named special tokens, of the added tokens marked special, of the model's
        unknown token, and of what the post-processor and the padding insert.
    """
    state = state or json.loads(tokenizer.backend_tokenizer.to_str())
    model = state["model"]
    ids = set(tokenizer.all_special_ids)
    ids.update(token["id"] for token in state["added_tokens"] if token["special"])
    ids.update(holder[key] for holder, key in _post_processor_slots(state["post_processor"]))
    if state["padding"]:
        ids.add(state["padding"]["pad_id"])
    ids.add(model["unk_id"] if "unk_id" in model else model["vocab"].get(model["unk_token"]))
    return sorted(ids - {None})


def require_trimmable(tokenizer: PreTrainedTokenizerFast) -> None:
    """Raise a `ValueError` that names the tokenizer's class or model if it cannot be trimmed."""
    require_fast(tokenizer)
    name = type(tokenizer.backend_tokenizer.model).__name__
    if name not in TRIM_MODEL:
        raise ValueError(f"cannot trim a {name} tokenizer; only {', '.join(TRIM_MODEL)} tokenizers")


def _trim_wordpiece(state: dict, new_id: dict[int, int]) -> dict:
    vocab = {token: new_id[old] for token, old in state["model"]["vocab"].items() if old in new_id}
    return {**state["model"], "vocab": vocab}


def _trim_unigram(state: dict, new_id: dict[int, int]) -> dict:
    """Keep pieces with their scores.

    A character without a piece costs the vocabulary's lowest score minus 10. Were the piece with that score gone, unknown
    characters would become cheaper: so the unknown token, whose own score is not used, takes that score over.
    """
    pieces = state["model"]["vocab"]
    unknown = state["model"]["unk_id"]
    kept = [pieces[old] for old in new_id if old < len(pieces)]
    lowest = min(score for _, score in pieces)
    if lowest < min(score for _, score in kept):
        kept[new_id[unknown]] = [pieces[unknown][0], lowest]
    return {**state["model"], "vocab": kept, "unk_id": new_id[unknown]}


TRIM_MODEL = {"WordPiece": _trim_wordpiece, "Unigram": _trim_unigram, "BPE": trim_bpe}


def _post_processor_slots(processor: dict | None) -> Iterator[tuple[list, int]]:
    """Every place of a post-processor that holds a token id, as (list, index)."""
    if processor is None:
        return
    for part in processor.get("processors", ()):  # Sequence
        yield from _post_processor_slots(part)
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        yield from ((token["ids"], index) for index in range(len(token["ids"])))
    for name in ("cls", "sep"):  # BertProcessing, RobertaProcessing: [token, id]
        if name in processor:
            yield processor[name], 1


def _arguments(tokenizer: PreTrainedTokenizerFast) -> dict:
    """What to make a tokenizer of the same class from, apart from its vocabulary: as it is now, not as it was made."""
    special = dict.fromkeys(tokenizer.SPECIAL_TOKENS_ATTRIBUTES)
    names = tokenizer.init_kwargs.keys() | set(CURRENT_ATTRIBUTES)
    names -= special.keys() | set(STALE_ARGUMENTS)
    arguments = {name: getattr(tokenizer, name, tokenizer.init_kwargs.get(name)) for name in names}
    if hasattr(tokenizer, "special_tokens_map_extended"):  # transformers 4: with lstrip, rstrip ...
        return {**arguments, **special, **tokenizer.special_tokens_map_extended}
    return {**arguments, **special, **tokenizer.special_tokens_map}


def _check_ids(tokenizer: PreTrainedTokenizerFast, keep_ids: list[int], special: list[int]) -> None:
    for before, after in zip(keep_ids, keep_ids[1:], strict=False):
        if before == after:
            raise ValueError(f"keep_ids holds {before} twice")
        if before > after:
            raise ValueError(f"keep_ids must be ascending, but {after} comes after {before}")
    size = len(tokenizer)
    strangers = [i for i in keep_ids if not 0 <= i < size]
    if strangers:
        raise ValueError(f"keep_ids holds {strangers[0]}, but the tokenizer has ids 0 to {size - 1}")
    missing = sorted(set(special) - set(keep_ids))
    if missing:
        names = ", ".join(f"{tokenizer.convert_ids_to_tokens(i)} ({i})" for i in missing)
        raise ValueError(f"keep_ids must hold all special tokens, but lacks {names}")


def _check_result(tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, keep_ids: list[int], state: dict) -> None:
    old = tokenizer.backend_tokenizer
    new = trimmed.backend_tokenizer
    tokens = [old.id_to_token(i) for i in keep_ids]
    if None in tokens or tokens != [new.id_to_token(i) for i in range(len(trimmed))]:
        raise ValueError(f"the tokenizer's ids are not 0 to {len(tokenizer) - 1} without gaps; it cannot be trimmed")
    rebuilt = json.loads(new.to_str())
    changed = [part for part in state if rebuilt[part] != state[part]]
    if changed:
        raise ValueError(f"{type(tokenizer).__name__} changes the {', '.join(changed)} of this tokenizer when rebuilt")
