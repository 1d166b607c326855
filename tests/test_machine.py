"""Peak memory, energy by codecarbon's offline tracker, and runs that were measured in part."""

import os
import platform
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch
from codecarbon import OfflineEmissionsTracker
from conftest import FIND_SPEC

from hf_lrcompress import machine
from hf_lrcompress.machine import Meter, add_spent, computes_in_bf16, peak_memory_mb, start_energy_meter


@pytest.fixture(autouse=True)
def with_energy(monkeypatch):
    monkeypatch.setattr(machine, "find_spec", FIND_SPEC)


def test_peak_memory_is_at_least_what_was_held(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    held = torch.ones(25_000_000)
    before = psutil.Process().memory_info().rss / 1e6
    del held
    assert before * 0.99 <= peak_memory_mb() < 100 * before


LEAVE_HOLES = """
from hf_lrcompress.machine import hold_little_memory
import psutil, sys
if sys.argv[1] == "at once":
    hold_little_memory()
block = bytearray(30_000_000)
del block  # glibc raises its bound to this
kept, freed = [], []
for _ in range(20):
    freed.append(bytearray(10_000_000))
    kept.append(bytearray(1_000_000))
freed.clear()
print(psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries do is not changed")
def test_memory_between_blocks_in_use_is_given_back():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    own = environment | {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=20000000"}
    held = []
    for how, variables in (("at once", environment), ("as glibc does", environment), ("at once", own)):
        command = [sys.executable, "-c", LEAVE_HOLES, how]
        held.append(int(subprocess.run(command, capture_output=True, text=True, check=True, env=variables).stdout))
    assert held[1] - held[0] > 150_000_000 and held[2] - held[0] > 150_000_000


MANY_SHAPES = """
from hf_lrcompress.machine import hold_little_memory
import psutil, sys, torch
if sys.argv[1] == "little":
    hold_little_memory()
weight = torch.ones(384, 384, dtype=torch.bfloat16)
before = psutil.Process().memory_info().rss
for rows in range(16, 416):
    torch.nn.functional.linear(torch.ones(rows, 384, dtype=torch.bfloat16), weight)
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.skipif(torch.accelerator.is_available() or not computes_in_bf16(), reason="these products are not oneDNN's here")
def test_what_onednn_prepared_for_many_shapes_is_not_kept():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_")}
    taken = []
    for how, variables in (("little", {}), ("as oneDNN does", {}), ("little", {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"})):
        command = [sys.executable, "-c", MANY_SHAPES, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | variables)
        taken.append(int(done.stdout))
    assert taken[1] - taken[0] > 20_000_000 and taken[2] - taken[0] > 20_000_000


def test_peak_memory_on_windows_is_that_of_the_working_set(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine.sys, "platform", "win32")
    monkeypatch.setattr(psutil.Process, "memory_info", lambda process: SimpleNamespace(peak_wset=123_000_000))
    assert peak_memory_mb() == 123


def test_energy_is_power_times_time_and_needs_no_network(monkeypatch):
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address) or [])
    started, stop = time.monotonic(), start_energy_meter()
    time.sleep(1)
    kwh = stop()
    watt = kwh * 3.6e6 / (time.monotonic() - started)
    assert 0.1 < watt < 5000 and not asked


def test_it_is_the_whole_machines_whatever_codecarbon_is_set_to(monkeypatch):
    modes, start = [], OfflineEmissionsTracker.start
    monkeypatch.setattr(OfflineEmissionsTracker, "start", lambda self: modes.append(self._tracking_mode) or start(self))
    monkeypatch.setenv("CODECARBON_TRACKING_MODE", "process")
    start_energy_meter()()
    assert modes == ["machine"]


def test_without_codecarbon_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    assert start_energy_meter()() is None


@pytest.mark.parametrize(
    ("before", "kwh", "total"),
    [
        ({}, 0.5, {"energy_kwh": 0.5}),
        ({}, None, {}),
        ({"seconds": 3.0, "energy_kwh": 0.25}, 0.5, {"energy_kwh": 0.75}),
        ({"seconds": 3.0}, 0.5, {}),
        ({"seconds": 3.0, "energy_kwh": 0.25}, None, {"energy_kwh": None}),
    ],
)
def test_a_stage_measured_in_part_is_not_measured(before, kwh, total):
    assert add_spent(before, 2.0, kwh) == {"seconds": before.get("seconds", 0.0) + 2.0} | total


def test_a_meter_leaves_nothing_out_between_its_parts(monkeypatch):
    now = iter([10.0, 11.0, 14.0])
    running = []
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(machine, "start_energy_meter", lambda: running.append(1) or (lambda: float(running.pop())))
    meter = Meter()
    assert meter.read() == (1.0, 1.0) and running
    assert meter.read(last=True) == (3.0, 1.0) and not running
    monkeypatch.undo()
    assert Meter(energy=False).read()[1] is None
