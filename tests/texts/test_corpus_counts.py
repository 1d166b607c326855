"""Counts of whole corpora: whatever the number of processes, and through files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_tokenizers import unigram, wordpiece

from hf_lrcompress import count_tokens, weighted_counts
from hf_lrcompress.texts.corpus import CorpusSource
from hf_lrcompress.texts.corpus_counts import cached_counts, count_corpus, load_counts, save_counts

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


def test_what_was_counted_is_not_counted_again(source, tmp_path, caplog):
    expected = count_tokens(unigram(), TEXTS)
    with caplog.at_level("INFO"):
        assert all(torch.equal(cached_counts(source, unigram()), expected) for _ in range(2))
        assert caplog.text.count("counting the tokens of text.txt") == 1
        (tmp_path / "text.txt").write_text(TEXTS[0], encoding="utf-8")
        assert torch.equal(cached_counts(source, unigram()), count_tokens(unigram(), TEXTS[:1]))
        cached_counts(source, wordpiece())
    assert caplog.text.count("counting the tokens of text.txt") == 3


ON_TWO_MACHINES = """
import os, sys
rank, folder = os.environ["RANK"], sys.argv[1]
os.environ["HF_DATASETS_CACHE"] = f"{folder}/cache-{rank}"
from accelerate import PartialState
from safetensors.torch import save_file
from tiny_tokenizers import unigram
from hf_lrcompress.texts.corpus import CorpusSource
from hf_lrcompress.texts.corpus_counts import cached_counts
state = PartialState(cpu=True)
source = CorpusSource(files=(f"{folder}/text.txt",))
for i in range(2):
    save_file({"counts": cached_counts(source, unigram())}, f"{folder}/{rank}-{i}.safetensors")
state.destroy_process_group()
"""


def test_machines_with_caches_of_their_own_count_the_same(source, tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (tmp_path / "count.py").write_text(ON_TWO_MACHINES, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launch, tmp_path / "count.py", tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = [load_file(tmp_path / f"{rank}-{i}.safetensors")["counts"] for rank in (0, 1) for i in (0, 1)]
    assert all(torch.equal(each, count_tokens(unigram(), TEXTS)) for each in counts)
    assert not list((tmp_path / "cache-1").glob("hf_lrcompress/*"))  # the first process keeps the file


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
    weighted = weighted_counts({"sk": total, "en": total}, {"sk": 0.8, "en": 0.2})
    save_counts(tmp_path / "weighted.safetensors", weighted, tokenizer)
    torch.testing.assert_close(load_counts([tmp_path / "weighted.safetensors"], tokenizer), 2 * total.double())
    (tmp_path / "text").write_text("text")
    with pytest.raises(ValueError, match="text holds no token counts"):
        load_counts([tmp_path / "text"], tokenizer)


def test_weights_are_shares_of_the_result():
    counts = {"sk": torch.tensor([6, 2, 0]), "en": torch.tensor([0, 1, 1])}
    combined = weighted_counts(counts, {"sk": 8, "en": 2})
    assert combined.tolist() == [6, 3, 1]  # 8 of the 10 are Slovak
    equal = weighted_counts(counts, {"sk": 1, "en": 1})
    assert equal.tolist() == [3.75, 3.75, 2.5]
    assert weighted_counts({"sk": equal, "en": equal / 4}, {"sk": 1, "en": 1}).sum() == pytest.approx(12.5)
    for weights, message in (({"sk": 1}, "give both for each"), ({"sk": 1, "en": 0}, "en: weight and number of tokens")):
        with pytest.raises(ValueError, match=message):
            weighted_counts(counts, weights)
