"""Scores as a table in the order of the paper's Table 1, and what one must know to read it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hf_lrcompress.evaluation.judging import (
    epochs_text,
    is_at_baseline,
    is_partly_learned,
    missed_text,
    shortened_notice,
    tuning_text,
)
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.tables import (
    EFFICIENCY_COLUMNS,
    RETENTION_COLUMNS,
    STAGE_COLUMNS,
    Columns,
    efficiency_columns,
    escaped,
    hundredfold,
    make_table,
)

UNDISTILLED = "undistilled"
"""Name of the student that surgery alone has made."""

MAJORITY = "majority baseline"
MAJORITY_NOTE = (
    f"{MAJORITY}: the score of always answering with the most frequent label. "
    "Up to a twentieth of the way from there to 100 a score is at the baseline: it has no retention, and none is counted from it."
)
IN_PART = "Averages count it all the same; where the reference has learned a part only, no share of it is given."
OTHER_ADAPTERS = "Models have adapters of different sizes (r): retention compares each with the adapters that it has."
ACCURACY_NOTE = (
    "the paper's F1 is that of seqeval, which takes off the first letter of a tag: CCONJ and SCONJ are one to it, as are all "
    "tags of one letter, and a tag that begins with O is none. Accuracy tells them apart"
)


def score_table(scores: Sequence[Mapping[str, Any]], efficiency: Sequence[Mapping[str, Any]], base: int | None = None) -> str:
    """A row a model: reduction, size, tasks, average, retention and speed; scores × 100: mean ± standard deviation (retention).

    Retention is the mean over the tasks that have one; those that have none are named.

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
    baselines = baseline_rows(scores)
    if baselines:
        rows.append({"model": MAJORITY, **_cells(baselines)})
    columns: Columns = {
        "model": EFFICIENCY_COLUMNS["model"],
        "reduction_percent": STAGE_COLUMNS["reduction_percent"],
        "parameters": EFFICIENCY_COLUMNS["parameters"],
        "size_mb": EFFICIENCY_COLUMNS["size_mb"],
        **{name: (name.upper(), _score) for name in _tasks(scores)},
        **{f"{name}_accuracy": (f"{name.upper()} accuracy", hundredfold) for name in _tasks_of_words(scores)},
        "average": ("average", "{:.1f}".format),
        **RETENTION_COLUMNS,
        **efficiency_columns(len(efficiency)),  # speed; the others have their places above
    }
    return make_table(rows, columns, missing="")


def score_notes(scores: Sequence[Mapping[str, Any]], skipped: Sequence[str] = ()) -> list[str]:
    """What one must know to read the table: metrics, sizes, overlap, how models were trained, what was skipped.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
        skipped (`Sequence[str]`, *optional*): Names of the tasks that have no data in the language.
    """
    shortened = shortened_notice(scores)
    lines = [shortened] if shortened else []
    for name in dict.fromkeys(row["task"] for row in scores):
        lines.append(_task_note([row for row in scores if row["task"] == name]))
    if any(row["model"] == UNDISTILLED for row in scores):
        lines.append(f"{UNDISTILLED}: the same surgeries on the adapted teacher, with no training after them.")
    if any(row.get("majority") is not None for row in scores):
        lines.append(MAJORITY_NOTE)
    lines += _notes_on_retention(scores)
    lines += [f"{name.upper()}: skipped, no data set in this language is known." for name in skipped]
    return lines


def card_notes(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a model card says below the table of all that [`score_notes`] says of each task.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
    """
    notes = [shortened_notice(scores)]
    notes += [f"{name.upper()}: {ACCURACY_NOTE}." for name in _tasks_of_words(scores)]
    if baseline_rows(scores):
        notes.append(MAJORITY_NOTE)
    notes += _notes_on_retention(scores)
    return [note for note in notes if note]


def _notes_on_retention(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may not be equal in what is compared: the adapters, and what was learned."""
    factors = {row.get("reduction_factor") for row in scores if row["tuning"] == "seq_bn"}
    return [OTHER_ADAPTERS] * (len(factors) > 1) + missed_notes(scores)


def missed_notes(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every task that a model has learned in part: what it never predicts, and how much of the test that is.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`] or [`score_factors`].
    """
    notes = []
    several = len({row.get("reduction_factor") for row in scores}) > 1
    for name in _tasks(scores):
        models: dict[str, list[str]] = {}
        for row in scores:
            if row["task"] == name and is_partly_learned(row) and not is_at_baseline(row):
                labels = f"{escaped(missed_text(row))} ({100 * sum(row['missed'].values()):.0f} % of the test)"
                factor = f" (r = {row['reduction_factor']})" if several else ""
                models.setdefault(labels, []).append(row["model"] + factor)
        never = "; ".join(f"{labels} by {', '.join(names)}" for labels, names in models.items())
        if models:
            notes.append(f"{name.upper()} is learned in part. Never predicted, with one seed at least: {never}. {IN_PART}")
    return notes


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
    """Model → reduction factor, ascending → average over the tasks × 100; the majority baseline is the last.

    Args:
        capacity (`Sequence[Mapping]`): Rows of [`score_factors`].
    """
    factors = sorted({row["reduction_factor"] for row in capacity})
    averages: dict[str, dict[int, float]] = {row["model"]: {} for row in capacity}
    for model, of_factors in averages.items():
        for factor in factors:
            means = [row["mean"] for row in capacity if (row["model"], row["reduction_factor"]) == (model, factor)]
            of_factors[factor] = 100 * float(np.mean(means))
    baselines = [row["mean"] for row in baseline_rows(capacity)]
    if baselines:
        averages[MAJORITY] = dict.fromkeys(factors, 100 * float(np.mean(baselines)))
    return averages


def baseline_rows(scores: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The majority baseline as rows of a model, one a task; none where it was not recorded.

    Args:
        scores (`Sequence[Mapping]`): Rows of [`score_models`].
    """
    recorded = {row["task"]: row for row in scores if row.get("majority") is not None}
    rows = []
    for task, row in recorded.items():
        accuracy = row["extra"].get("majority_accuracy")
        rows.append({"model": MAJORITY, "task": task, "mean": row["majority"], "extra": {"accuracy": accuracy}})
    return rows


def _tasks(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the tasks that were scored, in the order of the paper."""
    scored = {row["task"] for row in scores}
    return [name for name in TASKS if name in scored]


def _tasks_of_words(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the scored tasks whose accuracy stands beside the score."""
    return [name for name in _tasks(scores) if TASKS[name].classes_of_words]


def _cells(own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A model's part of the table that its scores make."""
    cells: dict[str, Any] = {row["task"]: row for row in own}
    cells["average"] = 100 * np.mean([row["mean"] for row in own])
    cells |= {f"{name}_accuracy": cells[name]["extra"].get("accuracy") for name in _tasks_of_words(own)}
    for key in RETENTION_COLUMNS:
        retained = {row["task"]: row[key] for row in own if row.get(key) is not None}
        if retained:
            without = ", ".join(name.upper() for name in _tasks(own) if name not in retained)
            cells[key] = hundredfold(np.mean(list(retained.values()))) + (f" (without {without})" if without else "")
    return cells


def _score(row: Mapping[str, Any]) -> str:
    deviation = f" ± {100 * row['std']:.1f}" if len(row.get("values", ())) > 1 else ""
    kept = "" if row.get("retention") is None else f" ({100 * row['retention']:.0f} %)"
    if is_at_baseline(row):
        kept = " (at the baseline)"
    elif is_partly_learned(row):
        kept += f" (never {escaped(missed_text(row))})"
    return f"{100 * row['mean']:.1f}{deviation}{kept}"


def _task_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a task's scores are, and how the models were trained for it."""
    row = rows[-1]
    overlap = f"{100 * row['train_overlap']:.1f} % of them also in train"
    seeds = f"{len(row['seeds'])} seed" + ("s" if len(row["seeds"]) > 1 else "")
    tunings = {each["model"]: tuning_text(each) for each in rows}
    of_models = [f"{tuning} ({model})" for model, tuning in tunings.items()]
    trained = tuning_text(row) if len(set(tunings.values())) == 1 else ", ".join(of_models)
    facts = [f"{row['test_size']:,} test texts, {overlap}", f"{seeds}, {trained}"]
    epochs = epochs_text(row)
    if epochs:
        facts.append(f"{epochs} epochs")
    rates = [_rate_text(each) for each in rows if each.get("learning_rate") is not None]
    if rates:
        facts.append(f"learning rate {', '.join(rates)}")
    cut_off = [f"{each['words_cut_off']:,} ({each['model']})" for each in rows if each.get("words_cut_off")]
    if cut_off:
        facts.append(f"words beyond the maximum length, which have the most frequent tag: {', '.join(cut_off)}")
    if TASKS[row["task"]].classes_of_words:
        facts.append(ACCURACY_NOTE)
    return f"{row['task'].upper()}: {TASKS[row['task']].title}, {row['metric']} × 100 on {'; '.join(facts)}."


def _rate_text(row: Mapping[str, Any]) -> str:
    """A model's learning rate, and those at which it learned nothing; a row of an older version does not know them."""
    failed = row.get("failed_rates", ())
    beside = f", which fails at {', '.join(f'{rate:g}' for rate in failed)}" if failed else ""
    if row["learning_rate"] in failed:
        beside = ", which fails at every rate"
    return f"{row['learning_rate']:g} ({row['model']}{beside})"
