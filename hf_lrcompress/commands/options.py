"""What the command lines have in common: a parser whose errors are one line, and the options of several commands."""

import argparse
from typing import Any, NoReturn

from hf_lrcompress.messages import one_line


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are; no option can be abbreviated."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where the options are listed."""
        self.exit(2, f"error: {one_line(message)}; see {self.prog} --help\n")


def add_input_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of what a command reads, with its language and how far its models are trusted."""
    group = parser.add_argument_group("input")
    group.add_argument("--lang", required=True, help="the language, a BCP-47 tag such as sk")
    group.add_argument("--trust_remote_code", action="store_true", help="run a model's own code, if transformers lacks its type")
    return group


def add_run_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of how a command runs, with how much it says."""
    group = parser.add_argument_group("run")
    volume = group.add_mutually_exclusive_group()
    volume.add_argument("--quiet", action="store_true", help="print the result and errors only")
    volume.add_argument("--verbose", action="store_true", help="print what transformers says as well")
    return group


def add_hub_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """The group of how a model is published."""
    group = parser.add_argument_group("Hub")
    group.add_argument("--hub_revision", default="main", help="the branch to commit to (default: main)")
    group.add_argument("--public", action="store_true", help="make a new repository public")
    group.add_argument("--license", help="of the model, where its teacher's card states none")
    return group
