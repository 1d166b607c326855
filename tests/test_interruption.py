"""Ctrl-C and SIGTERM end a run alike, even where something swallows the exception."""

import signal
import time
from contextlib import suppress

import pytest
from conftest import load_recipe


@pytest.fixture
def recipe(monkeypatch):
    """The recipe, with this process's own handlers put back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    recipe = load_recipe("compress")
    monkeypatch.setattr(recipe, "RAISED_AGAIN_AFTER", 0.05)
    yield recipe
    time.sleep(0.1)  # a timer that is still running finds the signal ignored
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("swallowed", [0, 2])
def test_an_interruption_ends_the_run_with_its_own_line(recipe, monkeypatch, capsys, number, swallowed):
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

    monkeypatch.setattr(recipe, "main", work)
    started = time.monotonic()
    assert recipe.run_until_interrupted() == 130
    assert time.monotonic() - started < 4
    assert capsys.readouterr().err == "\ninterrupted; the same command resumes\n"
