"""The figure of a study: a panel for the steps of the trainings, and for each measure one against the setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_lrcompress.figures.maker import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Panel:
    """A `measure` `against` steps or a setting.

    Args:
        against (`str`): What the places are.
        measure (`str`): What the values are.
        lines (`Mapping[str, Mapping[float, Sequence[float]]]`): For each line, by name, the values at every place, one a seed.
        least_span (`float`, *optional*, defaults to 0): What the axis of values shows at least: chance must not look large.
    """

    against: str
    measure: str
    lines: Mapping[str, Mapping[float, Sequence[float]]]
    least_span: float = 0


def plot_study(title: str, panels: Sequence[Panel], path: Path) -> None:
    """Write a figure of a study: its panels beside each other; several seeds are a band.

    Args:
        title (`str`): Stands above.
        panels (`Sequence[Panel]`): The panels; without any nothing is drawn.
        path (`Path`): The file.
    """
    if panels:
        write_figure(path, partial(_paint_study, title, panels), len(panels), height=4.5)


def _paint_study(title: str, panels: Sequence[Panel], *all_axes: "Axes") -> None:
    all_axes[0].figure.suptitle(title)
    for panel, axes in zip(panels, all_axes, strict=True):
        for label, values in panel.lines.items():
            _paint_band(axes, label, values)
        places = sorted({place for values in panel.lines.values() for place in values})
        if places and 0 < 10 * places[0] < places[-1]:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # not as a power of ten, which would be mathematics
        if len(places) <= 8:  # so many can be named
            axes.set_xticks(places, [f"{place:,}" for place in places])
            axes.minorticks_off()
        axes.set(xlabel=panel.against, ylabel=panel.measure)
        low, high = axes.get_ylim()
        margin = max(0, panel.least_span - (high - low)) / 2
        axes.set_ylim(low - margin, high + margin)
        axes.grid(alpha=0.3)
        if any(panel.lines):
            axes.legend(fontsize="small")


def _paint_band(axes: "Axes", label: str, values: Mapping[float, Sequence[float]]) -> None:
    """A line through the means, and a band of a standard deviation to either side where there are several values."""
    x = sorted(values)
    means = np.array([np.mean(values[place]) for place in x])
    deviations = np.array([np.std(values[place], ddof=1) if len(values[place]) > 1 else 0 for place in x])
    (line,) = axes.plot(x, means, marker=".", label=label or None)
    axes.fill_between(x, means - deviations, means + deviations, color=line.get_color(), alpha=0.2, linewidth=0)
