"""The energy that a part of a run took, where `codecarbon` is installed."""

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any


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


def add_energy(before: Mapping[str, Any], kwh: float | None) -> dict[str, float | None]:
    """The metric `energy_kwh` of a stage that may have been interrupted; only a sum of all its parts is one.

    Args:
        before (`Mapping`): The stage's metrics so far.
        kwh (`float`, *optional*): Of this part.
    """
    measured = before.get("energy_kwh") is not None or "seconds" not in before
    if kwh is None or not measured:
        return {"energy_kwh": None} if "energy_kwh" in before else {}
    return {"energy_kwh": before.get("energy_kwh", 0.0) + kwh}
