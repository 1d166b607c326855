"""Counting by distinct words equals tokenising every text."""

import random

import pytest
import torch
from made_up_texts import TRAIN
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from trained_tokenizers import bert, gemma, llama3, modernbert, specials_last, xlm_roberta
from transformers import BertTokenizer, PreTrainedTokenizerFast

from hf_lrcompress import count_tokens
from hf_lrcompress.vocabulary import counting
from hf_lrcompress.vocabulary.counting import _plain, _treats_words_apart


def xlm_roberta_normalised() -> PreTrainedTokenizerFast:
    """With the normaliser of XLM-R in rules: control characters go, invisible ones are white space."""
    backend = Tokenizer.from_str(xlm_roberta().backend_tokenizer.to_str())
    drop = normalizers.Replace(Regex(r"[\x00-\x08\x0b\x0e-\x1f\x7f\u008f\u009f]"), "")
    fold = normalizers.Replace(Regex(r"[\s\u200b-\u200f\u2581\ufeff\ufffd]+"), " ")
    backend.normalizer = normalizers.Sequence([drop, normalizers.NFKC(), fold, normalizers.Strip()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<mask>", unk_token="<unk>")


def xlm_roberta_unstripped() -> PreTrainedTokenizerFast:
    """Spaces at the ends stay, and compatibility characters are taken apart: `´` becomes a space and a mark."""
    backend = Tokenizer.from_str(xlm_roberta().backend_tokenizer.to_str())
    backend.normalizer = normalizers.NFKC()
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="<mask>", unk_token="<unk>")


def modernbert_with_prefix() -> PreTrainedTokenizerFast:
    """A space is put before the first word, too."""
    backend = Tokenizer.from_str(modernbert().backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return PreTrainedTokenizerFast(tokenizer_object=backend, add_prefix_space=True)


MAKERS = {
    "bert": (bert, True),
    "bert_lowercase": (lambda: bert(lowercase=True), True),
    "xlm_roberta": (xlm_roberta_normalised, True),
    "xlm_roberta_unstripped": (xlm_roberta_unstripped, True),
    "modernbert": (modernbert, True),
    "modernbert_with_prefix": (modernbert_with_prefix, True),
    "llama3": (llama3, False),
    "gemma": (gemma, False),
    "added_tokens_are_normalised": (specials_last, False),
}
ODD = [
    *"\u0301\u200b\u200d\ufeff\u00a0\u3000\t\n\r\x00\x1c\x7f▁¨´ﹰΣ·'☃中ß½ﬁ",
    "  ",
    " ",
    "'s",
    "<mask>",
    "[MASK]",
    "fooBar",
    "e\u0301",
]


def odd_texts(count: int) -> list[str]:
    """Sentences with what acts across spaces strewn in: marks, invisible characters, white space, special tokens."""
    rng = random.Random(3)
    texts = []
    for _ in range(count):
        pieces = rng.choice(TRAIN).split(" ")
        for _ in range(rng.randint(0, 4)):
            pieces.insert(rng.randint(0, len(pieces)), rng.choice(ODD) + rng.choice(["", "a", " "]) + rng.choice(["", *ODD]))
        texts.append("".join(piece + rng.choice([" ", " ", " ", ""]) for piece in pieces).strip(" ") + rng.choice(["", "", " "]))
    return texts


@pytest.fixture(scope="module", params=MAKERS)
def case(request):
    make, apart = MAKERS[request.param]
    return make(), apart


def naive_count(tokenizer, texts) -> list[int]:
    ids = [i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    return torch.bincount(torch.tensor(ids), minlength=len(tokenizer)).tolist()


@pytest.mark.parametrize("most", [50, 10**6])
def test_counts_equal_a_naive_count(case, most, monkeypatch):
    tokenizer, apart = case
    monkeypatch.setattr(counting, "MOST_WORDS", most)
    monkeypatch.setattr(counting, "BATCH_SIZE", 100)
    texts = [*TRAIN, *odd_texts(1500), "", "´ahoj svet", "¨", "svet ¸", *TRAIN[:50] * 3]
    assert _treats_words_apart(tokenizer.backend_tokenizer) == apart
    assert sum(_plain(texts, [])) > 500
    assert count_tokens(tokenizer, texts).tolist() == naive_count(tokenizer, texts)


@pytest.mark.parametrize("make, distinct", [(bert, 2), (modernbert_with_prefix, 2), (modernbert, 3)])
def test_a_word_is_tokenised_once(make, distinct, monkeypatch):
    """Of ModernBERT a word at the start of a text is another one."""
    given, count = [], counting._count

    def noted(backend, texts, size):
        given.extend(text for text, _ in texts)
        return count(backend, texts, size)

    monkeypatch.setattr(counting, "_count", noted)
    tokenizer = make()
    assert count_tokens(tokenizer, ["aba bab aba"] * 1000).sum() == 1000 * len(tokenizer.tokenize("aba bab aba"))
    assert sum(len(text.split()) for text in given) == distinct


def test_a_normaliser_that_could_act_across_spaces_is_not_trusted():
    backend = xlm_roberta_normalised().backend_tokenizer
    assert _treats_words_apart(backend)
    for splitter in (pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Punctuation()):
        backend.pre_tokenizer = splitter
        assert not _treats_words_apart(backend)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    for pattern in (Regex("a b"), Regex("(a) (b)"), Regex(r"\s\w"), "a b"):
        backend.normalizer = normalizers.Replace(pattern, "x")
        assert not _treats_words_apart(backend)


def test_a_slow_tokenizer_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na")
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    if tokenizer.is_fast:
        pytest.skip("this transformers version has no slow BERT tokenizer")
    with pytest.raises(ValueError, match="BertTokenizer is a slow tokenizer; save it with a tokenizer.json first"):
        count_tokens(tokenizer, ["a"])
