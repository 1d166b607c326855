"""Counting the tokens of a corpus and choosing which to keep."""

from collections import Counter

import pytest
import torch
from tiny_tokenizers import CHARACTERS, SPECIAL, TEXTS, WORDS, unigram, wordpiece
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from hf_lrcompress.vocabulary import counting
from hf_lrcompress.vocabulary.alphabet import alphabet_ids
from hf_lrcompress.vocabulary.counting import count_tokens
from hf_lrcompress.vocabulary.ids import special_ids
from hf_lrcompress.vocabulary.selection import select_tokens
from hf_lrcompress.vocabulary.tokenizer_trimming import trim_tokenizer

MAKERS = {"wordpiece": wordpiece, "unigram": unigram}


@pytest.fixture(params=MAKERS)
def tokenizer(request):
    return MAKERS[request.param]()


def names(tokenizer, ids) -> set[str]:
    return set(tokenizer.convert_ids_to_tokens([int(i) for i in ids]))


def naive_count(tokenizer, texts) -> list[int]:
    counter = Counter(i for text in texts for i in tokenizer(text, add_special_tokens=False)["input_ids"])
    return [counter[i] for i in range(len(tokenizer))]


def counts_of(tokenizer, **counts: int) -> torch.Tensor:
    result = torch.zeros(len(tokenizer), dtype=torch.long)
    for token, count in counts.items():
        result[tokenizer.convert_tokens_to_ids(token)] = count
    return result


def test_counts_equal_a_naive_count(tokenizer):
    counts = count_tokens(tokenizer, TEXTS)
    assert counts.dtype == torch.long and counts.shape == (len(tokenizer),)
    assert counts.tolist() == naive_count(tokenizer, TEXTS)
    assert counts[tokenizer.unk_token_id] == 1
    assert count_tokens(tokenizer, []).tolist() == [0] * len(tokenizer)


class Text(str):
    """A string that knows how many of its kind are in memory."""

    alive = most = 0

    def __init__(self, _):
        Text.alive += 1
        Text.most = max(Text.most, Text.alive)

    def __del__(self):
        Text.alive -= 1


def test_a_stream_is_read_in_batches(tokenizer, monkeypatch):
    monkeypatch.setattr(counting, "BATCH_SIZE", 10)
    texts, Text.most = [TEXTS[number % len(TEXTS)] for number in range(205)], 0
    assert count_tokens(tokenizer, (Text(text) for text in texts)).tolist() == naive_count(tokenizer, texts)
    assert 10 <= Text.most <= 21


def test_truncation_and_padding_of_an_earlier_call_do_not_count(tokenizer):
    expected = naive_count(tokenizer, TEXTS)
    tokenizer(TEXTS[0], truncation=True, max_length=4, padding="max_length")
    before = tokenizer.backend_tokenizer.to_str()
    assert count_tokens(tokenizer, TEXTS).tolist() == expected
    assert tokenizer.backend_tokenizer.to_str() == before


def test_literal_special_tokens_count_as_the_tokenizer_reads_them(tokenizer):
    text = f"abc {tokenizer.mask_token}"
    assert count_tokens(tokenizer, [text])[tokenizer.mask_token_id] == 1
    split = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, split_special_tokens=True, do_lower_case=False)
    assert count_tokens(split, [text]).tolist() == naive_count(split, [text])
    if isinstance(tokenizer, BertTokenizerFast):
        assert count_tokens(split, [text])[tokenizer.mask_token_id] == 0


def test_one_string_is_not_a_corpus(tokenizer):
    text = "abc"
    assert "\n" not in str(pytest.raises(ValueError, count_tokens, tokenizer, text).value)


def test_a_selection_is_special_tokens_characters_then_the_most_frequent():
    tokenizer = wordpiece()
    counts = counts_of(tokenizer, **{"abc": 9, "##de": 9, "dea": 10, "##cab": 1, "bad": 2, ",": 3, "!": 1, "U": 1})
    characters = {form for c in "abcdeU" for form in (c, f"##{c}")} | {",", "!"}
    smallest = len(SPECIAL) + len(characters)
    for extra, expected in enumerate([[], ["dea"], ["dea", "abc"], ["dea", "abc", "##de"]]):
        keep_ids = select_tokens(tokenizer, counts, smallest + extra)
        assert names(tokenizer, keep_ids) == {*SPECIAL, *characters, *expected}
        assert keep_ids.dtype == torch.long and keep_ids.tolist() == sorted(set(keep_ids.tolist()))
    with pytest.raises(ValueError, match=f"need {smallest}$"):
        select_tokens(tokenizer, counts, smallest - 1)


def test_characters_of_unigram_pieces_stay_and_others_go():
    tokenizer = unigram()
    keep_ids = select_tokens(tokenizer, counts_of(tokenizer, **{"▁abc": 5, "bad": 4, "ж": 1}), min_count=5)
    assert names(tokenizer, keep_ids) == {*tokenizer.all_special_tokens, "▁", "a", "b", "c", "d", "ж", "▁abc"}


def test_control_characters_stay_only_if_they_occur():
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("\x7f", -9.0), ("b", -9.0)], 0))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    assert alphabet_ids(tokenizer, count_tokens(tokenizer, ["aa"]), (), {0}) == ({1}, [3])
    assert alphabet_ids(tokenizer, count_tokens(tokenizer, ["a\x7f"]), (), {0}) == ({1, 2}, [3])


def test_equal_counts_keep_the_lower_id():
    tokenizer = wordpiece()
    counts = torch.ones(len(tokenizer), dtype=torch.long)
    ranked = [tokenizer.convert_tokens_to_ids(word) for word in WORDS]
    smallest = len(tokenizer) - len(WORDS)
    for size in range(smallest, len(tokenizer) + 1):
        assert set(ranked) & set(select_tokens(tokenizer, counts, size).tolist()) == set(ranked[: size - smallest])


def test_punctuation_and_chinese_characters_need_no_form_inside_words():
    tokenizer = wordpiece()
    counts = counts_of(tokenizer, **{",": 1, "中": 1, "ж": 1})
    assert names(tokenizer, select_tokens(tokenizer, counts, 9)) == {*SPECIAL, ",", "中", "ж", "##ж"}
    counts = counts_of(tokenizer, **{"a,b": 1})  # seen after all: then it is needed
    expected = {*SPECIAL, "a", "##a", ",", "##,", "b", "##b"}
    assert names(tokenizer, select_tokens(tokenizer, counts, 11)) == expected
    with pytest.raises(ValueError, match="need 7$"):
        select_tokens(tokenizer, counts_of(tokenizer, **{"##,": 1}), 6)


def test_a_character_that_joins_only_its_own_script_has_both_forms():
    tokenizer = wordpiece()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.UnicodeScripts()
    keep_ids = select_tokens(tokenizer, counts_of(tokenizer, ж=1), 7)
    assert names(tokenizer, keep_ids) == {*SPECIAL, "ж", "##ж"}


def test_keep_is_kept_with_its_characters():
    tokenizer = wordpiece()
    keep_ids = select_tokens(tokenizer, counts_of(tokenizer, a=3), min_count=1, keep=["##eš"])
    assert names(tokenizer, keep_ids) == {*SPECIAL, "a", "##a", "e", "##e", "š", "##š", "##eš"}
    with pytest.raises(ValueError, match="keep holds 'Košice', '##ice', which the tokenizer does not have"):
        select_tokens(tokenizer, counts_of(tokenizer, a=3), 12, ["a", "Košice", "##ice"])


def test_added_tokens_count_by_frequency_and_leave_their_characters():
    tokenizer = wordpiece(lowercase=True)
    tokenizer.add_tokens([AddedToken("DADA", normalized=False), AddedToken("baba")])
    counts = count_tokens(tokenizer, ["DADA abc"])
    keep_ids = select_tokens(tokenizer, counts, len(SPECIAL) + 8 + 3)  # and one neighbour of its characters
    assert names(tokenizer, keep_ids) - set(CHARACTERS) >= {"DADA", "abc", "##d"}
    assert "baba" not in names(tokenizer, keep_ids)
    keep_ids = select_tokens(tokenizer, counts, len(SPECIAL) + 8)
    assert "[UNK]" not in trim_tokenizer(tokenizer, keep_ids).tokenize("DADA abc")


def test_byte_tokens_are_an_alphabet():
    pieces = [("<unk>", 0.0), ("a", -1.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256)), ("b", -1.0)]
    backend = Tokenizer(models.Unigram(pieces, 0, byte_fallback=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    keep_ids = select_tokens(tokenizer, count_tokens(tokenizer, ["aa"]), 258)
    assert keep_ids.tolist() == list(range(258))
    assert trim_tokenizer(tokenizer, keep_ids).tokenize("bé") == ["<0x62>", "<0xC3>", "<0xA9>"]


def test_text_in_known_characters_gets_no_more_unknown_tokens(tokenizer):
    counts = count_tokens(tokenizer, TEXTS)
    smallest = next(n for n in range(len(tokenizer)) if works(tokenizer, counts, n))
    for size in range(smallest, smallest + 4):
        trimmed = trim_tokenizer(tokenizer, select_tokens(tokenizer, counts, size))
        for text in [*TEXTS, "šabc edcba", "!a, ,b š", "badcab deabcab"]:
            unknown = [t.tokenize(text).count(t.unk_token) for t in (tokenizer, trimmed)]
            assert unknown[1] <= unknown[0], text


def works(tokenizer, counts, size: int) -> bool:
    try:
        return len(select_tokens(tokenizer, counts, size)) == size
    except ValueError as error:
        assert "too small" in str(error)
        return False


def test_wrong_requests_are_refused(tokenizer):
    counts = count_tokens(tokenizer, TEXTS)
    size = len(tokenizer)
    cases = [
        ((counts, size + 1), "vocabulary larger than the tokenizer's"),
        ((counts, size), r"only \d+ distinct tokens .* give more text or a vocab_size of at most"),
        ((counts, 5), r"vocab_size 5 is too small: .* need \d+"),
        ((counts[1:], 10), rf"one entry for each of the {size} tokens, got shape \[{size - 1}\]"),
        ((counts,), "exactly one of vocab_size, min_count and coverage"),
        ((counts, 30, (), 2), "exactly one of vocab_size, min_count and coverage"),
        ((counts, None, (), 0), "min_count must be more than 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            select_tokens(tokenizer, *arguments)
        assert "\n" not in str(error.value)
    largest = int(str(pytest.raises(ValueError, select_tokens, tokenizer, counts, size).value).split()[-1])
    assert len(select_tokens(tokenizer, counts, largest)) == largest
    with pytest.raises(ValueError, match="distinct tokens"):
        select_tokens(tokenizer, counts, largest + 1)


def test_other_tokenizer_models_are_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    with pytest.raises(ValueError, match="cannot trim a WordLevel tokenizer"):
        select_tokens(tokenizer, torch.ones(1, dtype=torch.long), 1)


@pytest.mark.slow
def test_real_mbert_vocabulary_on_slovak(real_data):
    tokenizer = BertTokenizerFast(str(real_data / "tokenizers/mbert-cased/vocab.txt"), do_lower_case=False)
    files = real_data / "sk/train.txt", real_data / "sk/validation.txt"
    train, validation = (file.read_text(encoding="utf-8").splitlines() for file in files)
    counts = count_tokens(tokenizer, train)
    assert counts.sum() == sum(len(ids) for ids in tokenizer(train, add_special_tokens=False)["input_ids"])
    keep_ids = select_tokens(tokenizer, counts, 8000)
    trimmed = trim_tokenizer(tokenizer, keep_ids)
    kept, characters = names(tokenizer, keep_ids), {c for line in train for c in line}
    assert kept >= names(tokenizer, special_ids(tokenizer))
    for text in train[::10] + validation:
        old, new = tokenizer.tokenize(text), trimmed.tokenize(text)
        if kept.issuperset(old):
            assert new == old
        if characters.issuperset(text):
            assert new.count("[UNK]") <= old.count("[UNK]")
