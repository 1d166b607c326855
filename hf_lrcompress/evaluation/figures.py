"""Figures of what was measured, as PNG files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lrcompress.evaluation.tables import UNDISTILLED, capacity_averages
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.tables import STAGE_COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEPT = ("mlm_accuracy", "sentence_similarity", "token_similarity")


def plot_scores(scores: Sequence[Mapping[str, Any]], efficiency: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a figure of score against size, a line a task.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
        efficiency (`Sequence[Mapping]`): Rows of [`measure_efficiency`], one a model.
        path (`Path`): The file.
    """
    figure, axes = _empty_figure()
    sizes = {row["model"]: row["size_mb"] for row in efficiency}
    for name in TASKS:
        own = {row["model"]: (sizes[row["model"]], 100 * row["mean"], 100 * row["std"]) for row in scores if row["task"] == name}
        if own:
            _plot_task(axes, name.upper(), own)
    _double_along_x(axes, sizes.values())
    axes.set(xlabel="size (MB, fp32)", ylabel="score × 100")
    if any(row["quick"] for row in scores):
        axes.set_title("quick: one seed, fewer epochs", fontsize="medium")
    axes.legend()
    figure.savefig(path, dpi=150)


def plot_capacity(capacity: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a figure of the average score against the adapters' reduction factor, a line a model.

    Args:
        capacity (`Sequence[Mapping]`): Rows of [`score_factors`].
        path (`Path`): The file.
    """
    figure, axes = _empty_figure()
    for model, of_factors in capacity_averages(capacity).items():
        axes.plot(list(of_factors), list(of_factors.values()), marker="o", label=model)
    factors = sorted({row["reduction_factor"] for row in capacity})
    axes.set_xscale("log", base=2)
    axes.set_xticks(factors, [str(factor) for factor in factors])
    axes.set(xlabel="reduction factor of the adapters", ylabel="average score × 100")
    axes.legend()
    figure.savefig(path, dpi=150)


def plot_stages(stages: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a figure of what every stage has kept of the teacher, against its parameters; the largest model is at the left.

    Args:
        stages (`Sequence[Mapping]`): The report's rows, one a stage.
        path (`Path`): The file.
    """
    figure, axes = _empty_figure()
    for key in KEPT:
        measured = [row for row in stages if row.get(key) is not None]
        if measured:
            x = [row["parameters"] / 1e6 for row in measured]
            axes.plot(x, [row[key] for row in measured], marker="o", label=STAGE_COLUMNS[key][0])
    _double_along_x(axes, [row["parameters"] / 1e6 for row in stages])
    axes.set(xlabel="parameters (millions)", ylim=(0, 1.05))
    axes.invert_xaxis()
    axes.legend()
    figure.savefig(path, dpi=150)


def _empty_figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # here: only who draws needs it; not pyplot, which keeps every figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    return figure, figure.subplots()


def _double_along_x(axes: "Axes", values: Iterable[float]) -> None:
    """A logarithmic axis with a number at every doubling: 25, 50, 100."""
    powers = [math.log2(value / 25) for value in values]
    ticks = [25 * 2.0**power for power in range(math.floor(min(powers)), math.ceil(max(powers)) + 1)]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()


def _plot_task(axes: "Axes", title: str, points: dict[str, tuple[float, float, float]]) -> None:
    """A line through a task's points (size, mean, deviation), and a cross for surgery alone."""
    surgery_alone = points.pop(UNDISTILLED, None)
    x, mean, deviation = zip(*sorted(points.values()), strict=True)
    line = axes.errorbar(x, mean, yerr=deviation, marker="o", capsize=3, label=title)
    if surgery_alone:
        color = line[0].get_color()
        axes.plot(*surgery_alone[:2], marker="x", linestyle="", color=color, label=f"{title}, {UNDISTILLED}")
