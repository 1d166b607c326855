"""Measure this package beside what it replaces, on one machine in one run.

python recipes/benchmark.py distillation --text train.txt
"""

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers
from tabulate import tabulate

from hf_lrcompress.messages import one_line

BENCHMARKS = ("distillation", "vocabulary", "stage_order", "evaluation", "surgery", "quality", "export", "memory")


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
    """The README's table of several results: ratios to what was measured beside."""
    rows = [row for result in results for row in _module(result["benchmark"]).summary(result)]
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def _module(benchmark: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{benchmark}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="benchmark", required=True)
    for name in BENCHMARKS:
        module = _module(name)
        subparser = subparsers.add_parser(name, help=module.__doc__.splitlines()[0], allow_abbrev=False)
        subparser.add_argument(
            "--output", type=Path, help="JSON file for the result, which is also written beside it as .md; must not exist"
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    try:
        if arguments.output and arguments.output.exists():
            raise FileExistsError(f"{arguments.output} exists; give another --output")
        result = arguments.run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    result = {"benchmark": arguments.benchmark, "machine": machine()} | result
    print(render(result))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        arguments.output.with_suffix(".md").write_text(render(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
