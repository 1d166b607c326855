"""A benchmark's result: the machine that it depends on, and how it is shown."""

import importlib
import platform
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from tabulate import tabulate


def benchmark_module(benchmark: str) -> ModuleType:
    """The module of a benchmark: it has `add_arguments` and `run`, and `summary` where it measures beside something else."""
    return importlib.import_module(f"hf_lrcompress.benchmarks.{benchmark}")


def machine() -> dict[str, str | int]:
    """What the seconds depend on."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def processor_name() -> str:
    """The processor by its maker's name, where the machine says it."""
    if Path("/proc/cpuinfo").is_file():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(": ")[2]
    return platform.processor() or platform.machine()


def render(result: dict[str, Any]) -> str:
    """A result as Markdown: its rows as a table, then everything else."""
    details = result["machine"] | {key: value for key, value in result.items() if key not in ("benchmark", "machine", "rows")}
    rows = tabulate(result["rows"], headers="keys", tablefmt="github", floatfmt=",.4g", intfmt=",")
    return f"# {result['benchmark']}\n\n{rows}\n\n" + "".join(f"- {key}: {value}\n" for key, value in details.items())


def overview(results: Iterable[dict[str, Any]]) -> str:
    """A table of several results: ratios to what was measured beside."""
    rows: list[dict[str, str]] = []
    for result in results:
        module = benchmark_module(result["benchmark"])
        rows += module.summary(result) if hasattr(module, "summary") else []
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
