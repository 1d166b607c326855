"""Scores as a table in the order of the paper's Table 1, and what one must know to read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.tables import EFFICIENCY_COLUMNS, STAGE_COLUMNS, Columns, make_table

UNDISTILLED = "undistilled"
"""Name of the student that surgery alone has made."""

MAJORITY = "majority baseline"
QUICK_NOTICE = "Quick: one seed, and fewer epochs than the paper's where texts are many. Not comparable with published scores."


def score_table(scores: Sequence[Mapping[str, Any]], efficiency: Sequence[Mapping[str, Any]], base: int | None = None) -> str:
    """A row a model: reduction, size, tasks, average, retention and speed; scores × 100: mean ± standard deviation (retention).

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
        efficiency (`Sequence[Mapping]`): Rows of [`measure_efficiency`], one a model.
        base (`int`, *optional*): Parameters that the reduction is counted from; those of the first model by default.
    """
    base = base or efficiency[0]["parameters"]
    rows = []
    for model in efficiency:
        own = [row for row in scores if row["model"] == model["model"]]
        rows.append({**model, "reduction_percent": 100 * (1 - model["parameters"] / base), **_cells(own)})
    baselines = {row["task"]: row["majority"] for row in scores if row.get("majority") is not None}
    if baselines:
        rows.append({"model": MAJORITY, **_cells([{"task": task, "mean": mean} for task, mean in baselines.items()])})
    columns: Columns = {
        "model": EFFICIENCY_COLUMNS["model"],
        "reduction_percent": STAGE_COLUMNS["reduction_percent"],
        "parameters": EFFICIENCY_COLUMNS["parameters"],
        "size_mb": EFFICIENCY_COLUMNS["size_mb"],
        **{name: (name.upper(), _score) for name in _tasks(scores)},
        "average": ("average", "{:.1f}".format),
        "retention": ("retention %", "{:.1f}".format),
        **EFFICIENCY_COLUMNS,  # speed; the others have their places above
    }
    return make_table(rows, columns, missing="")


def score_notes(scores: Sequence[Mapping[str, Any]], skipped: Sequence[str] = ()) -> list[str]:
    """What one must know to read the table: metrics, sizes, overlap, how models were trained, what was skipped.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
        skipped (`Sequence[str]`, *optional*): Names of the tasks that have no data in the language.
    """
    lines = [QUICK_NOTICE] if any(row["quick"] for row in scores) else []
    for name in dict.fromkeys(row["task"] for row in scores):
        lines.append(_task_note([row for row in scores if row["task"] == name]))
    if any(row["model"] == UNDISTILLED for row in scores):
        lines.append(f"{UNDISTILLED}: the same surgeries on the adapted teacher, with no training after them.")
    if any(row.get("majority") is not None for row in scores):
        lines.append(f"{MAJORITY}: the score of always answering with the most frequent label.")
    lines += [f"{name.upper()}: skipped, no data set in this language is known." for name in skipped]
    return lines


def capacity_table(capacity: Sequence[Mapping[str, Any]]) -> str:
    """A row a model, a column a reduction factor: the average over the tasks × 100.

    Args:
        capacity (`Sequence[Mapping]`): Rows of [`score_factors`].
    """
    averages = capacity_averages(capacity)
    columns: dict[str, Any] = {"model": ("model", str)}
    rows = []
    for model, of_factors in averages.items():
        columns |= {f"r{factor}": (f"r = {factor}", "{:.1f}".format) for factor in of_factors}
        rows.append({"model": model} | {f"r{factor}": mean for factor, mean in of_factors.items()})
    return make_table(rows, columns)


def capacity_averages(capacity: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """Model → reduction factor, ascending → average over the tasks × 100.

    Args:
        capacity (`Sequence[Mapping]`): Rows of [`score_factors`].
    """
    factors = sorted({row["reduction_factor"] for row in capacity})
    averages: dict[str, dict[int, float]] = {row["model"]: {} for row in capacity}
    for model, of_factors in averages.items():
        for factor in factors:
            means = [row["mean"] for row in capacity if (row["model"], row["reduction_factor"]) == (model, factor)]
            of_factors[factor] = 100 * float(np.mean(means))
    return averages


def _tasks(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the tasks that were scored, in the order of the paper."""
    scored = {row["task"] for row in scores}
    return [name for name in TASKS if name in scored]


def _cells(own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A model's part of the table that its scores make."""
    retained = [row["retention"] for row in own if row.get("retention") is not None]
    average = 100 * np.mean([row["mean"] for row in own])
    retention = 100 * np.mean(retained) if retained else None
    return {row["task"]: row for row in own} | {"average": average, "retention": retention}


def _score(row: Mapping[str, Any]) -> str:
    deviation = f" ± {100 * row['std']:.1f}" if len(row.get("values", ())) > 1 else ""
    retention = "" if row.get("retention") is None else f" ({100 * row['retention']:.0f} %)"
    return f"{100 * row['mean']:.1f}{deviation}{retention}"


def _task_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a task's scores are, and how the models were trained for it."""
    row = rows[-1]
    overlap = f"{100 * row['train_overlap']:.1f} % of them also in train"
    seeds = f"{len(row['seeds'])} seed" + ("s" if len(row["seeds"]) > 1 else "")
    facts = [f"{row['test_size']:,} test texts, {overlap}", f"{seeds}, {row['tuning']}"]
    if row.get("epochs") is not None:
        facts.append(f"{row['epochs']:g} epochs")
    rates = [f"{each['learning_rate']:g} ({each['model']})" for each in rows if each.get("learning_rate") is not None]
    if rates:
        facts.append(f"learning rate {', '.join(rates)}")
    cut_off = [f"{each['words_cut_off']:,} ({each['model']})" for each in rows if each.get("words_cut_off")]
    if cut_off:
        facts.append(f"words beyond the maximum length, which have the most frequent tag: {', '.join(cut_off)}")
    if row["task"] == "pos":
        facts.append("accuracy " + ", ".join(f"{100 * each['extra']['accuracy']:.1f}" for each in rows))
    return f"{row['task'].upper()}: {TASKS[row['task']].title}, {row['metric']} × 100 on {'; '.join(facts)}."
