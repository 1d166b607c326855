"""Processes that work side by side."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from hf_lrcompress import workers

SEES = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"


@pytest.mark.parametrize(("slot", "devices", "visible", "seen"), [(0, 1, None, "None"), (1, 2, None, "1"), (3, 2, "5,7", "7")])
def test_each_sees_one_gpu_where_there_are_several(monkeypatch, slot, devices, visible, seen):
    monkeypatch.setattr("torch.cuda.device_count", lambda: devices)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    worker = workers.start_worker([sys.executable, "-c", SEES], slot, 4, stdout=subprocess.PIPE, text=True)
    assert worker.communicate()[0].strip() == seen


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system gives no cores")
def test_the_cores_are_shared_out():
    mine = os.sched_getaffinity(0)
    command = [sys.executable, "-c", "import os; input(); print(*os.sched_getaffinity(0))"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [workers.start_worker(command, slot, 2, **pipes) for slot in range(2)]
    shares = [{int(core) for core in worker.communicate("\n")[0].split()} for worker in started]
    assert set.union(*shares) == mine and (len(mine) == 1 or not set.intersection(*shares))


def test_one_that_does_not_end_is_killed_and_one_that_has_ended_left_alone(monkeypatch):
    monkeypatch.setattr(workers, "ENDS_WITHIN", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    stubborn = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    stubborn.stdout.readline()
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    workers.end_workers([done, stubborn])
    assert (done.returncode, stubborn.returncode) == (0, -signal.SIGKILL)


def test_a_command_ends_when_the_process_that_started_it_is_killed():
    """As a run of a study does, which nobody else would end."""
    run = "from argparse import Namespace; import time; from hf_lrcompress.commands.process import run_command\n"
    run += "run_command(lambda given: time.sleep(600), Namespace(command='compare'))"
    start = "import sys; from hf_lrcompress.workers import start_worker\n"
    start += "start_worker([sys.executable, '-c', sys.argv[1]], 0, 1).wait()"
    parent = psutil.Popen([sys.executable, "-c", start, run])
    started = []
    while not started:
        assert parent.poll() is None
        time.sleep(0.1)
        started = parent.children()
    parent.kill()
    parent.wait()
    _, goes_on = psutil.wait_procs(started, timeout=90)
    for process in goes_on:
        process.kill()
    assert not goes_on
