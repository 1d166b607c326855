"""The command `hf-lrcompress`, which is also `python -m hf_lrcompress`."""

import argparse
import sys
from collections.abc import Sequence

from hf_lrcompress.commands import compress, evaluate, publish
from hf_lrcompress.commands.options import OneLineParser
from hf_lrcompress.commands.process import run_until_interrupted

COMMANDS = {"compress": compress, "evaluate": evaluate, "publish": publish}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, by default this process's own; `run` is what does the work."""
    parser = OneLineParser(prog="hf-lrcompress", description="Turn a multilingual encoder into a small monolingual one.")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.error(f"give a command: {', '.join(COMMANDS)}")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 for what failed on the way and 2 for bad input."""
    parsed = parse_arguments(arguments)
    return parsed.run(parsed)


def start(arguments: Sequence[str] | None = None) -> int:
    """[`main`], which Ctrl-C and SIGTERM end alike, with exit code 130."""
    return run_until_interrupted(lambda: main(arguments))


if __name__ == "__main__":
    sys.exit(start())
