"""How a command ends when it is told to. Nothing slow is imported here: Ctrl-C may come while all else still is."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

RAISED_AGAIN_AFTER = 10.0
"""Seconds after which an interruption that ended nothing is raised again."""
KNOWN_LOST_AFTER = 0.05
"""The same, where Python has said that it was lost."""


def run_until_interrupted(work: Callable[[], int]) -> int:
    """Do the work, which Ctrl-C, SIGTERM and a closed terminal end alike; the exit code."""
    others_hook = sys.unraisablehook
    sys.unraisablehook = partial(_report_unraisable, others_hook)
    numbers = _signals_that_end()
    for number in numbers:
        signal.signal(number, _interrupt)
    try:
        return work()
    except KeyboardInterrupt:
        _ignore_signals(numbers)
        print("\ninterrupted; the same command resumes", file=sys.stderr)  # after a progress bar, on a line of its own
        return 130
    finally:
        _ignore_signals(numbers)  # what was lost is not raised again in a process that has ended
        sys.unraisablehook = others_hook


def _signals_that_end() -> list[signal.Signals]:
    """Those that a command ends by: also that its terminal was closed, where it was not told (`nohup`) to outlive that."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    return [signal.SIGINT, signal.SIGTERM, *hangup]


def _ignore_signals(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(*signal_and_frame: Any) -> None:
    """Raise what Ctrl-C raises; again if it was lost, as where a library catches everything."""
    _raise_again_after(RAISED_AGAIN_AFTER)
    raise KeyboardInterrupt


def _report_unraisable(report_others: Callable[[Any], object], unraisable: Any) -> None:
    """Raise again what came in a `__del__` or a callback out of C, where Python prints exceptions and goes on."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        _raise_again_after(KNOWN_LOST_AFTER)
    else:
        report_others(unraisable)


def _raise_again_after(seconds: float) -> None:
    again = threading.Timer(seconds, signal.raise_signal, [signal.SIGINT])
    again.daemon = True
    again.start()
