"""Measure this package beside what it replaces, on one machine in one run."""

import argparse
import json
from pathlib import Path

from hf_lrcompress.benchmarks.results import benchmark_module, machine, render
from hf_lrcompress.commands.options import OneLineParser
from hf_lrcompress.commands.process import BAD_INPUT, print_error


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
    try:
        if given.output and given.output.exists():
            raise FileExistsError(f"{given.output} exists; give another --output")
        result = benchmark_module(arguments.benchmark).run(given)
    except BAD_INPUT as error:
        print_error(error)
        return 2
    result = {"benchmark": arguments.benchmark, "machine": machine()} | result
    print(render(result))
    if given.output:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        given.output.with_suffix(".md").write_text(render(result), encoding="utf-8")
    return 0
