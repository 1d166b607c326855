"""The process that a command runs in: its part among others, how much it says, and how an error ends it."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import datasets
import torch
from accelerate import PartialState
from datasets import disable_progress_bars
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.utils import disable_progress_bars as disable_hub_progress_bars
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from hf_lrcompress.evaluation.jobs import quiet_libraries
from hf_lrcompress.files import free_bytes
from hf_lrcompress.messages import check_settings, one_line
from hf_lrcompress.run.yaml_files import values_in
from hf_lrcompress.workers import end_with_parent

ERRORS = (ValueError, OSError, ImportError, SafetensorError)
"""What is said in one line; any other is a mistake of this package."""
IN_SEVERAL_PROCESSES = ("compress", "evaluate", "study")
"""The commands that `accelerate launch` may have started; `study` joins the others to refuse that once."""
SIGNS_OF_A_FULL_DISK = re.compile(r"No space left|Disk quota exceeded|iostream error|requested and \d+ written")
"""What the operating system, C++ (torch) and numpy say of it."""
SIGNS_OF_A_LOST_PROCESS = re.compile(r"(reset|closed) by peer|remote process exited|communicator was aborted|[Tt]imed out")
"""What the libraries that connect processes say of it."""


class FailedError(Exception):
    """Work has failed that had begun."""


class LostProcessError(FailedError):
    """Another process of this run does not answer."""


def run_command(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command, whose errors are one line each.

    Args:
        run (`Callable`): The command; it returns the exit code where nothing is wrong.
        arguments (`argparse.Namespace`): What it is given.

    Returns:
        `int`: The exit code: also 1 if it failed on the way, see [`on_the_way`], and 2 if nothing was begun.
    """
    end_with_parent()
    main_process = arguments.command not in IN_SEVERAL_PROCESSES or join_processes()
    if "quiet" in arguments:  # a benchmark has no such option
        set_verbosity(arguments, main_process)
    try:
        check_settings(values_in(vars(arguments)))
        return run(arguments)
    except FailedError as error:
        print_error(error)  # whichever process it was: the others know nothing of it
        return 1
    except ERRORS as error:
        if main_process:  # the input is the same in all
            print_error(error)
        return 2


@contextmanager
def on_the_way(
    then: str = "; the same command goes on from there", errors: tuple[type[Exception], ...] = (*ERRORS, LostProcessError)
) -> Iterator[None]:
    """Mark the work that begins when all is checked: what it raises ends the command with exit code 1.

    Args:
        then (`str`, *optional*): What the line says after the error.
        errors (`tuple`, *optional*): What is meant; others are passed on.

    Raises:
        FailedError: In place of these.
    """
    try:
        yield
    except errors as error:
        raise FailedError(f"{one_line(error)}{then}") from error


def join_processes() -> bool:
    """Find the other processes that `accelerate launch` has started; whether this one speaks for all."""
    # Others wait while one reads and counts a large corpus, or has a longer share of the work.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=1)).is_main_process


def set_verbosity(arguments: argparse.Namespace, main_process: bool = True) -> None:
    """Say as much as `--quiet` and `--verbose` ask for; the processes beside the main one say errors only."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger().setLevel(logging.INFO if main_process and not arguments.quiet else logging.ERROR)
    if arguments.quiet:
        disable_progress_bars()
        disable_hub_progress_bars()
    if arguments.verbose:
        transformers_logging.set_verbosity_info()
    else:
        quiet_libraries()


def use_all_cores() -> None:
    """`accelerate launch` gives a CPU process one thread unless told otherwise; a process that is alone may have them all.

    Without `accelerate launch`, one thread is what the user asked for.
    """
    launched = "ACCELERATE_USE_CPU" in os.environ
    one_thread = os.environ.get("OMP_NUM_THREADS") == "1"
    if launched and one_thread and PartialState().num_processes == 1 and not torch.cuda.is_available():
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(cores or 1)


def print_error(error: Exception | str) -> None:
    """Print an error without line breaks."""
    print(f"error: {one_line(error)}", file=sys.stderr)


@contextmanager
def full_disk_named(folder: Path, needed: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Have one line say where a disk is full, what is needed there and what is free, whatever a library raises then.

    Args:
        folder (`Path`): Where the block writes, besides the cache of `datasets`; it need not exist.
        needed (`Callable[[], int]`, *optional*): Bytes that will still be written to `folder`; 0 if nobody knows.

    Raises:
        OSError: In place of any error that comes of a full disk.
    """
    try:
        yield
    except Exception as error:  # that is the class of tokenizers' errors; torch's are RuntimeErrors
        chain = _chain(error)
        if not SIGNS_OF_A_FULL_DISK.search(" ".join(map(str, chain))):
            raise
        named = [each.filename for each in chain if isinstance(each, OSError) and each.filename]
        places = (folder, Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE))
        place = Path(named[0]) if named else min(places, key=free_bytes)
        to_come = needed()
        writes = f"the rest of the run writes about {to_come / 1e6:,.0f} MB to {folder}; " if to_come else ""
        free = f"{free_bytes(place) / 1e6:,.0f} MB are free"
        raise OSError(f"the disk is full at {place}, where {free} ({one_line(error)}); {writes}make room") from error


@contextmanager
def lost_process_named() -> Iterator[None]:
    """Have one line say that another process of the run no longer answers, in place of a trace below the line that says why.

    Raises:
        LostProcessError: In place of what the library says that connects them.
    """
    try:
        yield
    except RuntimeError as error:
        if not SIGNS_OF_A_LOST_PROCESS.search(str(error)):
            raise
        raise LostProcessError(
            f"another process of this run does not answer; it may have said why ({one_line(error)})"
        ) from error


def _chain(error: BaseException | None) -> list[BaseException]:
    """An error and those that it came of; which may be in a circle, where one was raised again."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
