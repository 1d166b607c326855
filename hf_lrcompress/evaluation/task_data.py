"""Reading a task's data, from a local folder or the Hub. Errors are one line."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from datasets import Dataset, get_dataset_config_names, load_dataset
from datasets.exceptions import DatasetNotFoundError

from hf_lrcompress.evaluation.examples import SPLITS, Example, TaskData, checked_example
from hf_lrcompress.evaluation.local_tasks import read_split
from hf_lrcompress.evaluation.tasks import HubSource, Task
from hf_lrcompress.evaluation.word_lines import MISSING
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.texts.readers import PARQUET_BRANCH, load_parquet_branch
from hf_lrcompress.texts.rows import check_column, class_names, named

logger = logging.getLogger(__name__)

MOST_UNLEARNED = 0.01
"""Share of a split's labels that train may lack: a treebank's rare classes."""


def load_task(
    task: Task, language: Language, folder: str | Path | None = None, columns: Sequence[str | int] | None = None
) -> TaskData | None:
    """Read a task's data.

    Args:
        task ([`Task`]): The task.
        language ([`Language`]): The language, for the Hub.
        folder (`str` or `Path`, *optional*): A folder with `train`, `validation` and `test` as `.jsonl`, `.csv`, `.tsv` or
            `.parquet` (`text` and `label`, or `tokens` and `tags`), `.conllu` (POS), `.conll` or `.iob2` (a word and its tag a
            line). If labels are numbers, `labels.txt` has their names, a line each. Without a folder, the Hub.
        columns (`Sequence[str | int]`, *optional*): Other columns of these files for inputs and labels: two names, or two numbers
            from 1 where columns have no names.

    Returns:
        [`TaskData`] or `None`: `None` if there is no data set in this language.

    Raises:
        ValueError: If a file, its labels or its splits are wrong.
        OSError: If a file does not exist or the Hub cannot be reached.
    """
    if folder is not None:
        train, validation, test = (tuple(read_split(Path(folder), names, task, columns)) for names in SPLITS.values())
        data = TaskData(task, train, validation, test, Path(folder).resolve().name, is_local=True)
        _check_labels(data, Path(folder).name)
        return data
    source = task.source(language)
    if source is None:
        return None
    name = source.name and source.name.format(sib200=language.sib200, wikiann=language.wikiann)
    try:
        if source is task.everywhere and name not in get_dataset_config_names(source.path):
            return None
        train, validation, test = (tuple(_read_hub(source, name, split, task)) for split in SPLITS)
    except DatasetNotFoundError:
        raise FileNotFoundError(f"{task.name}: there is no data set {source.path} on the Hub, or it needs a login") from None
    except ConnectionError as error:
        unreachable = f"{task.name}: the Hugging Face Hub cannot be reached to load {source.path}"
        raise ConnectionError(f"{unreachable}; {give_local_files(task.name)}") from error
    data = TaskData(task, train, validation, test, source.path)
    _check_labels(data, source.path)
    return data


def _check_labels(data: TaskData, source: str) -> None:
    """Refuse local data with labels that train lacks where they are many, as after a slip; say that a few count as errors."""
    found = data.not_in_train()
    if found is None:
        return
    said, share = found
    if data.is_local and share > MOST_UNLEARNED:
        raise ValueError(f"{said}; correct it or leave out its examples")
    logger.warning("%s of %s; no model can know it: it counts as an error", said, source)


def give_local_files(task_name: str) -> str:
    """The way out where the Hub has no data."""
    return f"give a folder of local files as the data of {task_name}"


def _read_hub(source: HubSource, name: str | None, split: str, task: Task) -> Iterator[Example]:
    rows = _load_rows(source, name, split, task)
    for column in (source.inputs, source.labels):
        check_column(column, rows.column_names, source.path)
    names = class_names(rows.features[source.labels])
    for index, row in enumerate(rows):
        where = f"{source.path}, {split}, row {index}"
        inputs = row[source.inputs]
        labels = row[source.labels]
        if names:
            labels = named(labels, names, where, "the data set")
        if task.tokens and len(inputs) == len(labels):
            inputs, labels = _without_missing(inputs, labels)
        if labels != source.without:
            yield checked_example(inputs, labels, task, where)


def _without_missing(words: list[str], tags: list[str]) -> tuple[list[str], list[str]]:
    """Leave out what has no tag: in a treebank "im" has none, whose parts "in" and "dem" follow it."""
    kept = [(word, tag) for word, tag in zip(words, tags, strict=True) if tag not in MISSING]
    return [word for word, _ in kept], [tag for _, tag in kept]


def _load_rows(source: HubSource, name: str | None, split: str, task: Task) -> Dataset:
    """A split's rows: of a data set that is a script, from the branch in which the Hub has them as parquet."""
    if source.revision != PARQUET_BRANCH:
        return load_dataset(source.path, name, split=split, revision=source.revision)
    try:
        return load_parquet_branch(source.path, name, split)
    except ValueError:  # datasets' answer where the pattern finds nothing
        message = f"{task.name}: {source.path} has no {name}; {give_local_files(task.name)}"
        raise FileNotFoundError(message) from None
