"""Methods of compression beside each other, on one teacher and one text: what is kept of similarities and of tasks.

Every model and every score has a file of its own in the work folder: what is there is not made again.
"""

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from hf_lrcompress.benchmarks.quality_pieces import SURGERY, TEACHER, TRAINED, Method, Row, Settings, make_pieces, pieces_of
from hf_lrcompress.demo.texts import DEMO, save_demo_teacher
from hf_lrcompress.evaluation.judging import is_at_baseline, is_partly_learned, missed_text, retention
from hf_lrcompress.evaluation.scoring import check_tasks
from hf_lrcompress.evaluation.settings import read_pairs
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.files import file_hash, fingerprint, write_atomically
from hf_lrcompress.models.identity import model_identity
from hf_lrcompress.run.configuration import build
from hf_lrcompress.run.yaml_files import read_yaml
from hf_lrcompress.tables import escaped

ROWS_FILE = Path(__file__).with_suffix(".yaml")
SETTINGS_FILE = "settings.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `run`."""
    parser.add_argument("--lang", required=True, help="language of the text, such as sk")
    parser.add_argument("--text", required=True, help="text to train on, a sentence a line")
    parser.add_argument("--held_out", required=True, help="text to measure similarities on, a sentence a line")
    parser.add_argument("--task_data", action="append", default=[], metavar="TASK=DIR", help="local train, validation and test")
    parser.add_argument("--task_epochs", action="append", metavar="TASK=N", help="default: those of evaluate --quick")
    parser.add_argument("--work_dir", type=Path, required=True, help="for the models and the pieces of the result")
    parser.add_argument("--teacher", default=DEMO, help="Hub id or directory (default: demo, which is multilingual-e5-small)")
    parser.add_argument("--rows_file", type=Path, default=ROWS_FILE, help="YAML file (default: quality.yaml)")
    parser.add_argument("--rows", help="some of its rows, separated by semicolons, or teacher (default: all)")
    parser.add_argument("--epochs", type=float, default=5, help="passes over the text, of all trainings of a row together")
    parser.add_argument("--short_epochs", type=float, default=1, help="the same, of the rows that are short")
    parser.add_argument("--learning_rates", default="1e-4,5e-4,1e-3", help="for the tasks; the best on validation is taken")
    parser.add_argument("--seeds", default="42,43,44", help="for the tasks")
    parser.add_argument("--workers", type=int, default=1, help="pieces made at once; 0 makes none and shows what is there")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the pieces that are missing, and put all together.

    Raises:
        ValueError: If a row or a setting is wrong.
        OSError: If a piece fails; the others are made before.
    """
    settings = read_settings(arguments)
    rows = read_rows(arguments, settings)
    check_work_dir(settings)
    if arguments.workers:
        make_pieces([piece for row in rows for piece in pieces_of(row)], arguments.workers)
    teacher = Row(TEACHER, None, settings)
    return {
        "epochs": settings.epochs,
        "short_epochs": settings.short_epochs,
        "task_epochs": settings.task_epochs,
        "learning_rates": list(settings.learning_rates),
        "seeds": list(settings.seeds),
        "rows": [result_row(row, teacher) for row in rows],
    }


def scored_tasks(result: dict[str, Any]) -> list[str]:
    """The tasks that models were scored on, as the rows call them."""
    return [task.upper() for task in result["task_epochs"] if task.upper() in result["rows"][0]]


def scored_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that have a score on every task."""
    return [row for row in result["rows"] if all(row[task] for task in scored_tasks(result))]


def scored_table(result: dict[str, Any]) -> str:
    """The table of the rows that were scored on tasks, as Markdown."""
    left_out = ("on", "similarity, surgery alone")
    rows = [{key: value for key, value in row.items() if key not in left_out} for row in scored_rows(result)]
    formats = {"parameters": "{:,}", "minutes": "{:.0f}", "retention %": "{:.1f}"}
    formats |= dict.fromkeys(("similarity", "of tokens", "masked-token accuracy"), "{:.3f}")
    shown = []
    for row in rows:
        cells = {key: formats.get(key, "{}").format(value) for key, value in row.items() if value is not None}
        shown.append({key: cells.get(key, "") for key in row})
    return tabulate(shown, headers="keys", tablefmt="github", disable_numparse=True)


def headline(result: dict[str, Any]) -> str:
    """The table at the top of the README: the scored rows, without how they came about."""
    rows = scored_rows(result)
    tasks = scored_tasks(result)
    shown = []
    for row in rows:
        name = re.sub(r", [\d.]+ M$", "", row["method"])
        cells = {"": name, "parameters": row["parameters"], "similarity": row["similarity"]}
        cells |= {task: re.split(r", accuracy | at [\d.]", row[task])[0] for task in tasks}
        kept = row["retention %"]
        if kept and "left out of it" in row:
            kept = f"{kept:.1f} (without {row['left out of it']})"
        shown.append(cells | {"kept %": kept})
    formats = ("", ",", ".2f", *["" for _ in tasks], ".1f")
    text = [0, *range(3, 3 + len(tasks))]
    return tabulate(shown, headers="keys", tablefmt="github", floatfmt=formats, intfmt=formats, disable_numparse=text)


def read_settings(arguments: argparse.Namespace) -> Settings:
    """The settings as the pieces take them."""
    folders = read_pairs("task_data", arguments.task_data, "TASK=DIR")
    check_tasks([], folders)
    quick = {name: task.quick_epochs for name, task in TASKS.items()}
    epochs = quick | read_pairs("task_epochs", arguments.task_epochs or [], "TASK=N")
    teacher = str(save_demo_teacher()) if arguments.teacher == DEMO else arguments.teacher
    rates = arguments.learning_rates.split(",")
    seeds = arguments.seeds.split(",")
    return Settings(
        language=arguments.lang,
        text=arguments.text,
        held_out=arguments.held_out,
        teacher=teacher,
        task_data=folders,
        task_epochs={task: int(number) for task, number in epochs.items()},
        work_dir=arguments.work_dir,
        epochs=arguments.epochs,
        short_epochs=arguments.short_epochs,
        learning_rates=tuple(map(float, rates)),
        seeds=tuple(map(int, seeds)),
    )


def read_rows(arguments: argparse.Namespace, settings: Settings) -> list[Row]:
    """The rows to compare; the teacher first, where no order is given."""
    found = {name: build(Method, row, f"{arguments.rows_file}: {name}") for name, row in read_yaml(arguments.rows_file).items()}
    methods: dict[str, Method | None] = {TEACHER: None, **found}
    names = [name.strip() for name in arguments.rows.split(";")] if arguments.rows else list(methods)
    for name in names:
        if name not in methods:
            raise ValueError(f"--rows: there is no row {name!r}; there are: {'; '.join(methods)}")
    return [Row(name, methods[name], settings) for name in names]


def check_work_dir(settings: Settings) -> None:
    """Refuse a work folder that was begun with other settings, data or teacher; which tasks are asked for may change."""
    path = settings.work_dir / SETTINGS_FILE
    texts = {name: file_hash(Path(getattr(settings, name))) for name in ("text", "held_out")}
    tasks = {task: folder_hash(Path(folder)) for task, folder in settings.task_data.items()}
    content = texts | {"teacher": model_identity(settings.teacher), "task_data": tasks}
    given = json.loads(json.dumps(asdict(settings) | content | {"work_dir": None}))
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else given
    tasks_before = before.get("task_data", {})
    others_differ = any(before.get(name) != value for name, value in given.items() if name != "task_data")
    if others_differ or any(tasks_before.get(task, content) != content for task, content in tasks.items()):
        raise ValueError(f"{path}: the pieces there were made with other settings; give them again, or another --work_dir")
    settings.work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(given | {"task_data": tasks_before | tasks}, indent=2) + "\n")


def folder_hash(folder: Path) -> str:
    """Of the names and contents of a folder's files."""
    return fingerprint({path.name: file_hash(path) for path in sorted(folder.iterdir()) if path.is_file()})


def result_row(row: Row, teacher: Row) -> dict[str, Any]:
    """A model's pieces side by side. Retention is its mean share of the teacher's scores, once it has one in every task.

    A task that the teacher has learned in part only is left out, and named: see [`retention`].
    """
    trained = row.result(TRAINED)
    columns = {
        "method": row.name,
        "parameters": trained.get("parameters"),
        "minutes": trained["seconds"] / 60 if trained else None,
        "on": trained.get("device"),
        "similarity, surgery alone": row.result(SURGERY).get("sentence_similarity"),
        "similarity": trained.get("sentence_similarity"),
        "of tokens": trained.get("token_similarity"),
        "masked-token accuracy": trained.get("mlm_accuracy"),
    }
    shares = []
    left_out = []
    for task in row.settings.task_data:
        scores = row.result(task)
        columns[task.upper()] = score_text(scores)
        reference = teacher.result(task)
        if is_partly_learned(reference):
            left_out.append(task.upper())
        else:
            shares.append(retention(scores, reference or None) if scores else None)
    kept = [100 * share for share in shares if share is not None]
    columns["retention %"] = float(np.mean(kept)) if 0 < len(kept) == len(shares) else None
    return columns | ({"left out of it": ", ".join(left_out)} if left_out else {})


def score_text(scores: dict[str, Any]) -> str | None:
    """Mean and deviation over seeds, of classes of words the accuracy, and the learning rate; or that it is at the baseline."""
    if not scores:
        return None
    spread = f" ± {100 * scores['std']:.1f}" if len(scores["values"]) > 1 else " (one seed)"
    beside = ""
    if is_at_baseline(scores):
        beside = " (at the majority baseline)"
    elif is_partly_learned(scores):
        beside = f" (never {escaped(missed_text(scores))})"
    if TASKS[scores["task"]].classes_of_words:
        beside += f", accuracy {100 * scores['extra']['accuracy']:.1f},"
    failed = ", ".join(f"{rate:g}" for rate in scores.get("failed_rates", ()))
    others = f" ({failed} failed)" if failed else ""
    return f"{100 * scores['mean']:.1f}{spread}{beside} at {scores['learning_rate']:g}{others}"
