"""Token counting: how often each token occurs in a corpus, every distinct word tokenised once."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, compress, islice
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.models.tokenizers import require_fast
from hf_lrcompress.vocabulary.bpe import parts_of
from hf_lrcompress.vocabulary.ids import id_count, unknown_id

Item = TypeVar("Item")

BATCH_SIZE = 256
"""Texts tokenised at a time."""

MOST_WORDS = 500_000
"""Distinct words that are held before they are tokenised and forgotten (about 100 MB)."""

WORDS_TOGETHER = 50
"""Words of the same frequency that are tokenised as one text."""


def count_tokens(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> torch.Tensor:
    """Count how often each token occurs in a corpus, without the special tokens put around a text.

    The counts equal those of tokenising every text. Where the tokenizer treats words apart (as those of BERT, XLM-R and
    ModernBERT do), a word that occurs a thousand times is tokenised once. Texts are read as they are needed and a bounded
    number of words is held, so an iterator over a file of any length can be given.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): Any fast tokenizer; not changed.
        texts (`Iterable[str]`): Sentences or documents; they are never truncated.

    Returns:
        `torch.LongTensor` of shape `(len(tokenizer),)`: The count of each token id. Where ids have gaps, up to the highest.

    Raises:
        ValueError: If `texts` is one string, or the tokenizer is slow or lacks an unknown token that its model needs.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list or an iterator of strings, not one string")
    require_fast(tokenizer)
    unknown_id(tokenizer)
    backend = _without_limits(tokenizer)
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    words_apart = _treats_words_apart(backend)
    before_text = "\n" if _knows_first_word(backend) else " "
    words: Counter[str] = Counter()
    counts = torch.zeros(id_count(tokenizer), dtype=torch.long)
    for batch in _batches(texts, BATCH_SIZE):
        plain = _plain(batch, added) if words_apart else [False] * len(batch)
        spaced = "".join(before_text + text for text in compress(batch, plain) if text)
        words.update(spaced.replace(" ", "\n ").split("\n"))
        others = [(text, 1) for text, is_plain in zip(batch, plain, strict=True) if not is_plain]
        if others:
            counts += _count(backend, others, len(counts))
        if len(words) > MOST_WORDS:
            counts += _count_words(backend, words, len(counts))
            words.clear()
    return counts + _count_words(backend, words, len(counts))


SPLITTING = frozenset(["BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "ByteLevel"])
"""Pre-tokenisers to which a space ends a word whatever is around it (Metaspace and ByteLevel put it before the next word)."""
NOT_JOINING = SPLITTING | {"Digits", "Punctuation", "UnicodeScripts"}
LOCAL = frozenset(["NFC", "NFD", "NFKC", "NFKD", "Lowercase"])
"""Normalisers that change characters without regard to what stands on the other side of a space."""
LOCAL_AND_STRIPPING = LOCAL | {"BertNormalizer", "Nmt", "StripAccents", "Strip", "Precompiled"}
ONE_CLASS = re.compile(r"(\[[^\[\]]+\]|\\s|[^\\\[\]().*+?{}|^$])([+*]|\{\d+,?\d*\})?")
ODD = re.compile(r"[▁\u0000-\u0008\u000e-\u001f\u007f]")


def _treats_words_apart(backend: Tokenizer) -> bool:
    """Whether the tokens of a plain text (see `_plain`) are those of its words, each with the space before it."""
    pre_tokenizer = _parts(backend.pre_tokenizer)
    normalizer = _parts(backend.normalizer)
    kinds = [part["type"] for part in pre_tokenizer]
    if not kinds or kinds[0] not in SPLITTING or not NOT_JOINING.issuperset(kinds):
        return False
    if normalizer and any(token.normalized for token in backend.get_added_tokens_decoder().values()):
        return False  # these are looked for in what the normaliser makes of the text
    if any(part.get("prepend_scheme", "always") != "always" or not part.get("split", True) for part in pre_tokenizer):
        return False
    if "ByteLevel" in kinds:  # here a space is a part of its word
        local = LOCAL.issuperset(part["type"] for part in normalizer)
        return local and len(kinds) == 1 and pre_tokenizer[0]["use_regex"]
    return all(_is_local(part) for part in normalizer)


def _knows_first_word(backend: Tokenizer) -> bool:
    """Whether a word at the beginning of a text may have other tokens than after a space."""
    return any(part["type"] == "ByteLevel" and not part["add_prefix_space"] for part in _parts(backend.pre_tokenizer))


def _parts(component: Any) -> list[dict]:
    """The settings of a normaliser or pre-tokeniser. Without the vocabulary, whose JSON takes seconds."""
    return parts_of(json.loads(component.__getstate__())) if component else []


def _is_local(part: dict) -> bool:
    if part["type"] != "Replace":
        return part["type"] in LOCAL_AND_STRIPPING
    pattern = part["pattern"]
    return bool(ONE_CLASS.fullmatch(pattern["Regex"])) if "Regex" in pattern else " " not in pattern["String"]


def _plain(texts: list[str], added: list[str]) -> list[bool]:
    """Which texts have the tokens of their words.

    In these texts words are separated by single spaces, no word begins or ends with what could act across a space, and there is
    no added token.
    """
    joined = "".join(texts)
    found = [content for content in added if content in joined]
    suspicious = {character for character in set(joined) if _is_suspicious(character)}
    return [_is_plain(text, suspicious, found) for text in texts]


def _is_suspicious(character: str) -> bool:
    """Marks, control characters, all white space but the space, and what NFKC makes a space and a mark of, such as `´`."""
    if character in "▁ ":
        return character == "▁"
    return unicodedata.category(character)[0] in "MCZ" or unicodedata.normalize("NFKC", character).startswith(" ")


def _is_plain(text: str, suspicious: set[str], added: list[str]) -> bool:
    if any(content in text for content in added):
        return False
    if suspicious.isdisjoint(text):
        return "  " not in text and text == text.strip(" ")
    words = text.split()
    if " ".join(words) != text or ODD.search(text):
        return False
    ends = {character for word in words if not word.isalnum() for character in (word[0], word[-1])}
    return not any(map(_is_suspicious, ends))


def _count_words(backend: Tokenizer, words: Counter[str], size: int) -> torch.Tensor:
    """Count the tokens of words that are known with the space before them; words of one frequency make common texts."""
    groups: dict[tuple[int, bool], list[str]] = defaultdict(list)
    for word, count in words.items():
        groups[count, word.startswith(" ")].append(word)
    texts = chain.from_iterable(_common_texts(group, count, inner) for (count, inner), group in groups.items())
    counts = torch.zeros(size, dtype=torch.long)
    for batch in _batches(texts, BATCH_SIZE):
        counts += _count(backend, batch, size)
    return counts


def _common_texts(words: list[str], count: int, inner: bool) -> Iterator[tuple[str, int]]:
    """Texts made of words that occur `count` times; `inner` words have a space before them and can stand together."""
    for part in _batches(words, WORDS_TOGETHER if inner else 1):
        yield "".join(part), count


def _count(backend: Tokenizer, texts: list[tuple[str, int]], size: int) -> torch.Tensor:
    """Count the tokens of texts that come with how often each occurs."""
    encodings = backend.encode_batch_fast([text for text, _ in texts], add_special_tokens=False)
    rows = [encoding.ids for encoding in encodings]
    ids = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.long)
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    times = torch.tensor([count for _, count in texts], dtype=torch.long)
    return torch.zeros(size, dtype=torch.long).index_add_(0, ids, times.repeat_interleave(lengths))


def _without_limits(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The backend of a tokenizer that neither truncates nor pads: a copy, where the caller's does."""
    given = tokenizer.backend_tokenizer
    if not given.truncation and not given.padding:
        return given
    backend = Tokenizer.from_str(given.to_str())
    backend.encode_special_tokens = given.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    return backend


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
