"""Scores as a table in the order of the paper's Table 1, and as figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from hf_lrcompress.evaluation.tasks import TASKS

UNDISTILLED = "undistilled"
"""Name of the student that surgery alone has made."""

QUICK_NOTICE = "Quick: one seed, and fewer epochs than the paper's where texts are many. Not comparable with published scores."


def score_table(
    scores: Sequence[dict[str, Any]], efficiency: Sequence[dict[str, Any]], base: int | None = None, style: str = "github"
) -> str:
    """A row a model: reduction, size, tasks, average, retention and speed; scores × 100: mean ± standard deviation (retention).

    Args:
        scores (`Sequence[dict]`): Of [`score_models`].
        efficiency (`Sequence[dict]`): Of [`measure_efficiency`], a row a model.
        base (`int`, *optional*): Parameters that the reduction is counted from; those of the first model by default.
        style (`str`, *optional*, defaults to `"github"`): Of `tabulate`.
    """
    tasks = [name for name in TASKS if any(row["task"] == name for row in scores)]
    base = base or efficiency[0]["parameters"]
    rows = []
    for speed in efficiency:
        own = {row["task"]: row for row in scores if row["model"] == speed["model"]}
        retained = [own[name]["retention"] for name in tasks if own[name]["retention"] is not None]
        rows.append(
            [
                speed["model"],
                f"{100 * (1 - speed['parameters'] / base):.1f}",
                f"{speed['size_mb']:.1f}",
                *(_cell(own[name]) for name in tasks),
                f"{100 * np.mean([own[name]['mean'] for name in tasks]):.1f}",
                f"{100 * np.mean(retained):.1f}" if retained else "",
                f"{speed['latency_ms_batch_1']:.1f}",
                f"{speed['latency_ms_batch_32']:.1f}",
                f"{speed['tokens_per_second']:,.0f}",
                f"{speed['speedup']:.2f}",
            ]
        )
    titles = [name.upper() for name in tasks]
    headers = ["model", "reduction %", "MB", *titles, "average", "retention %", "ms (1)", "ms (32)", "tokens/s", "speed-up"]
    return tabulate(
        rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1)
    )


def score_notes(scores: Sequence[dict[str, Any]], skipped: Sequence[str] = ()) -> list[str]:
    """What one must know to read the table: metrics, sizes, overlap, what was skipped."""
    lines = [QUICK_NOTICE] if any(row["quick"] for row in scores) else []
    for row in {row["task"]: row for row in scores}.values():
        overlap = f"{100 * row['train_overlap']:.1f} % of them also in train"
        seeds = f"{len(row['seeds'])} seed" + ("s" if len(row["seeds"]) > 1 else "")
        accuracy = ""
        if row["task"] == "pos":
            accuracy = "; accuracy " + ", ".join(f"{100 * r['extra']['accuracy']:.1f}" for r in scores if r["task"] == "pos")
        sizes = f"{row['test_size']:,} test texts, {overlap}; {seeds}, {row['tuning']}{accuracy}"
        lines.append(f"{row['task'].upper()}: {TASKS[row['task']].title}, {row['metric']} × 100 on {sizes}.")
    if any(row["model"] == UNDISTILLED for row in scores):
        lines.append(f"{UNDISTILLED}: the same surgeries on the adapted teacher, with no training after them.")
    lines += [f"{name.upper()}: skipped, no data set in this language is known." for name in skipped]
    return lines


def plot_scores(scores: Sequence[dict[str, Any]], efficiency: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a figure of score against size, a line a task, as PNG."""
    from matplotlib.figure import Figure  # not pyplot: that keeps every figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sizes = {row["model"]: row["size_mb"] for row in efficiency}
    for name in TASKS:
        own = {row["model"]: (sizes[row["model"]], 100 * row["mean"], 100 * row["std"]) for row in scores if row["task"] == name}
        if own:
            surgery_alone = own.pop(UNDISTILLED, None)
            x, mean, deviation = zip(*sorted(own.values()), strict=True)
            line = axes.errorbar(x, mean, yerr=deviation, marker="o", capsize=3, label=name.upper())
            if surgery_alone:
                label = f"{name.upper()}, {UNDISTILLED}"
                axes.plot(*surgery_alone[:2], marker="x", linestyle="", color=line[0].get_color(), label=label)
    axes.set(xscale="log", xlabel="size (MB, fp32)", ylabel="score × 100")
    if any(row["quick"] for row in scores):
        axes.set_title("quick: one seed, fewer epochs", fontsize="medium")
    axes.legend()
    figure.savefig(path, dpi=150)


def capacity_table(capacity: Sequence[dict[str, Any]], style: str = "github") -> str:
    """A row a model, a column a reduction factor: the average over the tasks × 100.

    Args:
        capacity (`Sequence[dict]`): Of [`score_factors`].
        style (`str`, *optional*, defaults to `"github"`): Of `tabulate`.
    """
    averages = _averages(capacity)
    headers = ["model", *(f"r = {factor}" for factor in next(iter(averages.values())))]
    rows = [[model, *(f"{mean:.1f}" for mean in of_model.values())] for model, of_model in averages.items()]
    return tabulate(rows, headers, style, disable_numparse=True, colalign=["left"] + ["right"] * (len(headers) - 1))


def plot_capacity(capacity: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a figure of the average score against the reduction factor, a line a model, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for model, of_model in _averages(capacity).items():
        axes.plot(of_model.keys(), of_model.values(), marker="o", label=model)
    factors = sorted({row["reduction_factor"] for row in capacity})
    axes.set_xscale("log", base=2)
    axes.set_xticks(factors, map(str, factors))
    axes.set(xlabel="reduction factor of the adapters", ylabel="average score × 100")
    axes.legend()
    figure.savefig(path, dpi=150)


def _averages(capacity: Sequence[dict[str, Any]]) -> dict[str, dict[int, float]]:
    """Model → reduction factor, ascending → average over the tasks × 100."""
    values: dict[str, dict[int, list[float]]] = {}
    for row in sorted(capacity, key=lambda row: row["reduction_factor"]):
        values.setdefault(row["model"], {}).setdefault(row["reduction_factor"], []).append(100 * row["mean"])
    models = dict.fromkeys(row["model"] for row in capacity)
    return {model: {factor: float(np.mean(means)) for factor, means in values[model].items()} for model in models}


def _cell(row: dict[str, Any]) -> str:
    deviation = f" ± {100 * row['std']:.1f}" if len(row["values"]) > 1 else ""
    retention = "" if row["retention"] is None else f" ({100 * row['retention']:.0f} %)"
    return f"{100 * row['mean']:.1f}{deviation}{retention}"
