"""A distillation step on a GPU as the paper's authors do it beside ours: tokens a second, peak memory, share of the card's rate.

Weights and token ids are random: the arithmetic is that of real ones, and nothing has to be fetched. The reference is written
from the description: logits of student and teacher over the whole vocabulary, mean squared error over all of them; in fp32, and
in bf16 with the largest batch that fits. Ours is `DistillationTrainer`. Each measurement has a process of its own.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from hf_lrcompress.benchmarks import gpu_steps
from hf_lrcompress.benchmarks.gpu_steps import OUT_OF_MEMORY, SHAPES, Work
from hf_lrcompress.benchmarks.processes import measured_by
from hf_lrcompress.messages import one_line

SHOWN = ("model", "step", "precision", "batch_size")
OTHERS_USE = 10**9
"""Bytes in use on an idle card up to which nobody else is taken to use it: its driver needs some."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--models", nargs="+", default=["xlm-r-base", "e5-small"], choices=SHAPES, help="shapes of teachers")
    parser.add_argument("--batches", nargs="+", type=int, default=[16, 64], help="our batch sizes (default: 16 64)")
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured (default: 20)")
    parser.add_argument("--loader_workers", type=int, default=4, help="processes that mask tokens (default: 4)")
    parser.add_argument("--compile", action="store_true", help="measure ours with torch_compile, too")
    parser.add_argument("--profile", type=Path, help="file for the time of each kernel in our step, largest batch")


def works(model: str, arguments: argparse.Namespace) -> list[Work]:
    """The measurements of a shape, the authors' first."""
    common = {"model": model, "steps": arguments.steps, "loader_workers": arguments.loader_workers}
    found = [Work(**common, step="reference", precision="fp32", batch_size=4)]
    largest = max(arguments.batches)
    found.append(Work(**common, step="reference", precision="bf16", batch_size=largest))
    for batch in arguments.batches:
        found.append(Work(**common, step="ours", precision="bf16", batch_size=batch))
    if arguments.compile:
        found.append(Work(**common, step="ours compiled", precision="bf16", batch_size=largest))
    found.append(Work(**common, step="ours", precision="fp32", batch_size=min(arguments.batches)))
    return found


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure; a batch that does not fit is halved, and the row says the batch that did."""
    rate = _measure(Work(arguments.models[0], "matmul", "bf16", 1))["flop_per_second"]
    rows = []
    for model in arguments.models:
        reference = None
        for work in works(model, arguments):
            row = _row(work, rate, reference)
            reference = reference or row
            rows.append(row)
            print(row, flush=True)
    if arguments.profile:
        work = Work(arguments.models[0], "ours", "bf16", max(arguments.batches), loader_workers=arguments.loader_workers)
        arguments.profile.write_text(_measure(replace(work, profiled=True))["profile"], encoding="utf-8")
    return {"rows": rows, "device": device_name(), "measured matmul TFLOP/s in bf16": rate / 1e12} | used_by_others()


def _row(work: Work, rate: float, reference: dict[str, Any] | None) -> dict[str, Any]:
    """A measurement beside the first of its shape; one that fails, as without a compiler, says why and the others go on."""
    try:
        row = _measure(work)
    except OSError as error:
        return {name: getattr(work, name) for name in SHOWN} | {"failed": one_line(error)}
    row["share of the rate"] = row.pop("flop_per_second") / rate
    first = (reference or row).get("tokens_per_second")
    return row | ({"speed_ratio": row["tokens_per_second"] / first} if first else {})


def device_name() -> str:
    """The GPU by its maker's name, or that there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: this only tries the benchmark out"


def used_by_others() -> dict[str, str]:
    """Whether other processes had the card at the same time, now that all of ours have ended."""
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    used = total - free
    return {"other processes": f"used {used / 1e9:.1f} GB of the card" if used > OTHERS_USE else "none"}


def summary(result: dict[str, Any]) -> list[dict[str, str]]:
    """For the README: a row for each of our batches in bf16, beside the authors' step in the same precision."""
    rows = []
    for row in result["rows"]:
        if row["step"] != "ours" or row["precision"] != "bf16":
            continue
        if "failed" in row:
            continue
        same = [each for each in result["rows"] if each["model"] == row["model"] and each["precision"] == "bf16"]
        if "failed" in same[0]:
            continue
        rows.append(
            {
                "what": f"distilling {row['model']} on {result['device']}, batch of {row['batch_size']}",
                "beside": f"the authors' step in bf16, batch of {same[0]['batch_size']}",
                "times faster": f"{row['tokens_per_second'] / same[0]['tokens_per_second']:.1f}",
                "peak memory": f"{row['peak_memory_gb'] / same[0]['peak_memory_gb']:.2f}",
            }
        )
    return rows


def _measure(work: Work) -> dict[str, Any]:
    measured = measured_by([sys.executable, gpu_steps.__file__, json.dumps(asdict(work))])
    if measured == OUT_OF_MEMORY and work.batch_size > 1:
        return _measure(replace(work, batch_size=work.batch_size // 2))
    if measured == OUT_OF_MEMORY:
        raise OSError("not even a batch of 1 fits into the memory")
    return {name: getattr(work, name) for name in SHOWN} | measured
