"""A distillation step as the paper's authors do it beside ours: tokens per second and peak memory.

The reference is written from the description: every example padded to 512 tokens, logits of student and teacher over the whole
vocabulary, mean squared error over all of them, fp32. Ours is `DistillationTrainer`. Each measurement has a process of its own.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hf_lrcompress.benchmarks import distillation_steps
from hf_lrcompress.benchmarks.distillation_steps import Work
from hf_lrcompress.benchmarks.processes import measured_by


def works(model: str, short_batch: int) -> list[list[Work]]:
    """Groups of measurements; the first of a group is the reference of the others."""
    large, small = 250_000, 40_000
    groups = [
        [Work(model, large, "short", "reference", 4)]
        + [Work(model, large, "short", step, short_batch) for step in ("fp32", "bf16")],
        [Work(model, large, "full", "reference", 4)]
        + [Work(model, large, "full", step, batch) for step in ("fp32", "bf16") for batch in (8, 32)],
    ]
    for batch in (4, 32):
        steps = ("reference", "fp32", "bf16")
        groups.append([Work(model, small, "full", step, batch) for step in steps])
    return groups


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--text", required=True, help="a text file, a sentence a line")
    parser.add_argument("--models", nargs="+", default=["e5-small", "xlm-r-base"], choices=["e5-small", "xlm-r-base"])
    parser.add_argument("--short_batch", type=int, default=24, help="our batch of blocks of short sentences")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all groups; the reference of a batch that does not fit is halved, and says so by its batch size."""
    if not Path(arguments.text).is_file():
        raise FileNotFoundError(f"{arguments.text} does not exist")
    rows = []
    for model in arguments.models:
        for group in works(model, arguments.short_batch):
            reference = None
            for work in group:
                row = _measure(work, arguments.text)
                reference = reference or row
                row["speed_ratio"] = row["tokens_per_second"] / reference["tokens_per_second"]
                row["memory_ratio"] = row["peak_memory_gb"] / reference["peak_memory_gb"]
                rows.append(row)
                print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        rows += [_measure(Work(model, size, "short", "loss_difference", 4), arguments.text) for size in (250_000, 40_000)]
    return {"rows": rows}


def summary(result: dict[str, Any]) -> list[dict[str, str]]:
    """For the README: a row for each of our batches, fp32 and bf16 in one."""
    rows = []
    for fp32 in (row for row in result["rows"] if row["step"] == "fp32"):
        bf16 = next(row for row in result["rows"] if row["step"] == "bf16" and _same_work(row, fp32))
        reference = [row for row in result["rows"][: result["rows"].index(fp32)] if row["step"] == "reference"][-1]
        text = "short sentences" if fp32["text"] == "short" else "blocks of 512 tokens"
        rows.append(
            {
                "what": f"distilling {fp32['model']} on {text}, {fp32['vocab_size']:,} tokens, batch of {fp32['batch_size']}",
                "beside": f"the authors' step, batch of {reference['batch_size']}",
                "times faster": f"{fp32['speed_ratio']:.1f}, in bf16 {bf16['speed_ratio']:.1f}",
                "peak memory": f"{fp32['memory_ratio']:.2f}, {bf16['memory_ratio']:.2f}",
            }
        )
    return rows


def _same_work(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[name] == other[name] for name in ("model", "vocab_size", "text", "batch_size"))


def _measure(work: Work, text: str) -> dict[str, Any]:
    try:
        return asdict(work) | measured_by([sys.executable, distillation_steps.__file__, json.dumps(asdict(work)), text])
    except ChildProcessError:
        if work.batch_size == 1:
            raise
    return _measure(replace(work, batch_size=work.batch_size // 2), text)
