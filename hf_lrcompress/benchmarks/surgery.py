"""Seconds and peak memory of each surgery on a model of XLM-R-base's size.

The weights are random: neither time nor memory depends on them. Each surgery has a process of its own, whose peak is that of
model, result, tokenizer, Python and its libraries together. For Linux.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from hf_lrcompress.benchmarks.processes import measured_by
from hf_lrcompress.demo.e5_small import load_e5_small
from hf_lrcompress.machine import peak_memory_mb
from hf_lrcompress.surgery.ffn_pruning import prune_ffn, select_neurons
from hf_lrcompress.surgery.hidden_truncation import truncate_hidden
from hf_lrcompress.surgery.layer_reduction import reduce_layers, select_layers
from hf_lrcompress.surgery.vocab_trimming import trim_vocab
from hf_lrcompress.vocabulary.selection import select_tokens

SIZE_OF_XLMR_BASE: dict[str, Any] = {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1}
VOCAB_SIZE = 40_000


def _trim_vocab() -> Callable[[PreTrainedModel], PreTrainedModel]:
    _, tokenizer = load_e5_small()  # XLM-R's tokenizer
    keep_ids = select_tokens(tokenizer, torch.randint(1, 1000, (len(tokenizer),)), VOCAB_SIZE)
    return lambda model: trim_vocab(model, tokenizer, keep_ids).model


SURGERIES = {
    "reduce_layers": lambda: lambda model: reduce_layers(model, select_layers(12, 6)),
    "prune_ffn": lambda: lambda model: prune_ffn(model, select_neurons(torch.rand(12, 3072), 2048)),
    "truncate_hidden": lambda: lambda model: truncate_hidden(model, 564),
    "trim_vocab": _trim_vocab,
}
"""What makes a surgery: its preparations need no model, and are not part of its seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """A row a surgery: 12 layers to 6, 3,072 neurons to 2,048, hidden size 768 to 564, 250,002 tokens to 40,000."""
    rows = []
    for name in SURGERIES:
        rows.append({"surgery": name, **measured_by([sys.executable, __file__, name])})
    return {"rows": rows}


def measure(name: str) -> dict[str, float]:
    """One surgery, in this process: seconds of the surgery alone, and the peak beside the size of the model it is given."""
    torch.manual_seed(42)
    surgery = SURGERIES[name]()
    model = XLMRobertaForMaskedLM(XLMRobertaConfig(**SIZE_OF_XLMR_BASE))
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building it, which has the output layer twice
    start = time.perf_counter()
    small = surgery(model)
    seconds = time.perf_counter() - start
    sizes = [sum(each.nbytes for each in made.parameters()) / 1e6 for made in (model, small)]
    peak = peak_memory_mb()
    return {"seconds": seconds, "model_mb": sizes[0], "result_mb": sizes[1], "peak_mb": peak, "peak_ratio": peak / sizes[0]}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
