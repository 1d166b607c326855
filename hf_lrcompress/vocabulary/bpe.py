"""BPE trimming: which tokens a merge table makes a token from, and which to give up first when they are too many."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

from tokenizers import pre_tokenizers

BYTE_TOKENS = frozenset(f"<0x{byte:02X}>" for byte in range(256))


class MergeTable:
    """How a BPE model makes its tokens.

    A token is made of its *parents*: what is left of it before the last merge when BPE runs on the token alone. Within any text,
    a token is made exactly so: merges inside its span do not depend on what is around it, since none crosses its border. So a
    set of tokens that holds every token's parents (a *closed* set), with the merges inside the set in their old order, makes the
    same tokens of every text that was made of tokens of the set: at each step the merge that is due is there and the first.

    Args:
        model (`dict`): The part `model` of a tokenizer's JSON.
        added (`Mapping[str, int]`): Added tokens and their ids. They are found in the text and have no parents, but for those
            that merges make as well: of the text as it is normalised, in which they may not be found.

    Raises:
        ValueError: If the model drops merges at random.
    """

    def __init__(self, model: dict, added: Mapping[str, int]) -> None:
        if model["dropout"]:
            raise ValueError("this tokenizer drops merges at random; set tokenizer.backend_tokenizer.model.dropout = None first")
        self._vocab: dict[str, int] = model["vocab"]
        self._id_of = model["vocab"] | added
        self._added = added.keys()
        self._rank = {tuple(merge): rank for rank, merge in enumerate(model["merges"])}
        self._prefix = model["continuing_subword_prefix"] or ""
        self._suffix = model["end_of_word_suffix"] or ""
        self._parents: dict[str, tuple[str, ...]] = {}

    def parents(self, token: str) -> tuple[str, ...]:
        """The tokens that a token is made of in the last step; none for a symbol of the alphabet, a byte, what no merge makes."""
        if token not in self._parents:
            made_of = () if token in BYTE_TOKENS else self._before_last_merge(token)
            if token in self._added and made_of not in self._rank:
                made_of = ()
            self._parents[token] = tuple(part for part in made_of if part in self._vocab and part != token)
        return self._parents[token]

    def close(self, tokens: Iterable[str]) -> set[str]:
        """The smallest closed set that holds `tokens`."""
        closed: set[str] = set()
        open_tokens = list(tokens)
        while open_tokens:
            token = open_tokens.pop()
            if token not in closed:
                closed.add(token)
                open_tokens.extend(self.parents(token))
        return closed

    def shrink(self, tokens: set[str], counts: Mapping[str, float], required: set[str], size: int) -> set[str]:
        """Give up tokens of a closed set until `size` are left.

        The next to go is always the rarest of those that no other token is made of; of equally rare ones, that with the highest
        id. Its occurrences then fall to its parents.

        Args:
            tokens (`set[str]`): A closed set; not changed.
            counts (`Mapping[str, float]`): How often each token occurs; not changed.
            required (`set[str]`): A closed set of tokens that stay.
            size (`int`): The number of tokens to leave, not smaller than that of `required`.
        """
        kept = set(tokens)
        occurrences = dict(counts)
        children = Counter(parent for token in kept for parent in set(self.parents(token)))
        leaves = [(occurrences.get(t, 0), -self._id_of[t], t) for t in kept - required if not children[t]]
        heapq.heapify(leaves)
        while len(kept) > size:
            count, _, token = heapq.heappop(leaves)
            kept.remove(token)
            for parent in self.parents(token):
                occurrences[parent] = occurrences.get(parent, 0) + count
            for parent in set(self.parents(token)):
                children[parent] -= 1
                if not children[parent] and parent not in required:
                    heapq.heappush(leaves, (occurrences[parent], -self._id_of[parent], parent))
        return kept

    def merged(self, left: str, right: str) -> str:
        """The token that a merge makes."""
        return left + right[len(self._prefix) :]

    def _before_last_merge(self, token: str) -> tuple[str, ...]:
        symbols = self._symbols(token)
        while len(symbols) > 2:
            ranks = [self._rank.get(pair, math.inf) for pair in pairwise(symbols)]
            first = min(ranks)
            if first == math.inf:
                break
            position = ranks.index(first)
            symbols[position : position + 2] = [self.merged(symbols[position], symbols[position + 1])]
        return tuple(symbols)

    def _symbols(self, token: str) -> list[str]:
        """The symbols of the alphabet that a token is written in."""
        body = token.removeprefix(self._prefix).removesuffix(self._suffix)
        if not body:
            return [token]
        symbols = [self._prefix + character for character in body]
        if not token.startswith(self._prefix):
            symbols[0] = body[0]
        if token.endswith(self._suffix):
            symbols[-1] += self._suffix
        return symbols


def merge_table(state: dict) -> MergeTable:
    """The merge table of a BPE tokenizer's JSON."""
    return MergeTable(state["model"], {token["content"]: token["id"] for token in state["added_tokens"]})


def byte_alphabet(state: dict) -> set[str]:
    """The tokens that stand for single bytes, in a byte-level tokenizer (BPE) or one that falls back to bytes (BPE, Unigram)."""
    alphabet = set(pre_tokenizers.ByteLevel.alphabet()) if is_byte_level(state) else set()
    return alphabet | BYTE_TOKENS if state["model"].get("byte_fallback") else alphabet


def is_byte_level(state: dict) -> bool:
    """Whether the characters of the vocabulary stand for bytes."""
    parts = parts_of(state["normalizer"]) + parts_of(state["pre_tokenizer"])
    return any(part["type"] == "ByteLevel" for part in parts)


def parts_of(component: dict | None) -> list[dict]:
    """A normaliser or pre-tokeniser as a list of parts, whether it is a sequence or not."""
    if component is None:
        return []
    inner = component.get("normalizers") or component.get("pretokenizers")
    if not inner:
        return [component]
    return [part for each in inner for part in parts_of(each)]


def trim_bpe(state: dict, new_id: Mapping[int, int]) -> dict:
    """The model with the tokens of `new_id` and the merges whose three members are among them, in order.

    Args:
        state (`dict`): A tokenizer's JSON; not changed.
        new_id (`Mapping[int, int]`): The new id of each kept token, by its old one.

    Raises:
        ValueError: If a token is kept without the tokens that it is made of.
    """
    model = state["model"]
    table = merge_table(state)
    vocab = {token: new_id[old] for token, old in model["vocab"].items() if old in new_id}
    for token in vocab:
        for part in table.parents(token):
            if part not in vocab:
                raise ValueError(f"keep_ids holds {token!r}, but not {part!r} that it is made of; use select_tokens")
    merges = [pair for pair in model["merges"] if vocab.keys() >= set(pair) | {table.merged(*pair)}]
    return {**model, "vocab": vocab, "merges": merges}
