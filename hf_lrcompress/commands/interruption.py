"""How a command ends when it is told to. Nothing slow is imported here: Ctrl-C may come while all else still is."""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

RAISED_AGAIN_AFTER = 10.0
"""Seconds after which an interruption that ended nothing is raised again."""


def run_until_interrupted(work: Callable[[], int]) -> int:
    """Do the work, which Ctrl-C and SIGTERM end alike; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return work()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        print("\ninterrupted; the same command resumes", file=sys.stderr)  # after a progress bar, on a line of its own
        return 130


def _interrupt(*signal_and_frame: Any) -> None:
    """Raise what Ctrl-C raises; again if it was lost, as in a callback out of C, where Python prints exceptions and goes on."""
    again = threading.Timer(RAISED_AGAIN_AFTER, signal.raise_signal, [signal.SIGINT])
    again.daemon = True
    again.start()
    raise KeyboardInterrupt
