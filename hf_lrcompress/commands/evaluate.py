"""Score models on the paper's tasks: topics, sentiment, named entities, parts of speech."""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from accelerate import PartialState

from hf_lrcompress.commands.process import full_disk_named, lost_process_named, on_the_way
from hf_lrcompress.evaluation.efficiency import measure_efficiency, speed_notes
from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.scoring import Comparison, check_tasks, check_words_fit, load_tasks, score_factors, score_models
from hf_lrcompress.evaluation.settings import TaskTraining, check_workers, chosen_seeds, read_pairs
from hf_lrcompress.evaluation.tables import capacity_table, missed_notes, score_notes, score_table
from hf_lrcompress.figures.of_runs import plot_capacity, plot_scores
from hf_lrcompress.files import check_can_be_folder, locked, read_object, write_atomically
from hf_lrcompress.machine import hold_little_memory
from hf_lrcompress.messages import read_all
from hf_lrcompress.models.identity import directory_name
from hf_lrcompress.models.loading import load_config, load_encoder
from hf_lrcompress.publishing.report import CAPACITY_FIGURE, SCORES_FIGURE
from hf_lrcompress.texts.languages import Language

SCORES_FILE = "scores.json"
TABLE_FILE = "scores.md"


def named_models(paths: list[str]) -> list[ModelUnderTest]:
    """Models as [`directory_name`] calls them, or by their path where that is not unique."""
    short = [directory_name(Path(path)) if Path(path).exists() else path for path in paths]
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise ValueError("--model names the same model twice")
    return [ModelUnderTest(path if short.count(name) > 1 else name, path) for name, path in zip(short, paths, strict=True)]


def read_numbers(option: str, value: str) -> list[int]:
    """Whole numbers separated by commas."""
    if not re.fullmatch(r"(\d{1,20}(,\d{1,20})*)?", value):
        raise ValueError(f"--{option} {value}: give whole numbers separated by commas")
    return [int(number) for number in value.split(",") if number]


def read_rates(value: str) -> tuple[float, ...]:
    """Learning rates separated by commas."""
    try:
        return tuple(float(rate) for rate in value.split(",")) if value else ()
    except ValueError:
        raise ValueError(f"--learning_rates {value}: give numbers separated by commas") from None


def read_training(arguments: argparse.Namespace) -> TaskTraining:
    """The settings that the options stand for."""
    values = {setting.name: getattr(arguments, setting.name) for setting in fields(TaskTraining)}
    return TaskTraining(**values | {"learning_rates": read_rates(arguments.learning_rates)})


def _check_are_scored(folders: Iterable[str], names: Sequence[str]) -> None:
    """Refuse data of a task that is not asked for."""
    for task in folders:
        if names and task not in names:
            raise ValueError(f"--task_data {task}=… does nothing, {task} is not among --tasks; leave one of them out")


@dataclass(frozen=True)
class PlannedEvaluation:
    """An evaluation that nothing is wrong with so far."""

    comparison: Comparison
    factors: list[int]
    language: str
    skipped: list[str]


def plan(arguments: argparse.Namespace) -> PlannedEvaluation:
    """Read and check what was given.

    Raises:
        ValueError, OSError, ImportError: All that is wrong with it.
    """
    given = read_all(
        models=partial(named_models, arguments.model),
        seeds=partial(read_numbers, "seeds", arguments.seeds),
        factors=partial(read_numbers, "reduction_factors", arguments.reduction_factors),
        training=partial(read_training, arguments),
        folders=partial(read_pairs, "task_data", arguments.task_data, "TASK=DIR"),
        columns=partial(read_pairs, "task_columns", arguments.task_columns, "TASK=INPUTS,LABELS"),
        language=partial(Language.from_tag, arguments.lang),
    )
    seeds = chosen_seeds(given.seeds, arguments.quick)
    check_workers(arguments.workers)
    given.training.check_factors(given.factors)
    models = given.models
    names = [name.strip() for name in arguments.tasks.split(",") if name.strip()]
    columns = {task: chosen.split(",") for task, chosen in given.columns.items()}
    check_tasks(names, given.folders)
    _check_are_scored(given.folders, names)
    with PartialState().main_process_first():
        tasks, skipped = load_tasks(names, given.folders, given.language, columns)
        for model in models:
            load_config(model.path, trust_remote_code=arguments.trust_remote_code)
            model.load_tokenizer()
            load_encoder(model.path)  # raises if a weight is missing or damaged
    output_dir = Path(arguments.output_dir)
    check_output_dir(output_dir)
    first = models[0].name
    comparison = Comparison(models, tasks, given.training, seeds, output_dir, reference=first, workers=arguments.workers)
    for each in (comparison, *map(comparison.with_factor, given.factors)):
        each.check()
    check_words_fit(tasks, models, given.training.label_all_tokens)
    return PlannedEvaluation(comparison, given.factors, arguments.lang, skipped)


def evaluate(planned: PlannedEvaluation) -> str:
    """Score and measure; the table as text, from the main process."""
    comparison = planned.comparison
    output_dir = comparison.output_dir
    scores = score_models(comparison)
    capacity = score_factors(comparison, planned.factors)
    if not PartialState().is_main_process:
        return ""
    efficiency = measure_efficiency(comparison.models)
    content = {"language": planned.language, "scores": scores, "efficiency": efficiency, "skipped": planned.skipped}
    content |= {"capacity": capacity} if capacity else {}
    for name in (SCORES_FIGURE, CAPACITY_FIGURE):
        (output_dir / name).unlink(missing_ok=True)  # it may be of other models
    write_atomically(output_dir / SCORES_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    plot_scores(scores, efficiency, output_dir / SCORES_FIGURE)
    lines = [score_table(scores, efficiency), "", *score_notes(scores, planned.skipped), *speed_notes(efficiency)]
    if capacity:
        plot_capacity(capacity, output_dir / CAPACITY_FIGURE)
        lines += ["", "Average by the adapters' reduction factor:", "", capacity_table(capacity)]
        lines += [f"\n{note}" for note in missed_notes(capacity)]
    text = "\n".join(lines) + "\n"
    write_atomically(output_dir / TABLE_FILE, text)
    return text


def check_output_dir(output_dir: Path) -> None:
    """Refuse a folder with scores or figures of somebody else; those of an earlier evaluation are made again. Make the folder."""
    other = "give another --output_dir"
    path = output_dir / SCORES_FILE
    check_can_be_folder(output_dir)
    if path.exists() and "efficiency" not in read_object(path, other):
        raise FileExistsError(f"{path} is no result of an evaluation; {other}")
    written = [output_dir / name for name in (TABLE_FILE, SCORES_FIGURE, CAPACITY_FIGURE)]
    strange = [file for file in written if file.exists() and not path.exists()]
    if strange:
        raise FileExistsError(f"{strange[0]} is of no evaluation and would be replaced; {other}")
    output_dir.mkdir(parents=True, exist_ok=True)


def run(arguments: argparse.Namespace) -> int:
    """Score, and print the table; the exit code."""
    hold_little_memory()
    output_dir = Path(arguments.output_dir)
    with lost_process_named(), full_disk_named(output_dir):
        planned = plan(arguments)
        lock = locked(output_dir, "another evaluation") if PartialState().is_main_process else nullcontext()
    with lock, on_the_way(), lost_process_named(), full_disk_named(output_dir):
        text = evaluate(planned)
    if text:
        print(text)
    return 0
