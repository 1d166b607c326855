"""The process that a command runs in: its part among others, and how much it says."""

import argparse
import logging
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import disable_progress_bars
from huggingface_hub.utils import disable_progress_bars as disable_hub_progress_bars
from transformers.utils import logging as transformers_logging

from hf_lrcompress.evaluation.jobs import quiet_libraries
from hf_lrcompress.files import free_bytes
from hf_lrcompress.messages import one_line

BAD_INPUT = (ValueError, OSError, ImportError)
"""What is raised before any long work."""


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
    """`accelerate launch` gives a CPU process one thread unless told otherwise; a process that is alone may have them all."""
    if PartialState().num_processes == 1 and not torch.cuda.is_available() and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(cores or 1)


def print_error(error: Exception, then: str = "") -> None:
    """Print an error without line breaks; where the disk is full also how much is free."""
    said = one_line(error)
    if "No space left" in said:
        folder = Path(getattr(error, "filename", None) or ".").parent
        said += f" ({free_bytes(folder) / 1e6:,.0f} MB are free)"
    print(f"error: {said}{then}", file=sys.stderr)
