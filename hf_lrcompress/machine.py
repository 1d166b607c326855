"""The machine: what it can do, and the memory and energy that a part of a run took."""

import ctypes
import gc
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import psutil
import torch

RETURNED_AT_ONCE = 4 * 2**20
"""Bytes from which glibc is to give a block back to the system when it is freed."""
M_MMAP_THRESHOLD = -3
"""What `mallopt` calls that number (malloc.h)."""
PRODUCTS_KEPT = 64
"""Products of matrices, by their shapes, whose preparation oneDNN is to keep: a step of training has about 20."""


def hold_little_memory() -> None:
    """Have glibc and oneDNN hold on to less: batches of many lengths make both keep several times what a training needs.

    glibc raises the size from which it gives a block back to that of the largest it has freed, up to 32 MB, and keeps all smaller
    ones. These lie between others that are in use, and no later tensor fits into them. Here it gives large blocks back as soon as
    they are freed, at the price of a twentieth of the time. oneDNN keeps what it has prepared for products of 1,024 shapes, some
    MB each with large batches. That for fewer is made again: with batches of 64 sentences in a hundredth of the time, with 16 in
    a fourteenth. To be called before the first product is made. What the user has set stays: `MALLOC_MMAP_THRESHOLD_` or
    `GLIBC_TUNABLES=glibc.malloc.mmap_threshold=…`, and `ONEDNN_PRIMITIVE_CACHE_CAPACITY`.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRODUCTS_KEPT))
    own = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform == "linux" and not own:
        c_library = ctypes.CDLL(None)
        if hasattr(c_library, "mallopt"):
            c_library.mallopt(M_MMAP_THRESHOLD, RETURNED_AT_ONCE)


def free_memory() -> None:
    """Give back what nothing but itself refers to, of the GPU's memory as well."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def computes_in_bf16() -> bool:
    """Whether this machine has bf16 arithmetic (rather than emulating it)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    on_cpu = not torch.accelerator.is_available() and torch.backends.mkldnn.is_available()
    return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def peak_memory_mb() -> float:
    """Peak memory so far, in MB (10⁶ bytes): of the GPU where there is one, otherwise of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e6
    import resource  # here: Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def start_energy_meter() -> Callable[[], float | None]:
    """Begin to measure the machine's energy, without the network.

    Returns:
        `Callable[[], float | None]`: Ends the measurement and gives kWh: of the whole machine's processors, memory and GPUs,
        whatever else ran on them, partly estimated from their type where the hardware does not say. `None` if `codecarbon`
        is not installed.
    """
    if find_spec("codecarbon") is None:
        return lambda: None
    from codecarbon import OfflineEmissionsTracker  # here: it is optional

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it speaks before it reads its own log_level
    # The country only weighs emissions, which nobody reads here; without one codecarbon complains.
    tracker = OfflineEmissionsTracker(
        country_iso_code="DEU",
        tracking_mode="machine",
        save_to_file=False,
        save_to_api=False,
        log_level="critical",
        allow_multiple_runs=True,
    )
    tracker.start()

    def stop() -> float:
        tracker.stop()
        return tracker.final_emissions_data.energy_consumed

    return stop


class Meter:
    """Measures time and energy from its making on, part by part, with nothing between the parts.

    Args:
        energy (`bool`, *optional*, defaults to `True`):
            Whether to measure energy too. Of several processes some may be on other machines, which no meter sees.
    """

    def __init__(self, energy: bool = True) -> None:
        self._energy = energy
        self._since = time.monotonic()
        self._stop_energy = self._start_energy()

    def read(self, last: bool = False) -> tuple[float, float | None]:
        """End a part and begin the next, if there is one.

        Args:
            last (`bool`, *optional*, defaults to `False`): Whether nothing more is to be measured.

        Returns:
            `tuple[float, float | None]`: Seconds of the part and its energy in kWh, `None` where that is not measured.
        """
        kwh = self._stop_energy()
        now = time.monotonic()
        seconds = now - self._since
        self._since = now
        self._stop_energy = (lambda: None) if last else self._start_energy()
        return seconds, kwh

    def _start_energy(self) -> Callable[[], float | None]:
        return start_energy_meter() if self._energy else lambda: None


def add_spent(before: Mapping[str, Any], seconds: float, kwh: float | None) -> dict[str, float | None]:
    """The metrics `seconds` and `energy_kwh` of what may have been interrupted; only a sum of all its parts is one.

    Args:
        before (`Mapping`): The metrics so far.
        seconds (`float`): Time of this part.
        kwh (`float`, *optional*): Energy of this part, in kWh; `None` if it was not measured.

    Returns:
        `dict`: `seconds`; `energy_kwh`: `None` if a part was not measured, and left out if none was.
    """
    spent = {"seconds": before.get("seconds", 0.0) + seconds}
    measured = before.get("energy_kwh") is not None or "seconds" not in before
    if kwh is None or not measured:
        return spent | ({"energy_kwh": None} if "energy_kwh" in before else {})
    return spent | {"energy_kwh": before.get("energy_kwh", 0.0) + kwh}
