"""Unreachable tokens: those that a tokenizer has, but that it makes of no text."""

import json

from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.bpe import byte_alphabet
from hf_lrcompress.vocabulary.ids import special_ids


def unreachable_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """List the tokens that no word is made into.

    A token is reachable if the tokenizer's model makes it of its own characters, or (with a prefix inside words, as WordPiece
    has it, or a suffix at their ends) of a word that holds them. For Unigram and BPE the first decides: what a span of text
    becomes inside a text is what it becomes alone. Special tokens, added tokens and the alphabet (bytes, single characters) are
    not asked for: nothing is made into them by a choice of the model.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A WordPiece, Unigram or BPE tokenizer; not changed.

    Returns:
        `list[str]`: The unreachable tokens, in the order of their ids.
    """
    model = tokenizer.backend_tokenizer.model
    prefix = getattr(model, "continuing_subword_prefix", None) or ""
    suffix = getattr(model, "end_of_word_suffix", None) or ""
    bodies = {token: token.removeprefix(prefix).removesuffix(suffix) for token in _chosen_tokens(tokenizer)}
    before = {body for token, body in bodies.items() if prefix and not token.startswith(prefix)}
    after = {body for token, body in bodies.items() if suffix and token.endswith(suffix)}
    words = [("", "")]
    words += [(start, "") for start in sorted(before, key=len)]
    words += [("", end) for end in sorted(after, key=len)]
    open_tokens = [token for token, body in bodies.items() if len(body) > 1]
    for start, end in words:
        if not open_tokens:
            break
        made = {token: [part.value for part in model.tokenize(start + bodies[token] + end)] for token in open_tokens}
        open_tokens = [token for token in open_tokens if token not in made[token]]
    return open_tokens


def _chosen_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tokens that the model makes by a choice, in the order of their ids."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = tokenizer.get_vocab()
    exempt = byte_alphabet(state) | {token["content"] for token in state["added_tokens"]}
    exempt.update(tokenizer.convert_ids_to_tokens(special_ids(tokenizer, state)))
    return sorted(vocab.keys() - exempt, key=vocab.__getitem__)
