"""Figures of what was measured, as PNG files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from hf_lrcompress.evaluation.judging import shortened_notice
from hf_lrcompress.evaluation.tables import MAJORITY, UNDISTILLED, baseline_rows, capacity_averages
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.tables import STAGE_COLUMNS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEPT = ("mlm_accuracy", "sentence_similarity", "token_similarity")


def plot_scores(scores: Sequence[Mapping[str, Any]], efficiency: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a figure of score against size: a line a task, and dashed what guessing gives. The title says what was shortened.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
        efficiency (`Sequence[Mapping]`): Rows of [`measure_efficiency`], one a model.
        path (`Path`): The file.
    """
    figure, axes = _empty_figure()
    sizes = {row["model"]: row["size_mb"] for row in efficiency}
    for name in TASKS:
        rows = [row for row in scores if row["task"] == name]
        if rows:
            _plot_task(axes, name.upper(), rows, sizes)
    _double_along_x(axes, sizes.values())
    axes.set(xlabel="size (MB, fp32)", ylabel="score × 100")
    _finish(figure, axes, scores, path)


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
    _finish(figure, axes, capacity, path)


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


def _finish(figure: "Figure", axes: "Axes", scores: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Say how the trainings fell short of the paper's, and write the file."""
    notice = shortened_notice(scores)
    if notice:
        axes.set_title("\n".join(wrap(notice, 90)), fontsize="small")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def _plot_task(axes: "Axes", title: str, rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, float]) -> None:
    """A line through a task's scores, a cross for surgery alone, dashed the baseline, and of parts of speech the accuracy."""
    compressed = sorted((row for row in rows if row["model"] != UNDISTILLED), key=lambda row: sizes[row["model"]])
    x = [sizes[row["model"]] for row in compressed]
    deviations = [100 * row["std"] for row in compressed]
    line = axes.errorbar(x, [100 * row["mean"] for row in compressed], yerr=deviations, marker="o", capsize=3, label=title)
    color = line[0].get_color()
    for row in rows:
        if row["model"] == UNDISTILLED:
            label = f"{title}, {UNDISTILLED}"
            axes.plot(sizes[UNDISTILLED], 100 * row["mean"], marker="x", linestyle="", color=color, label=label)
    for baseline in baseline_rows(rows):
        axes.axhline(100 * baseline["mean"], color=color, linestyle="--", linewidth=1, label=f"{title}, {MAJORITY}")
    if title == "POS":
        accuracies = [100 * row["extra"]["accuracy"] for row in compressed]
        axes.plot(x, accuracies, marker=".", linestyle=":", color=color, label="POS accuracy")
