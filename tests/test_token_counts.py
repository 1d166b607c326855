"""Counts of whole corpora: whatever the number of processes, and through files."""

import pytest
import torch
from surgery.test_token_selection import unigram, wordpiece

from hf_lrcompress import count_tokens, weighted_counts
from hf_lrcompress.data import CorpusSource
from hf_lrcompress.token_counts import count_corpus, load_counts, save_counts

TEXTS = ["abc bad, cab abc", "deabc dea!", "deš aš abcab", "abc abc", "bade ab", "ža", "ab de"]


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    return CorpusSource(files=(str(tmp_path / "text.txt"),))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_corpus_is_counted_whole(source, streaming):
    source = CorpusSource(files=source.files, streaming=streaming)
    assert torch.equal(count_corpus(source, unigram()), count_tokens(unigram(), TEXTS))


def test_several_processes_count_the_same(source):
    assert torch.equal(count_corpus(source, unigram(), num_proc=2), count_tokens(unigram(), TEXTS))


def test_files_of_counts_add_up(tmp_path):
    tokenizer = unigram()
    for i in range(2):
        save_counts(tmp_path / f"{i}.safetensors", count_tokens(tokenizer, TEXTS[i::2]), tokenizer)
    tokenizer(TEXTS[0], truncation=True, max_length=3)  # changes nothing that counts
    total = load_counts([tmp_path / "0.safetensors", tmp_path / "1.safetensors"], tokenizer)
    assert torch.equal(total, count_tokens(unigram(), TEXTS))
    with pytest.raises(ValueError, match="0.safetensors was counted with another tokenizer"):
        load_counts([tmp_path / "0.safetensors"], wordpiece())
    with pytest.raises(FileNotFoundError, match="2.safetensors does not exist"):
        load_counts([tmp_path / "2.safetensors"], tokenizer)
    (tmp_path / "text").write_text("text")
    with pytest.raises(ValueError, match="text holds no token counts"):
        load_counts([tmp_path / "text"], tokenizer)


def test_weights_are_shares_of_the_result():
    counts = {"sk": torch.tensor([6, 2, 0]), "en": torch.tensor([0, 1, 1])}
    combined = weighted_counts(counts, {"sk": 8, "en": 2})
    assert combined.tolist() == [6, 3, 1]  # 8 of the 10 are Slovak
    equal = weighted_counts(counts, {"sk": 1, "en": 1})
    assert equal.tolist() == [3.75, 3.75, 2.5]
    for weights, message in (({"sk": 1}, "give both for each"), ({"sk": 1, "en": 0}, "en: weight and number of tokens")):
        with pytest.raises(ValueError, match=message):
            weighted_counts(counts, weights)
