"""Processes that work side by side: each sees one GPU and has its share of the cores."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

ENDS_WITHIN = 60.0
"""Seconds that a process has to end when it is told to."""
PARENT = "HF_LRCOMPRESS_PARENT"
"""Environment variable that tells a worker the process id of the one that started it."""
NOTICED_WITHIN = 1.0
"""Seconds after which a worker sees that the process which started it is gone."""


def start_worker(
    command: Sequence[str],
    slot: int,
    workers: int,
    gpu: int | None = None,
    env: Mapping[str, str] = os.environ,
    **streams: Any,
) -> subprocess.Popen:
    """Start a process that is one of several.

    Args:
        command (`Sequence[str]`): The program and its arguments.
        slot (`int`): Its number among those that run at once, from 0.
        workers (`int`): How many run at once.
        gpu (`int`, *optional*): Number of its GPU among those that this process sees; by default they take turns.
        env (`Mapping[str, str]`, *optional*): The environment variables, if not this process's.
        streams: `stdin`, `stdout` and `stderr` as in `subprocess.Popen`.
    """
    process = subprocess.Popen(
        command,
        env={**env, **_one_gpu(slot if gpu is None else gpu), PARENT: str(os.getpid())},
        start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on, once
        **streams,
    )
    _give_cores(process.pid, slot, workers)
    return process


def end_with_parent() -> None:
    """Let a worker end soon after the process that started it, which may be killed and then pass nothing on.

    In a process that is no worker, and on Windows, where the id of a parent says nothing, it does nothing.
    """
    parent = int(os.environ.pop(PARENT, 0))
    if not parent or os.name == "nt":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(NOTICED_WITHIN)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_workers(processes: Sequence[subprocess.Popen]) -> None:
    """Tell processes to end, and wait until they have; those that have ended already are left alone."""
    for process in processes:
        process.terminate()
    for process in processes:
        _wait_for_the_end(process)


def _one_gpu(number: int) -> dict[str, str]:
    """What shows a worker one GPU, where there are several."""
    devices = torch.cuda.device_count()
    if devices < 2:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(devices)]
    return {"CUDA_VISIBLE_DEVICES": names[number % devices]}


def _give_cores(pid: int, slot: int, workers: int) -> None:
    """Give a worker its share of the cores, where the system can: more threads than cores are slower than as many."""
    if hasattr(os, "sched_setaffinity") and workers > 1:
        cores = sorted(os.sched_getaffinity(0))
        with suppress(ProcessLookupError):  # it has died already
            os.sched_setaffinity(pid, cores[slot % len(cores) :: workers])


def _wait_for_the_end(process: subprocess.Popen) -> None:
    """Wait for a process that was told to end, though this one may be told so again; one that takes long is killed."""
    while process.poll() is None:
        try:
            process.wait(ENDS_WITHIN)
        except KeyboardInterrupt:
            continue
        except subprocess.TimeoutExpired:
            process.kill()
