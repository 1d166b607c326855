"""The command `hf-lrcompress`, which is also `python -m hf_lrcompress`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import hf_lrcompress
from hf_lrcompress.commands.interruption import run_until_interrupted
from hf_lrcompress.commands.options import (
    OneLineParser,
    add_benchmark_options,
    add_compare_options,
    add_compress_options,
    add_evaluate_options,
    add_export_options,
    add_publish_options,
    add_study_options,
)

COMMANDS = {
    "compress": ("Compress a multilingual encoder into a monolingual one.", add_compress_options),
    "evaluate": ("Score models on the paper's tasks: topics, sentiment, named entities, parts of speech.", add_evaluate_options),
    "study": ("Compare settings by many runs, as the paper's figures do, or your own.", add_study_options),
    "publish": (
        "Publish the model of a complete run on the Hub, private unless told otherwise.",
        add_publish_options,
    ),
    "export": ("Write ONNX files of a model, in fp32 and int8, checked against PyTorch.", add_export_options),
    "compare": ("Say what a trimmed vocabulary changed for a text, whatever tool trimmed it.", add_compare_options),
    "benchmark": ("Measure this package beside what it replaces, on one machine in one run.", add_benchmark_options),
}
"""What each does and its options; `hf_lrcompress.commands` has a module for each."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, by default this process's own."""
    parser = OneLineParser(prog="hf-lrcompress", description="Turn a multilingual encoder into a small monolingual one.")
    parser.add_argument("--version", action="version", version=hf_lrcompress.__version__)
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, (summary, add_options) in COMMANDS.items():
        add_options(commands.add_parser(name, help=summary, description=summary))
    parsed, unknown = parser.parse_known_args(arguments)
    if parsed.command is None:
        parser.error(f"give a command: {', '.join(COMMANDS)}")
    if unknown:
        commands.choices[parsed.command].refuse(unknown)
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    parsed = parse_arguments(arguments)
    from hf_lrcompress.commands.process import run_command  # here: it is slow, and a typo need not wait for it

    command = import_module(f"hf_lrcompress.commands.{parsed.command}")
    return run_command(command.run, parsed)


def start(arguments: Sequence[str] | None = None) -> int:
    """[`main`], which Ctrl-C and SIGTERM end alike, with exit code 130."""
    return run_until_interrupted(lambda: main(arguments))


if __name__ == "__main__":
    sys.exit(start())
