"""Scoring several models on several tasks with several seeds; what is done is not done again."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.encoding import EncodedTask, ModelUnderTest
from hf_lrcompress.evaluation.entries import Entry
from hf_lrcompress.evaluation.examples import TaskData
from hf_lrcompress.evaluation.jobs import run_jobs
from hf_lrcompress.evaluation.judging import retention
from hf_lrcompress.evaluation.metrics import check_installed
from hf_lrcompress.evaluation.settings import TaskTraining, check_differ
from hf_lrcompress.evaluation.task_data import give_local_files, load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.files import fingerprint
from hf_lrcompress.models.identity import model_identity
from hf_lrcompress.models.loading import load_config
from hf_lrcompress.texts.languages import Language

logger = logging.getLogger(__name__)


def check_tasks(names: Sequence[str], folders: Mapping[str, str]) -> None:
    """Raise if what is asked for does not exist.

    Args:
        names (`Sequence[str]`): Names of tasks.
        folders (`Mapping[str, str]`): Local data, by task.

    Raises:
        ValueError: If there is no such task.
        ImportError: If a package of the evaluation is not installed.
    """
    for name in [*names, *folders]:
        if name not in TASKS:
            raise ValueError(f"unknown task {name!r}; there are: {', '.join(TASKS)}")
    check_differ("tasks", names)
    check_installed()


def load_tasks(
    names: Sequence[str], folders: Mapping[str, str], language: Language, columns: Mapping[str, Sequence[str | int]] | None = None
) -> tuple[list[TaskData], list[str]]:
    """Read the data of all tasks, before anything is trained.

    Args:
        names (`Sequence[str]`): The tasks; none means those with local data, or without any all that have data on the Hub.
        folders (`Mapping[str, str]`): Local data, by task.
        language ([`Language`]): For the Hub.
        columns (`Mapping[str, Sequence[str | int]]`, *optional*): Other columns of the local data, by task; see [`load_task`].

    Returns:
        `tuple[list[TaskData], list[str]]`: The data, and the tasks that are skipped for want of it.

    Raises:
        ValueError, OSError, ImportError: One line: what is wrong with which file, or that a named task has no data.
    """
    check_tasks(names, folders)
    columns = columns or {}
    for name in columns:
        if name not in folders:
            raise ValueError(f"columns of {name}: {give_local_files(name)} as well")
    data = []
    skipped = []
    for name in names or folders or TASKS:
        loaded = load_task(TASKS[name], language, folders.get(name), columns.get(name))
        if loaded is None and names:
            raise ValueError(f"{name}: no data set in {language.name} is known; {give_local_files(name)}")
        if loaded is None:
            skipped.append(name)
        else:
            data.append(loaded)
    if not data:
        raise ValueError(f"no task has data in {language.name}; {give_local_files('tc')}")
    return data, skipped


def check_words_fit(tasks: Sequence[TaskData], models: Sequence[ModelUnderTest], label_all_tokens: bool) -> None:
    """Raise before anything is trained if most words of a split are beyond what a model reads.

    Args:
        tasks (`Sequence[TaskData]`): The data; of texts nothing is refused.
        models (`Sequence[ModelUnderTest]`): The models.
        label_all_tokens (`bool`): As in [`EncodedTask.encode`].

    Raises:
        ValueError: If there is such a split.
    """
    for model, data in product(models, tasks):
        if data.task.tokens:
            EncodedTask.encode(data, model, label_all_tokens)


@dataclass(frozen=True)
class Comparison:
    """Models that are scored on tasks, and how.

    Args:
        models (`Sequence[ModelUnderTest]`): What is scored.
        tasks (`Sequence[TaskData]`): Data of the tasks that they are scored on.
        training ([`TaskTraining`]): Settings of the trainings.
        seeds (`Sequence[int]`): Seeds; a score is the mean over them.
        output_dir (`Path`): Folder that gets `MODEL-TASK-SEED.json` (the result) and `.jsonl` (the predictions); with another
            learning rate than the task's own `MODEL-TASK-lrRATE-SEED`.
        reference (`str`): Name of the model that retention is measured against.
        original (`str`, *optional*): Name of the model that the reference was made from: retention is measured against it, too.
        workers (`int`, *optional*, defaults to 1): Trainings at once, each in a process of its own.
        now_and_then (`Callable`, *optional*): Called between trainings, see [`run_jobs`].
    """

    models: Sequence[ModelUnderTest]
    tasks: Sequence[TaskData]
    training: TaskTraining
    seeds: Sequence[int]
    output_dir: Path
    reference: str
    original: str | None = None
    workers: int = 1
    now_and_then: Callable[[], None] = lambda: None

    def entries(self) -> list[Entry]:
        """Every model on every task."""
        entries = []
        for model in self.models:
            identity = model_identity(model.path, model.revision)
            hidden_size = load_config(model.path, model.revision).hidden_size
            training = self.training.of_model(hidden_size)
            for data in self.tasks:
                both = fingerprint(identity, data.identity())
                entries.append(Entry(model, data, both, training, self.seeds, self.output_dir))
        return entries

    def check(self) -> None:
        """Refuse a folder with results of other data, settings or models.

        Raises:
            FileExistsError: If `output_dir` holds one under the name of a training that may be needed.
        """
        for entry in self.entries():
            for rate, seed in product(entry.rates, entry.seeds):
                entry.job(rate, seed).is_done()

    def with_factor(self, factor: int) -> "Comparison":
        """The same with adapters of another reduction factor. What is not trained so anyway goes into another folder."""
        training = replace(self.training, reduction_factor=factor, small_reduction_factor=None)
        sizes = [load_config(model.path, model.revision).hidden_size for model in self.models]
        is_same = all(self.training.of_model(size) == training for size in sizes)
        folder = self.output_dir if is_same else self.output_dir / f"r{factor}"
        return replace(self, training=training, output_dir=folder)


def score_models(comparison: Comparison) -> list[dict[str, Any]]:
    """Score models on tasks; what is done is not done again, and several processes share the work.

    Where there are several learning rates, the first seed is trained with each of them, and all seeds with the one that is best
    on validation: every model is asked at a rate that suits it, the reference as well. A rate at which a seed's training fails,
    which is to end at the majority baseline of validation, gives way to the next best.

    Args:
        comparison ([`Comparison`]): Models, tasks and settings.

    Returns:
        `list[dict]`: A row a model and task, see [`Entry.row`], with `retention`, the share of the reference's score (see
        [`retention`]), and `retention_of_original` where there is one.

    Raises:
        FileExistsError: If `output_dir` holds a result made with other settings.
    """
    comparison.output_dir.mkdir(parents=True, exist_ok=True)
    entries = comparison.entries()
    trials = [job for entry in entries for job in entry.trials()]
    to_come = sum(entry.cost_after_trials for entry in entries) if trials else 0
    run_jobs(trials, to_come, comparison.workers, comparison.now_and_then)
    while waiting := [job for entry in entries for job in entry.jobs() if not job.is_done()]:
        run_jobs(waiting, workers=comparison.workers, now_and_then=comparison.now_and_then)
        _say_what_failed(entries)
    rows = [entry.row() for entry in entries]
    compared_with = {"retention": comparison.reference}
    if comparison.original:
        compared_with["retention_of_original"] = comparison.original
    for key, name in compared_with.items():
        references = {row["task"]: row for row in rows if row["model"] == name}
        rows = [row | {key: retention(row, references.get(row["task"]))} for row in rows]
    return rows


def _say_what_failed(entries: Sequence[Entry]) -> None:
    for entry in entries:
        best = entry.ranked_rates[0]
        if best != entry.best_rate:
            of = f"{entry.model.name}, {entry.data.task.name}"
            logger.warning("%s: a training at learning rate %g failed; all seeds go on at %g", of, best, entry.best_rate)


def score_factors(comparison: Comparison, factors: Sequence[int]) -> list[dict[str, Any]]:
    """[`score_models`] with adapters of several sizes (arXiv 2505.16956, figure 10).

    Args:
        comparison ([`Comparison`]): Models, tasks and settings.
        factors (`Sequence[int]`): The reduction factors.

    Returns:
        `list[dict]`: A row a factor, model and task.
    """
    rows = []
    for factor in factors:
        logger.info("adapters of reduction factor %d", factor)
        rows += score_models(comparison.with_factor(factor))
    return rows
