"""What a surgery holds beside the model it is given: its result, and nothing else of a model's size."""

import re
from pathlib import Path

import pytest
import torch
from conftest import SPECIAL_NAMES, tiny_model
from trained_tokenizers import xlm_roberta

from hf_lrcompress import prune_ffn, reduce_layers, trim_vocab, truncate_hidden

CLEAR_PEAK, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
SIZES = {"vocab_size": 60_000, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
SURGERIES = {
    "reduce_layers": lambda model, tokenizer: reduce_layers(model, [0, 1, 2]),
    "prune_ffn": lambda model, tokenizer: prune_ffn(model, torch.arange(2048).expand(4, -1)),
    "truncate_hidden": lambda model, tokenizer: truncate_hidden(model, 564),
    "trim_vocab": lambda model, tokenizer: trim_vocab(model, tokenizer, torch.arange(len(tokenizer))).model,
}


def memory_of_process(name: str) -> int:
    """`VmRSS`: now; `VmHWM`: the most since the peak was cleared. In bytes."""
    return int(re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())[1]) * 1024


@pytest.fixture(scope="module")
def tokenizer():
    return xlm_roberta()


@pytest.fixture(scope="module")
def large(tokenizer):
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_NAMES}
    return tiny_model("xlm-roberta", **SIZES, **special)


@pytest.mark.skipif(not CLEAR_PEAK.exists(), reason="the peak of a process can be cleared on Linux only")
@pytest.mark.parametrize("name", SURGERIES)
def test_memory_grows_by_the_result(large, tokenizer, name):
    CLEAR_PEAK.write_text("5")
    before = memory_of_process("VmRSS")
    small = SURGERIES[name](large, tokenizer)
    grown = memory_of_process("VmHWM") - before
    result = sum(each.nbytes for each in small.parameters())
    assert grown < 1.05 * result + 20e6 < sum(each.nbytes for each in large.parameters()) + 20e6
