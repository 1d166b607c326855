"""Measure this package beside what it replaces, on one machine in one run."""

import argparse
import json
from pathlib import Path

from hf_lrcompress.benchmarks.results import benchmark_module, machine, render
from hf_lrcompress.commands.options import OneLineParser
from hf_lrcompress.files import write_atomically


def read_options(benchmark: str, options: list[str]) -> argparse.Namespace:
    """A benchmark's own options, and where its result is written."""
    module = benchmark_module(benchmark)
    parser = OneLineParser(prog=f"hf-lrcompress benchmark {benchmark}", description=(module.__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file for the result, with a .md beside it; it must not exist")
    module.add_arguments(parser)
    return parser.parse_args(options)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit code."""
    given = read_options(arguments.benchmark, arguments.options)
    check_output(given.output)
    result = benchmark_module(arguments.benchmark).run(given)
    result = {"benchmark": arguments.benchmark, "machine": machine()} | result
    print(render(result))
    if given.output:
        write_atomically(given.output, json.dumps(result, indent=2) + "\n")
        write_atomically(given.output.with_suffix(".md"), render(result))
    return 0


def check_output(output: Path | None) -> None:
    """Refuse, before anything is measured, a file that the result cannot be written to; make its folder."""
    if output is None:
        return
    if output.suffix != ".json":
        raise ValueError(f"--output {output}: give a name that ends in .json")
    for path in (output, output.with_suffix(".md")):
        if path.exists():
            raise FileExistsError(f"{path} exists; give another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
