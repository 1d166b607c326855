"""What a study has found: a line for every finished point, and all of them as table and figure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_lrcompress.evaluation.judging import is_at_baseline, missed_of_all, missed_text, partly_notice, shortened_notice
from hf_lrcompress.figures.of_studies import Panel, plot_study
from hf_lrcompress.stages.training_arguments import LOSS_ARGUMENTS
from hf_lrcompress.studies.definition import Study, name_of
from hf_lrcompress.studies.points import EVALUATE, PlannedPoint
from hf_lrcompress.tables import MEASURES, STAGE_COLUMNS, Columns, escaped, make_table

OTHER_LOSS = LOSS_ARGUMENTS | {"distil_from"}
"""Parts of keys that change what a loss is the sum of."""
DRAWN = ("mlm_accuracy", "sentence_similarity")
AVERAGE = "average"
LEAST_POINTS = 10
"""How many points of a score an axis shows at least: a few are chance."""
Results = Sequence[Mapping[str, Any]]


def named_as(planned: PlannedPoint) -> dict[str, Any]:
    """What the line of a point says of the study alone: another study may call the same run otherwise."""
    return {"setting": planned.point.setting, "seed": planned.point.seed, "changes": dict(planned.point.changes)}


def result_of(planned: PlannedPoint, report: Mapping[str, Any], shared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The line of a point.

    Args:
        planned ([`PlannedPoint`]): The point.
        report (`Mapping`): `report.json` of its complete run.
        shared (`Mapping[str, Mapping]`): What it has taken from other runs, see [`shared_stages`].
    """
    rows = report["stages"]
    last = rows[-1]
    trained = [row for row in rows if "evaluations" in row]
    # the curve of a stage that settings after it share says nothing of them; the last stage's is the point's, whoever has made it
    with_curve = trained[-1] if trained else {}
    if with_curve is not last and with_curve.get("stage") in shared:
        with_curve = {}
    scores = [row for row in report.get("scores", ()) if row["model"] == last["stage"]]
    elsewhere = sum(each["seconds"] for each in shared.values())
    return {
        **named_as(planned),
        "fingerprint": planned.fingerprint,
        "parameters": last["parameters"],
        "measures": {key: last[key] for key in MEASURES if key in last},
        "masked_text": last["masked_text"],
        "scores": scores,
        "curve_of": with_curve.get("stage"),
        "curve": with_curve.get("evaluations", []),
        "seconds": report["total"]["seconds"] - elsewhere,
        "shared": {stage: each["run"] for stage, each in shared.items()},
        "settings": report["settings"],
        "version": report["version"],
        "environment": report["environment"],
    }


def render_study(title: str, settings: Iterable[str], seeds: Sequence[int], results: Results, failed: Mapping[str, str]) -> str:
    """Table and notes as Markdown.

    Args:
        title (`str`): What the study asks.
        settings (`Iterable[str]`): The names of its settings.
        seeds (`Sequence[int]`): The seeds that each setting is run with.
        results (`Sequence[Mapping]`): The lines of the points that are finished; others are not shown.
        failed (`Mapping[str, str]`): Why points have none, by their names.
    """
    rows = [_row(setting, seeds, results) for setting in settings]
    tasks = dict.fromkeys(score["task"] for result in results for score in result["scores"])
    columns: Columns = {
        "setting": ("setting", escaped),
        "runs": ("runs", str),
        "parameters": STAGE_COLUMNS["parameters"],
        **{key: (STAGE_COLUMNS[key][0], "{}".format) for key in _comparable(results)},
        **{task: (task.upper(), "{}".format) for task in tasks},
        AVERAGE: (AVERAGE, "{}".format),
        "seconds": STAGE_COLUMNS["seconds"],
    }
    lines = [f"# {escaped(title)}", "", make_table(rows, columns, missing="–"), "", *(f"- {note}" for note in _notes(results))]
    lines += [f"- failed: {escaped(name)}: {escaped(reason)}" for name, reason in failed.items()]
    return "\n".join(lines) + "\n"


def _row(setting: str, seeds: Sequence[int], results: Results) -> dict[str, Any]:
    own = [result for result in results if result["setting"] == setting]
    row: dict[str, Any] = {"setting": setting, "runs": f"{len(own)} of {len(seeds)}"}
    if not own:
        return row
    row |= {"parameters": own[0]["parameters"], "seconds": float(np.mean([result["seconds"] for result in own]))}
    row |= {key: _spread(_measured(own, key), 1, 4) for key in MEASURES if key in own[0]["measures"]}
    for task in [score["task"] for score in own[0]["scores"]]:
        scores = [score for result in own for score in result["scores"] if score["task"] == task]
        at_baseline = " (at the baseline)" if any(map(is_at_baseline, scores)) else ""
        never = escaped(missed_text({"missed": missed_of_all(scores)}))
        row[task] = _spread(_percent(own, task), 1, 1) + (at_baseline or (f" (never {never})" if never else ""))
    if len(own[0]["scores"]) > 1:
        row[AVERAGE] = _spread(_averages(own), 100, 1)
    return row


def _spread(values: Sequence[float], times: float, decimals: int) -> str:
    """Mean and, of several, standard deviation."""
    mean = f"{times * np.mean(values):.{decimals}f}"
    return f"{mean} ± {times * np.std(values, ddof=1):.{decimals}f}" if len(values) > 1 else mean


def _measured(results: Results, key: str) -> list[float]:
    return [result["measures"][key] for result in results]


def _tasks_of_all(results: Results) -> dict[str, str]:
    """The tasks that all runs are scored on, with their metrics."""
    metrics = {score["task"]: score["metric"] for result in results for score in result["scores"]}
    scored = [{score["task"] for score in result["scores"]} for result in results]
    return {task: metric for task, metric in metrics.items() if all(task in tasks for tasks in scored)}


def _percent(results: Results, task: str) -> list[float]:
    """Scores on a task × 100, of every training of every run."""
    own = [score for result in results for score in result["scores"] if score["task"] == task]
    return [100 * value for score in own for value in score["values"]]


def _averages(results: Results) -> list[float]:
    """For each run the mean score over the tasks."""
    return [float(np.mean([score["mean"] for score in result["scores"]])) for result in results]


def _comparable(results: Results) -> list[str]:
    """The measures that all have, but for those whose places in the text are not the same for all settings."""
    seeds = {result["seed"] for result in results}
    places = {(result["seed"], result["masked_text"]) for result in results}
    same = len(places) == len(seeds)
    having = Counter(key for result in results for key in result["measures"])
    keys = [key for key in MEASURES if having[key] == len(results) > 0]
    return [key for key in keys if same or key == "sentence_similarity"]


def _notes(results: Results) -> list[str]:
    notes = ["Mean ± standard deviation over the runs, of tasks over all their trainings, × 100. A setting has a run a seed."]
    notes.append("Seconds are the mean of a run's own; a stage that several runs need is made by one of them.")
    if results and "mlm_accuracy" not in _comparable(results) and "mlm_accuracy" in results[0]["measures"]:
        notes.append("Masked-token accuracies are left out: the settings have different tokens, so different places were masked.")
    scores = [score for result in results for score in result["scores"]]
    in_part = partly_notice(scores)
    return notes + list(filter(None, (shortened_notice(scores), in_part and f"{in_part} The average counts it all the same.")))


def draw_study(study: Study, seeds: Sequence[int], results: Results, path: Path) -> None:
    """Write the figure: validation over steps, a line a setting; with an axis also what was measured against it.

    Args:
        study ([`Study`]): The study.
        seeds (`Sequence[int]`): The seeds that each setting is run with.
        results (`Sequence[Mapping]`): The lines of the points that are finished.
        path (`Path`): The file; nothing is written if there is nothing to draw.
    """
    path.unlink(missing_ok=True)  # it may be of other points
    panels = _curves(seeds, results) + (_panels(study.axis, results) if study.axis else [])
    plot_study(study.title, panels, path)


def _curves(seeds: Sequence[int], results: Results) -> list[Panel]:
    """Validation over steps; nothing where there are no curves that can be compared."""
    key = _curve_key(results)
    if key is None:
        return []
    lines = {}
    for setting in dict.fromkeys(result["setting"] for result in results):
        own = [{row["step"]: row[key] for row in result["curve"]} for result in results if result["setting"] == setting]
        common = sorted(set.intersection(*(set(curve) for curve in own)))  # runs may have been evaluated at other steps
        lines[_label(setting, len(own), len(seeds))] = {step: [curve[step] for curve in own] for step in common}
    measure = STAGE_COLUMNS[key][0] if key in STAGE_COLUMNS else key
    return [Panel("step", f"{measure} on validation", lines)]


def _label(setting: str, finished: int, seeds: int) -> str:
    """A setting, and that it is not whole where it is not."""
    return setting if finished == seeds else f"{setting} ({finished} of {seeds} runs)"


def _curve_key(results: Results) -> str | None:
    """What is drawn over steps: masked-token accuracy, or the loss if it is the same sum for all; `None` without a curve."""
    rows = [row for result in results for row in result["curve"]]
    if not rows or not all(result["curve"] for result in results):
        return None
    if all("mlm_accuracy" in row for row in rows):
        return "mlm_accuracy" if "mlm_accuracy" in _comparable(results) else None
    changed = {part for result in results for key in _keys_in(result["changes"]) for part in key.split(".")}
    same = len({tuple(sorted(row)) for row in rows}) == 1 and not changed & OTHER_LOSS
    return "loss" if same else None


def _line_names(axis: str, results: Results) -> list[str]:
    """For each result the name of what it changes besides the axis: with the whole keys where others are called the same."""
    others = [{key: value for key, value in result["changes"].items() if key != axis} for result in results]
    called: dict[str, dict[str, Any]] = {}
    whole_keys = any(called.setdefault(name_of(each), each) != each for each in others)
    return [name_of(each, whole_keys) for each in others]


def _keys_in(changes: Mapping[str, Any]) -> Iterator[str]:
    """The keys of changes, and those in sections that are changed as a whole."""
    for key, value in changes.items():
        yield key
        if isinstance(value, Mapping):
            yield from _keys_in(value)


def _panels(axis: str, results: Results) -> list[Panel]:
    """What was measured against the axis: a line for each combination of the other changes."""
    lines: dict[str, dict[float, list[Mapping[str, Any]]]] = {}
    for result, label in zip(results, _line_names(axis, results), strict=True):
        lines.setdefault(label, {}).setdefault(result["changes"][axis], []).append(result)
    panels = []
    for task, metric in _tasks_of_all(results).items():
        scored = {label: {x: _percent(own, task) for x, own in of_x.items()} for label, of_x in lines.items()}
        in_part = partly_notice([score for result in results for score in result["scores"] if score["task"] == task])
        name = f"{task.upper()}, learned in part" if in_part else task.upper()
        panels.append(Panel(axis, f"{name}, {metric} × 100", scored, LEAST_POINTS))
    drawn = () if axis.startswith(f"{EVALUATE}.") else DRAWN  # how a model is scored does not change it
    for key in [key for key in drawn if key in _comparable(results)]:
        measured = {label: {x: _measured(own, key) for x, own in of_x.items()} for label, of_x in lines.items()}
        panels.append(Panel(axis, STAGE_COLUMNS[key][0], measured))
    return panels
