"""Facts about the ids of a tokenizer: how many there are, and which stand for no text."""

import json
import re
from collections.abc import Iterator

from tokenizers import models
from transformers import PreTrainedTokenizerFast


def id_count(tokenizer: PreTrainedTokenizerFast) -> int:
    """The number of rows that a tokenizer needs: its highest id plus 1. Ids may have gaps, so it can have fewer tokens."""
    backend = tokenizer.backend_tokenizer
    size = len(tokenizer)
    if all(backend.id_to_token(i) is not None for i in range(size)):  # a tenth of the time that all of the vocabulary takes
        return size
    return max(tokenizer.get_vocab().values()) + 1


def check_rows(tokenizer: PreTrainedTokenizerFast, rows: int) -> None:
    """Raise a `ValueError` if a model of so many embedding rows has none for some of the tokenizer's ids."""
    ids = id_count(tokenizer)
    if rows < ids:
        source = f"{tokenizer.name_or_path}: " if tokenizer.name_or_path else ""
        raise ValueError(f"{source}the model has {rows} rows, but its tokenizer {ids} tokens; they do not belong together")


def unknown_id(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The id that the tokenizer's model gives to what it has no token for.

    The class may name another one as `unk_token`, which is then never made of text.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.

    Returns:
        `int`, *optional*: The id; `None` if the model leaves such text out, as BPE can.

    Raises:
        ValueError: If the model fails at such text, for lack of an unknown token.
    """
    model = tokenizer.backend_tokenizer.model
    if isinstance(model, models.Unigram):
        # It is found in the JSON alone, which is too long to be read; within a token its quotation marks would be escaped.
        found = re.search(rb'"unk_id":(\d+)', model.__getstate__())
        unknown = int(found[1]) if found else None
    elif model.unk_token is None:
        return None
    else:
        unknown = model.token_to_id(model.unk_token)
    if unknown is None:
        raise ValueError(
            f"the tokenizer's {type(model).__name__} model has no unknown token in its vocabulary, so it fails at characters "
            "that it has no token for; add one to it, and name it (unk_id or unk_token of the model in tokenizer.json)"
        )
    return unknown


def special_ids(tokenizer: PreTrainedTokenizerFast, state: dict | None = None) -> list[int]:
    """List the tokens that a tokenizer cannot work without.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.
        state (`dict`, *optional*): Its JSON, where the caller has parsed it already.

    Returns:
        `list[int]`: Ascending ids of the named special tokens, of the added tokens marked special, of the model's
        unknown token, and of what the post-processor and the padding insert.

    Raises:
        ValueError: If the model has no unknown token, but needs one.
    """
    state = state or json.loads(tokenizer.backend_tokenizer.to_str())
    ids: set[int | None] = {*tokenizer.all_special_ids, unknown_id(tokenizer)}
    ids.update(token["id"] for token in state["added_tokens"] if token["special"])
    ids.update(holder[key] for holder, key in post_processor_slots(state["post_processor"]))
    if state["padding"]:
        ids.add(state["padding"]["pad_id"])
    return sorted(i for i in ids if i is not None)


def post_processor_slots(processor: dict | None) -> Iterator[tuple[list, int]]:
    """Every place of a post-processor's JSON that holds a token id, as (list, index)."""
    if processor is None:
        return
    for part in processor.get("processors", ()):  # Sequence
        yield from post_processor_slots(part)
    for token in processor.get("special_tokens", {}).values():  # TemplateProcessing
        yield from ((token["ids"], index) for index in range(len(token["ids"])))
    for name in ("cls", "sep"):  # BertProcessing, RobertaProcessing: [token, id]
        if name in processor:
            yield processor[name], 1
