"""Unreachable tokens: those that a tokenizer has, but makes of no text."""

import json

from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.bpe import byte_alphabet
from hf_lrcompress.vocabulary.tokenizer_trimming import special_ids


def unreachable_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """List the tokens that no word is made into.

    A token is reachable if the tokenizer's model makes it of its own characters, or (with a prefix inside words, as WordPiece
    has it, or a suffix at their ends) of a word that holds them. For Unigram and BPE the first decides: what a span of text
    becomes inside a text is what it becomes alone. Special tokens, added tokens and the alphabet (bytes, single characters) are
    not asked for: nothing is made into them by a choice of the model.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A WordPiece, Unigram or BPE tokenizer; not changed.

    Returns:
        `list[str]`: The tokens, in the order of their ids.
    """
    backend = tokenizer.backend_tokenizer
    state, model = json.loads(backend.to_str()), backend.model
    prefix = getattr(model, "continuing_subword_prefix", None) or ""
    suffix = getattr(model, "end_of_word_suffix", None) or ""
    exempt = {*special_ids(tokenizer), *(token["id"] for token in state["added_tokens"])}
    alphabet, vocab = byte_alphabet(state), sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    bodies = {t: t.removeprefix(prefix).removesuffix(suffix) for t, i in vocab if i not in exempt and t not in alphabet}
    open_tokens = [token for token, body in bodies.items() if len(body) > 1]
    before = sorted({b for t, b in bodies.items() if prefix and not t.startswith(prefix)}, key=len)
    after = sorted({b for t, b in bodies.items() if suffix and t.endswith(suffix)}, key=len)
    for start, end in [("", ""), *((start, "") for start in before), *(("", end) for end in after)]:
        if not open_tokens:
            break
        made = {token: [part.value for part in model.tokenize(start + bodies[token] + end)] for token in open_tokens}
        open_tokens = [token for token in open_tokens if token not in made[token]]
    return open_tokens
