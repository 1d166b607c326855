"""Which tokens the stage keeps where it counts several texts."""

from types import SimpleNamespace

import torch
from made_up_texts import TRAIN
from trained_tokenizers import bert
from transformers import BertConfig

from hf_lrcompress import count_tokens
from hf_lrcompress.stages.trim_vocab import TrimVocab


def test_beside_a_small_text_no_token_of_a_large_one_gets_too_rare(tmp_path):
    """Weighted, the large text's counts fall: what occurs once would count as less, and `min_count: 1` would leave it out."""
    tokenizer = bert()
    small = str(tmp_path / "small.txt")
    counts = {(): count_tokens(tokenizer, TRAIN), (small,): count_tokens(tokenizer, ["fooBar xyzzy"])}
    inputs = SimpleNamespace(
        tokenizer=tokenizer,
        teacher_config=BertConfig(vocab_size=len(tokenizer)),
        train=SimpleNamespace(files=()),
        token_counts=lambda source: counts[source.files],
    )
    stage = TrimVocab(min_count=1, also={"other": {"files": [small], "weight": 1}})
    kept = set(stage.select(inputs).tolist())
    for each in counts.values():
        assert kept >= set(each.nonzero().flatten().tolist())
    assert (stage.count(inputs) >= counts[()]).all()
    weighted = TrimVocab(vocab_size=400, also=stage.also).count(inputs)
    assert (weighted[counts[()] == 1] < 1).any() and torch.is_floating_point(weighted)
