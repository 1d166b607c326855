"""Ctrl-C and SIGTERM end a run alike, even where something swallows the exception."""

import signal
import time
from contextlib import suppress

import pytest

from hf_lrcompress.commands import interruption


@pytest.fixture(autouse=True)
def own_handlers(monkeypatch):
    """This process's own handlers are put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(interruption, "RAISED_AGAIN_AFTER", 0.05)
    yield
    time.sleep(0.1)  # a timer that is still running finds the signal ignored
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
