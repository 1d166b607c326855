"""Measure this package beside what it replaces, on one machine in one run.

python recipes/benchmark.py distillation --text train.txt
"""

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

import torch
import transformers
from tabulate import tabulate

BENCHMARKS = ("distillation", "vocabulary", "stage_order", "evaluation")


def machine() -> dict[str, str | int]:
    """What the seconds depend on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(": ")[2] if names else cpu
    return {
        "processor": cpu,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="benchmark", required=True)
    for name in BENCHMARKS:
        module = importlib.import_module(f"benchmarks.{name}")
        subparser = subparsers.add_parser(name, help=module.__doc__.splitlines()[0], allow_abbrev=False)
        subparser.add_argument("--output", help="JSON file to write the result to; must not exist")
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    try:
        if arguments.output and Path(arguments.output).exists():
            raise FileExistsError(f"{arguments.output} exists; give another --output")
        result = arguments.run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    result = {"benchmark": arguments.benchmark, "machine": machine()} | result
    print("\n" + tabulate(result["rows"], headers="keys", floatfmt=",.4g", intfmt=","))
    details = result["machine"] | {key: value for key, value in result.items() if key not in ("machine", "rows")}
    print("\n".join(f"{key}: {value}" for key, value in details.items()))
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
