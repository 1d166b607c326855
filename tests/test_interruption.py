"""Ctrl-C, SIGTERM and a closed terminal end a run alike, even where something swallows the exception."""

import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from hf_lrcompress.commands import interruption
from hf_lrcompress.commands.process import LostProcessError, lost_process_named


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch):
    """This process's own handlers are put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(interruption, "RAISED_AGAIN_AFTER", 0.05)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may have been started by nohup
    yield
    time.sleep(0.1)  # a timer that is still running finds the signal ignored
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("swallowed", [0, 2])
def test_an_interruption_ends_the_run_with_its_own_line(capsys, number, swallowed):
    def work():
        if not swallowed:
            signal.raise_signal(number)
        for time_lost in range(swallowed):
            with suppress(KeyboardInterrupt):  # as Python does in a callback from C
                signal.raise_signal(number) if time_lost == 0 else train()
        train()

    def train():
        for _ in range(500):
            time.sleep(0.01)

    started = time.monotonic()
    assert interruption.run_until_interrupted(work) == 130
    assert time.monotonic() - started < 4
    assert capsys.readouterr().err == "\ninterrupted; the same command resumes\n"


def test_what_was_told_to_outlive_its_terminal_does():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup
    assert interruption.run_until_interrupted(lambda: signal.raise_signal(signal.SIGHUP) or 0) == 0


LOST_IN_A_DESTRUCTOR = """
import signal, time
from hf_lrcompress.commands.interruption import run_until_interrupted

class Dataset:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def work():
    Dataset()
    for _ in range(800):
        time.sleep(0.01)
    return 0

raise SystemExit(run_until_interrupted(work))
"""


def test_an_interruption_in_a_destructor_is_not_lost_and_prints_no_trace():
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", LOST_IN_A_DESTRUCTOR], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "\ninterrupted; the same command resumes\n")
    assert time.monotonic() - started < 7


def test_a_process_that_no_longer_answers_is_one_line_and_other_errors_are_left():
    line = r"^another process of this run does not answer; .*Connection reset by peer\)$"
    with pytest.raises(LostProcessError, match=line), lost_process_named():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1229: Connection reset by peer")
    with pytest.raises(RuntimeError, match="^mat1 and mat2"), lost_process_named():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
