"""Token counting: how often each token occurs in a corpus, every distinct word tokenised once."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, compress, islice

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.bpe import parts_of

BATCH_SIZE = 1000
"""Texts tokenised at a time."""

MOST_WORDS = 500_000
"""Distinct words that are held before they are tokenised and forgotten (about 100 MB)."""

WORDS_TOGETHER = 50
"""Words of the same frequency that are tokenised as one text."""


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> torch.LongTensor:
    """Count how often each token occurs in a corpus, without the special tokens put around a text.

    The counts equal those of tokenising every text. Where the tokenizer treats words apart (as those of BERT, XLM-R and
    ModernBERT do), a word that occurs a thousand times is tokenised once. Texts are read as they are needed and a bounded
    number of words is held, so an iterator over a file of any length can be given.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.
        texts (`Iterable[str]`): Sentences or documents; they are never truncated.

    Returns:
        `torch.LongTensor` of shape `(len(tokenizer),)`: The count of each token id.

    Raises:
        ValueError: If `texts` is one string, or the tokenizer is slow.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list or an iterator of strings, not one string")
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer; save it with a tokenizer.json first")
    backend = _without_limits(tokenizer)
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    words, words_apart, counts = Counter(), _treats_words_apart(backend), torch.zeros(len(tokenizer), dtype=torch.long)
    between_texts = "\n" if _knows_first_word(backend) else " "
    for batch in _batches(texts, BATCH_SIZE):
        plain = _plain(batch, added) if words_apart else [False] * len(batch)
        words.update(between_texts.join(["", *filter(None, compress(batch, plain))]).replace(" ", "\n ").split("\n"))
        if not all(plain):
            counts += _count(backend, [(text, 1) for text, apart in zip(batch, plain, strict=True) if not apart], len(counts))
        if len(words) > MOST_WORDS:
            counts += _count_words(backend, words, len(counts))
            words.clear()
    return counts + _count_words(backend, words, len(counts))


# A space, where one ends a word whatever is around it: these split at it (Metaspace and ByteLevel put it before the next word).
SPLITTING = frozenset(["BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "ByteLevel"])
NOT_JOINING = SPLITTING | {"Digits", "Punctuation", "UnicodeScripts"}
# Normalisers that change characters without regard to what stands on the other side of a space.
LOCAL = frozenset(["NFC", "NFD", "NFKC", "NFKD", "Lowercase"])
LOCAL_AND_STRIPPING = LOCAL | {"BertNormalizer", "Nmt", "StripAccents", "Strip", "Precompiled"}
ONE_CLASS = re.compile(r"(\[[^\[\]]+\]|\\s|[^\\\[\]().*+?{}|^$])([+*]|\{\d+,?\d*\})?")
ODD = re.compile(r"[▁\u0000-\u0008\u000e-\u001f\u007f]")


def _treats_words_apart(backend: Tokenizer) -> bool:
    """Whether the tokens of a plain text (see `_plain`) are those of its words, each with the space before it."""
    pre_tokenizer, normalizer = _parts(backend.pre_tokenizer), _parts(backend.normalizer)
    kinds = [part["type"] for part in pre_tokenizer]
    if not kinds or kinds[0] not in SPLITTING or not NOT_JOINING.issuperset(kinds):
        return False
    if normalizer and any(token.normalized for token in backend.get_added_tokens_decoder().values()):
        return False  # these are looked for in what the normaliser makes of the text
    if any(part.get("prepend_scheme", "always") != "always" or not part.get("split", True) for part in pre_tokenizer):
        return False
    if "ByteLevel" in kinds:  # here a space is a part of its word
        return len(kinds) == 1 and pre_tokenizer[0]["use_regex"] and LOCAL.issuperset(part["type"] for part in normalizer)
    return all(_is_local(part) for part in normalizer)


def _knows_first_word(backend: Tokenizer) -> bool:
    """Whether a word at the beginning of a text may have other tokens than after a space."""
    return any(part["type"] == "ByteLevel" and not part["add_prefix_space"] for part in _parts(backend.pre_tokenizer))


def _parts(component: object | None) -> list[dict]:
    """The settings of a normaliser or pre-tokeniser. Without the vocabulary, whose JSON takes seconds."""
    return parts_of(json.loads(component.__getstate__())) if component else []


def _is_local(part: dict) -> bool:
    if part["type"] != "Replace":
        return part["type"] in LOCAL_AND_STRIPPING
    pattern = part["pattern"]
    return bool(ONE_CLASS.fullmatch(pattern["Regex"])) if "Regex" in pattern else " " not in pattern["String"]


def _plain(texts: list[str], added: list[str]) -> list[bool]:
    """Which texts have the tokens of their words: those are separated by single spaces, none begins or ends with what could act
    across a space, and there is no added token.
    """
    joined = "".join(texts)
    found = [content for content in added if content in joined]
    suspicious = {character for character in set(joined) if _is_suspicious(character)}
    return [_is_plain(text, suspicious) and not any(content in text for content in found) for text in texts]


def _is_suspicious(character: str) -> bool:
    """Marks, control characters, and all white space but the space."""
    return character == "▁" or (character != " " and unicodedata.category(character)[0] in "MCZ")


def _is_plain(text: str, suspicious: set[str]) -> bool:
    if suspicious.isdisjoint(text):
        return "  " not in text and text == text.strip(" ")
    words = text.split()
    if " ".join(words) != text or ODD.search(text):
        return False
    return not any(_is_suspicious(character) for word in words if not word.isalnum() for character in (word[0], word[-1]))


def _count_words(backend: Tokenizer, words: Counter[str], size: int) -> torch.LongTensor:
    """The tokens of words that are known with the space before them. Those of one frequency make common texts."""
    groups, counts = defaultdict(list), torch.zeros(size, dtype=torch.long)
    for word, count in words.items():
        groups[count, word[:1] == " "].append(word)
    texts = chain.from_iterable(_common_texts(group, count, inner) for (count, inner), group in groups.items())
    for batch in _batches(texts, BATCH_SIZE):
        counts += _count(backend, batch, size)
    return counts


def _common_texts(words: list[str], count: int, inner: bool) -> Iterator[tuple[str, int]]:
    """`inner`: words with a space before them."""
    for part in _batches(words, WORDS_TOGETHER if inner else 1):
        yield "".join(part), count


def _count(backend: Tokenizer, texts: list[tuple[str, int]], size: int) -> torch.LongTensor:
    """The tokens of texts, each with how often it occurs."""
    rows = [encoding.ids for encoding in backend.encode_batch_fast([text for text, _ in texts], add_special_tokens=False)]
    ids = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.long)
    lengths, times = (torch.tensor(values, dtype=torch.long) for values in (list(map(len, rows)), [count for _, count in texts]))
    return torch.zeros(size, dtype=torch.long).index_add_(0, ids, times.repeat_interleave(lengths))


def _without_limits(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """One that neither truncates nor pads: a copy, if the caller's tokenizer was last used to do so."""
    given = tokenizer.backend_tokenizer
    if not given.truncation and not given.padding:
        return given
    backend = Tokenizer.from_str(given.to_str())
    backend.encode_special_tokens = given.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    return backend


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch
