"""The single-character tokens that a corpus needs, so that what is trimmed does not make its words unknown."""

import unicodedata
from collections import Counter
from collections.abc import Iterable

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_lrcompress.vocabulary.bpe import BYTE_TOKENS

CHARACTER_COVERAGE = 0.9999
"""The characters that must stay make up this share of a corpus' characters."""

BLOCK = 128
"""Unicode keeps the letters of a script, and the punctuation of all scripts, in blocks of mostly this many characters."""


def alphabet_ids(
    tokenizer: PreTrainedTokenizerFast, counts: torch.Tensor, keep: Iterable[int], special: set[int]
) -> tuple[set[int], list[int]]:
    """Choose the single-character tokens of a corpus.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerFast`]): A tokenizer that is not byte-level; not changed.
        counts (`torch.Tensor` of shape `(len(tokenizer),)`): How often each token occurs.
        keep (`Iterable[int]`): Ids of tokens that are kept in any case, whose characters must stay as well.
        special (`set[int]`): Ids of tokens that are not written in characters.

    Returns:
        `tuple[set[int], list[int]]`: The ids of the characters that make up 99.99 % of the corpus (and `keep`), and the ids of
        those that would be good to have: its rarer characters, most frequent first, then visible characters that do not occur
        but are in the same Unicode blocks as the former, by id.
    """
    forms = _Forms(tokenizer.backend_tokenizer)
    occurring: Counter[str] = Counter()
    for i, count in enumerate(counts.tolist()):
        if count and i not in special:
            for character in forms.read(i):
                occurring[character] += count
    needed, rest = _cover(occurring)
    for i in set(keep) - special:
        needed.update(forms.read(i))
    blocks = {ord(character) // BLOCK for character in needed}
    singles = sorted((i, token) for token, i in forms.vocab.items() if len(token) == 1)
    near = [token for _, token in singles if ord(token) // BLOCK in blocks and token not in occurring]
    needed_ids = {i for character in needed for i in forms.ids_of(character)}
    visible = list(filter(_is_visible, near))
    others = [i for character in [*rest, *visible] for i in forms.ids_of(character)]
    return needed_ids, [i for i in others if i not in needed_ids]


def _is_visible(character: str) -> bool:
    """Whether a character is none of Unicode's "other" ones: control, format, private, unassigned."""
    return unicodedata.category(character)[0] != "C"


def _cover(occurring: Counter[str]) -> tuple[set[str], list[str]]:
    """The most frequent characters that make up the share, and the others."""
    threshold = CHARACTER_COVERAGE * sum(occurring.values())
    ranked = occurring.most_common()
    covered = 0.0
    for position, (_, count) in enumerate(ranked):
        if covered >= threshold:
            return {character for character, _ in ranked[:position]}, [character for character, _ in ranked[position:]]
        covered += count
    return set(occurring), []


class _Forms:
    """How single characters are written as tokens, at the start of a word, inside it and at its end."""

    def __init__(self, backend: Tokenizer) -> None:
        self.vocab = backend.get_vocab()
        self._backend = backend
        self._added = backend.get_added_tokens_decoder()
        self._prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""  # "##" of WordPiece
        self._suffix = getattr(backend.model, "end_of_word_suffix", None) or ""
        self._inside: set[str] = set()

    def read(self, token_id: int) -> str:
        """The characters of a token; none where ids have a gap."""
        token = self._backend.id_to_token(token_id) or ""
        if token in BYTE_TOKENS:
            return ""
        if token_id in self._added and self._backend.normalizer:  # it is matched in raw text, which the model never sees
            token = self._backend.normalizer.normalize_str(token)
        body = token.removeprefix(self._prefix).removesuffix(self._suffix)
        self._inside.update(body if token.startswith(self._prefix) else body[1:])
        return body

    def ids_of(self, character: str) -> list[int]:
        """The ids of the tokens that are this character only."""
        starts = [""]
        if self._prefix and (character in self._inside or self._joins(character)):
            starts.append(self._prefix)
        ends = ["", self._suffix] if self._suffix else [""]
        forms = [start + character + end for start in starts for end in ends]
        return [self.vocab[form] for form in forms if form in self.vocab]

    def _joins(self, character: str) -> bool:
        """Whether a character can stand inside a word; to BERT, each punctuation mark is a word of its own."""
        text = f"a{character}{character}"
        if self._backend.normalizer:
            text = self._backend.normalizer.normalize_str(text)
        splitter = self._backend.pre_tokenizer
        words = splitter.pre_tokenize_str(text) if splitter else [(text, (0, len(text)))]
        return any(character in word[1:] for word, _ in words)
