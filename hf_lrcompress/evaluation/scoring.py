"""Scoring several models on several tasks with several seeds; what is done is not done again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from hf_lrcompress.evaluation.encoding import ModelUnderTest
from hf_lrcompress.evaluation.jobs import ScoringJob, run_jobs
from hf_lrcompress.evaluation.metrics import check_installed
from hf_lrcompress.evaluation.task_data import TaskData, load_task
from hf_lrcompress.evaluation.tasks import TASKS
from hf_lrcompress.evaluation.training import TaskTraining
from hf_lrcompress.files import file_hash, fingerprint
from hf_lrcompress.models.loading import hub_commit
from hf_lrcompress.texts.languages import Language


def check_tasks(names: Sequence[str], folders: Mapping[str, str]) -> None:
    """Raise if what is asked for does not exist.

    Raises:
        ValueError: If there is no such task.
        ImportError: If a package of the evaluation is not installed.
    """
    for name in [*names, *folders]:
        if name not in TASKS:
            raise ValueError(f"unknown task {name!r}; there are: {', '.join(TASKS)}")
    check_installed()


def load_tasks(names: Sequence[str], folders: Mapping[str, str], language: Language) -> tuple[list[TaskData], list[str]]:
    """Read the data of all tasks, before anything is trained.

    Args:
        names (`Sequence[str]`): The tasks; none means all that have data.
        folders (`Mapping[str, str]`): Local data, by task.
        language ([`Language`]): For the Hub.

    Returns:
        `tuple[list[TaskData], list[str]]`: The data, and the tasks that are skipped for want of it.

    Raises:
        ValueError, OSError, ImportError: One line: what is wrong with which file, or that a named task has no data.
    """
    check_tasks(names, folders)
    data, skipped = [], []
    for name in names or TASKS:
        loaded = load_task(TASKS[name], language, folders.get(name))
        if loaded is None and names:
            raise ValueError(f"{name}: no data set in {language.name} is known; give local files: --task_data {name}=DIR")
        data.append(loaded) if loaded else skipped.append(name)
    if not data:
        raise ValueError(f"no task has data in {language.name}; give local files: --task_data tc=DIR")
    return data, skipped


def score_models(
    models: Sequence[ModelUnderTest],
    tasks: Sequence[TaskData],
    training: TaskTraining,
    seeds: Sequence[int],
    output_dir: Path,
    reference: str,
) -> list[dict[str, Any]]:
    """Score models on tasks; predictions and results are kept in `output_dir`. Several processes share the work.

    Args:
        models (`Sequence[ModelUnderTest]`): What to score.
        tasks (`Sequence[TaskData]`): On what.
        training ([`TaskTraining`]): How. With `quick` only the first seed is used.
        seeds (`Sequence[int]`): A score is the mean over them.
        output_dir (`Path`): Gets `MODEL-TASK-SEED.json` (the result) and `.jsonl` (the predictions).
        reference (`str`): Name of the model that retention is measured against.

    Returns:
        `list[dict]`: A row a model and task: `mean`, `std` (of the sample; 0 for one seed) and `values` as fractions, and more.

    Raises:
        FileExistsError: If `output_dir` holds a result made with other settings.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    seeds = list(seeds)[:1] if training.quick else list(seeds)
    rows = []
    for model in models:
        identity = _identity(model)
        own = training.of_model(AutoConfig.from_pretrained(model.path, revision=model.revision).hidden_size)
        for data in tasks:
            wanted = fingerprint(identity, asdict(data), asdict(own))
            start = output_dir / f"{model.name.replace('/', '--')}-{data.task.name}"
            paths = [start.with_name(f"{start.name}-{seed}.json") for seed in seeds]
            rows.append([ScoringJob(model, data, own, *of_seed, wanted) for of_seed in zip(seeds, paths, strict=True)])
    run_jobs([job for jobs in rows for job in jobs])
    scores = [_row(jobs) for jobs in rows]
    means = {row["task"]: row["mean"] for row in scores if row["model"] == reference}
    return [row | {"retention": row["mean"] / means[row["task"]] if means.get(row["task"]) else None} for row in scores]


def score_factors(
    factors: Sequence[int],
    models: Sequence[ModelUnderTest],
    tasks: Sequence[TaskData],
    training: TaskTraining,
    seeds: Sequence[int],
    output_dir: Path,
    reference: str,
) -> list[dict[str, Any]]:
    """[`score_models`] with adapters of several sizes (arXiv 2505.16956, figure 10).

    Args:
        factors (`Sequence[int]`): The reduction factors. What differs from `training` goes into a folder of its own.
    """
    rows = []
    for factor in factors:
        own = replace(training, reduction_factor=factor, small_reduction_factor=None)
        folder = output_dir if own == training else output_dir / f"r{factor}"
        rows += score_models(models, tasks, own, seeds, folder, reference)
    return rows


def _row(jobs: list[ScoringJob]) -> dict[str, Any]:
    """What finished jobs that differ in their seed have found."""
    job, results = jobs[0], [job.result() for job in jobs]
    task, data, training = job.data.task, job.data, job.training
    values = [result["scores"][task.metric] for result in results]
    return {
        "model": job.model.name,
        "task": task.name,
        "dataset": data.source,
        "metric": task.metric,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "values": values,
        "seeds": [job.seed for job in jobs],
        "test_size": len(data.test),
        "train_overlap": data.train_overlap,
        "quick": training.quick,
        "tuning": training.tuning,
        "reduction_factor": training.reduction_factor,
        "extra": {"accuracy": float(np.mean([result["scores"]["accuracy"] for result in results]))},
    }


def _identity(model: ModelUnderTest) -> Any:
    """Of a directory its files' contents; of a model on the Hub its id and commit."""
    if not Path(model.path).is_dir():
        return [model.path, hub_commit(model.path, model.revision)]
    names = ("config.json", "tokenizer.json", "*.safetensors", "*.bin")
    return {path.name: file_hash(path) for name in names for path in sorted(Path(model.path).glob(name))}
