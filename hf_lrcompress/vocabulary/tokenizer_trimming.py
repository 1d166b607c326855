"""Tokenizer trimming: keep some of the tokens of a fast tokenizer, one function per tokenizer model."""

import json
from collections.abc import Sequence
from itertools import zip_longest

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.models.tokenizers import require_fast
from hf_lrcompress.vocabulary.bpe import trim_bpe
from hf_lrcompress.vocabulary.ids import id_count, post_processor_slots, special_ids

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
    "extra_special_tokens",  # of transformers 5 (a list), where 4 has them among the special tokens' names
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
    for holder, key in post_processor_slots(state["post_processor"]):
        holder[key] = new_id[holder[key]]
    if state["padding"]:
        state["padding"]["pad_id"] = new_id[state["padding"]["pad_id"]]

    backend = Tokenizer.from_str(json.dumps(state))
    trimmed = type(tokenizer)(tokenizer_object=backend, **_arguments(tokenizer))
    _check_result(tokenizer, trimmed, keep_ids, backend)
    return trimmed


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
    has_token = tokenizer.backend_tokenizer.id_to_token
    strangers = [i for i in keep_ids if i < 0 or has_token(i) is None]
    if strangers:
        last = id_count(tokenizer) - 1
        raise ValueError(f"keep_ids holds {strangers[0]}, which is no token's; the tokenizer has ids 0 to {last}")
    missing = sorted(set(special) - set(keep_ids))
    if missing:
        names = ", ".join(f"{tokenizer.convert_ids_to_tokens(i)} ({i})" for i in missing)
        raise ValueError(f"keep_ids must hold all special tokens, but lacks {names}")


def _check_result(
    tokenizer: PreTrainedTokenizerFast, trimmed: PreTrainedTokenizerFast, keep_ids: list[int], backend: Tokenizer
) -> None:
    """Refuse what is not `backend` any more, or has other tokens than the kept ones."""
    name = type(tokenizer).__name__
    made = trimmed.convert_ids_to_tokens(list(range(id_count(trimmed))))
    for kept, token in zip_longest(tokenizer.convert_ids_to_tokens(keep_ids), made):
        if kept != token:
            raise ValueError(
                f"{name} has the token {token!r} instead of {kept!r} when rebuilt; "
                "do two tokens share an id, or has an added token one among the model's? Give each its own, in that order"
            )
    # Not the JSON that `backend` was made from: a score read from JSON can differ in its last digit.
    expected = json.loads(backend.to_str())
    rebuilt = json.loads(trimmed.backend_tokenizer.to_str())
    changed = [part for part in expected if rebuilt[part] != expected[part]]
    if changed:
        parts = ", ".join(changed)
        raise ValueError(f"{name} changes the {parts} of this tokenizer when rebuilt; save it as a PreTrainedTokenizerFast first")
