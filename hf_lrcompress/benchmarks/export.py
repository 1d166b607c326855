"""Benchmark: the paper's 456-wide model in int8 on onnxruntime, against XLM-R-base on PyTorch in fp32, in one run.

One text of 128 tokens, with the logits of all its tokens and with their states alone. The weights are random: neither time nor
bytes depend on them. Every model has its turn in every round, once with one thread and once with all. `ms` is time by the clock,
`cpu_ms` that of the threads, which other processes take nothing from.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import PreTrainedModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from hf_lrcompress.evaluation.efficiency import median_seconds
from hf_lrcompress.export.exporting import FILES, ONNX_DIR, export_model
from hf_lrcompress.export.graphs import require_onnx
from hf_lrcompress.export.running import OnnxModel

SIZES: dict[str, dict[str, Any]] = {
    "XLM-R-base": {"vocab_size": 250_002},
    "456-wide": {
        "vocab_size": 40_000,
        "hidden_size": 456,
        "num_hidden_layers": 6,
        "intermediate_size": 2048,
    },
}
TOKENS = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--rounds", type=int, default=15, help="turns of every model (default: 15)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rows by outputs, threads and model; `times_faster` is by `cpu_ms` with one thread, and otherwise by `ms`."""
    require_onnx()
    torch.manual_seed(42)
    all_threads = torch.get_num_threads()
    models = {name: _model(sizes) for name, sizes in SIZES.items()}
    rows = []
    for outputs in ("logits", "states"):
        parts: dict[str, Any] = {name: model if outputs == "logits" else model.base_model for name, model in models.items()}
        with tempfile.TemporaryDirectory() as folder:
            tokenizer: Any = SimpleNamespace(model_input_names=["input_ids", "attention_mask"])
            export_model(parts["456-wide"], tokenizer, Path(folder))
            for threads in dict.fromkeys((1, all_threads)):
                torch.set_num_threads(threads)
                rows += _rows(outputs, threads, parts, Path(folder) / ONNX_DIR, arguments.rounds)
    return {"tokens": TOKENS, "rounds": arguments.rounds, "rows": rows}


def _model(sizes: dict[str, Any]) -> PreTrainedModel:
    return XLMRobertaForMaskedLM(XLMRobertaConfig(**sizes, max_position_embeddings=514, type_vocab_size=1)).eval()


def _rows(outputs: str, threads: int, models: dict[str, PreTrainedModel], folder: Path, rounds: int) -> list[dict[str, Any]]:
    calls: dict[str, Any] = {f"{name}, PyTorch fp32": model for name, model in models.items()}
    bytes_of = [4 * model.num_parameters() for model in models.values()]
    for name, file in FILES.items():
        calls[f"456-wide, {name}"] = OnnxModel(folder / file)
        bytes_of.append((folder / file).stat().st_size)
    ids = torch.arange(5, 5 + TOKENS)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        medians = median_seconds([partial(call, **inputs) for call in calls.values()], rounds, _clocks)
    faster_by = 1 if threads == 1 else 0
    rows = []
    for name, size, measured in zip(calls, bytes_of, medians, strict=True):
        row = {"outputs": outputs, "threads": threads, "model": name, "mb": size / 1e6}
        row |= {"ms": 1000 * measured[0], "cpu_ms": 1000 * measured[1]}
        rows.append(row | {"times_faster": medians[0][faster_by] / measured[faster_by], "times_smaller": bytes_of[0] / size})
    return rows


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
