"""Reading a task's data: JSON lines, CoNLL-U and CoNLL-2003 files, and the Hub. Errors are one line."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from datasets import ClassLabel, get_dataset_config_names, load_dataset
from datasets import List as ListFeature
from datasets.exceptions import DatasetNotFoundError

from hf_lrcompress.evaluation.tasks import HubSource, Task
from hf_lrcompress.texts.languages import Language
from hf_lrcompress.texts.readers import PARQUET_BRANCH, load_parquet_branch, read_json_lines, read_lines

SPLITS = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
"""The splits, and the names that a file of each may have."""


@dataclass(frozen=True)
class Example:
    """A text and its label, or tokens and their tags."""

    inputs: str | tuple[str, ...]
    labels: str | tuple[str, ...]


@dataclass(frozen=True)
class TaskData:
    """A task's data in one language.

    Args:
        task ([`Task`]): The task.
        train, validation, test (`tuple[Example, ...]`): The splits.
        source (`str`, *optional*): Data set on the Hub, or name of the local folder.

    Raises:
        ValueError: If a split is empty, or has a label that `train` lacks.
    """

    task: Task
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    source: str = "local"

    def __post_init__(self):
        for name in SPLITS:
            if not getattr(self, name):
                raise ValueError(f"{self.task.name}: the {name} split is empty; every task needs train, validation and test")
        for name in ("validation", "test"):
            unknown = sorted(self._labels_of(getattr(self, name)) - set(self.labels))
            if unknown:
                raise ValueError(
                    f"{self.task.name}: label {unknown[0]!r} in the {name} split is not in train; "
                    "correct it or leave out its examples"
                )

    @property
    def labels(self) -> list[str]:
        """The labels, sorted; what a model predicts is an index into them."""
        return sorted(self._labels_of(self.train))

    @property
    def train_overlap(self) -> float:
        """Share of the test texts that occur in `train` as well."""
        seen = {example.inputs for example in self.train}
        return sum(example.inputs in seen for example in self.test) / len(self.test)

    def _labels_of(self, examples: tuple[Example, ...]) -> set[str]:
        return {label for example in examples for label in (example.labels if self.task.tokens else [example.labels])}


def load_task(task: Task, language: Language, folder: str | Path | None = None) -> TaskData | None:
    """Read a task's data.

    Args:
        task ([`Task`]): The task.
        language ([`Language`]): The language, for the Hub.
        folder (`str` or `Path`, *optional*): A folder with `train`, `validation` and `test` as `.jsonl` (`text` and `label`, or
            `tokens` and `tags`), `.conllu` (POS) or `.conll` (NER: a token and, last on its line, its tag). Without one, the Hub.

    Returns:
        [`TaskData`] or `None`: `None` if there is no data set in this language.

    Raises:
        ValueError: If a file, its labels or its splits are wrong.
        OSError: If a file does not exist or the Hub cannot be reached.
    """
    if folder is not None:
        splits = (tuple(_read_file(_find(Path(folder), names, task), task)) for names in SPLITS.values())
        return TaskData(task, *splits, source=Path(folder).resolve().name)
    source = task.source(language)
    if source is None:
        return None
    codes = {"sib200": language.sib200, "wikiann": language.wikiann}
    name = source.name and source.name.format(**codes)
    try:
        if source is task.everywhere and name not in get_dataset_config_names(source.path):
            return None
        return TaskData(task, *(tuple(_read_hub(source, name, split, task)) for split in SPLITS), source=source.path)
    except DatasetNotFoundError:
        raise FileNotFoundError(f"{task.name}: there is no data set {source.path} on the Hub, or it needs a login") from None
    except ConnectionError as error:
        raise ConnectionError(
            f"{task.name}: the Hugging Face Hub cannot be reached to load {source.path}; "
            f"give local files: --task_data {task.name}=DIR"
        ) from error


def _find(folder: Path, names: tuple[str, ...], task: Task) -> Path:
    """The one file of a split."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{task.name}: there is no folder {folder}")
    found = [path for path in sorted(folder.iterdir()) if path.stem in names and path.suffix in READERS]
    if len(found) != 1:
        wanted = " or ".join(f"{name}{suffix}" for name in names for suffix in READERS)
        raise FileNotFoundError(f"{task.name}: {folder} must hold one file {wanted}; it holds {len(found)}")
    return found[0]


def _read_file(path: Path, task: Task) -> Iterator[Example]:
    for number, inputs, labels in READERS[path.suffix](path, task):
        yield _checked(inputs, labels, task, f"{path}, line {number}")


def _checked(inputs: Any, labels: Any, task: Task, where: str) -> Example:
    """An example, once its parts are what the task needs."""
    if not task.tokens:
        if not isinstance(inputs, str) or not inputs.strip() or not isinstance(labels, str | int):
            raise ValueError(f"{where}: {task.name} needs a text that is not blank and a label")
        return Example(inputs, str(labels))
    lists = isinstance(inputs, list) and isinstance(labels, list) and all(isinstance(x, str) for x in [*inputs, *labels])
    if not lists or not inputs:
        raise ValueError(f"{where}: {task.name} needs a list of tokens and a list of their tags")
    if len(inputs) != len(labels):
        raise ValueError(f"{where}: {len(inputs)} tokens but {len(labels)} tags; give a tag for every token")
    return Example(tuple(inputs), tuple(labels))


def _read_json(path: Path, task: Task) -> Iterator[tuple[int, Any, Any]]:
    columns = ("tokens", "tags") if task.tokens else ("text", "label")
    for number, row in read_json_lines(path):
        if not set(columns) <= set(row):
            raise ValueError(f"{path}, line {number}: {task.name} needs a JSON object with {' and '.join(columns)}")
        yield number, row[columns[0]], row[columns[1]]


def _read_conll(path: Path, task: Task) -> Iterator[tuple[int, Any, Any]]:
    """CoNLL-2003: the token first on its line, its tag last; blank lines between sentences."""
    tokens, tags = [], []
    for number, line in enumerate(chain(read_lines(path), [""]), start=1):
        parts = line.split()
        if parts and parts[0] != "-DOCSTART-":
            if len(parts) < 2:
                raise ValueError(f"{path}, line {number}: a token without a tag; give both, separated by a space")
            tokens.append(parts[0]), tags.append(parts[-1])
        elif tokens:
            yield number - 1, tokens, tags
            tokens, tags = [], []


def _read_conllu(path: Path, task: Task) -> Iterator[tuple[int, Any, Any]]:
    """CoNLL-U: FORM and UPOS of every syntactic word; multiword ranges (1-2) and empty nodes (1.1) have none."""
    tokens, tags = [], []
    for number, line in enumerate(chain(read_lines(path), [""]), start=1):
        parts = line.split("\t")
        if line.startswith("#"):
            continue
        if parts[0].isdigit():
            if len(parts) != 10:
                raise ValueError(f"{path}, line {number}: {len(parts)} columns; CoNLL-U has 10, separated by tabs")
            tokens.append(parts[1]), tags.append(parts[3])
        elif not line.strip() and tokens:
            yield number - 1, tokens, tags
            tokens, tags = [], []


READERS = {".jsonl": _read_json, ".conllu": _read_conllu, ".conll": _read_conll}


def _read_hub(source: HubSource, name: str | None, split: str, task: Task) -> Iterator[Example]:
    if source.revision == PARQUET_BRANCH:
        try:
            rows = load_parquet_branch(source.path, name, split)
        except ValueError:  # datasets' answer where the pattern finds nothing
            missing = f"{task.name}: {source.path} has no {name}"
            raise FileNotFoundError(f"{missing}; give local files: --task_data {task.name}=DIR") from None
    else:
        rows = load_dataset(source.path, name, split=split, revision=source.revision)
    for column in (source.inputs, source.labels):
        if column not in rows.column_names:
            raise ValueError(f"{source.path} has no column {column!r}; there are: {', '.join(rows.column_names)}")
    feature = rows.features[source.labels]
    names = _class_names(feature)
    for index, row in enumerate(rows):
        inputs, labels = row[source.inputs], row[source.labels]
        if names:
            labels = [names[label] for label in labels] if task.tokens else names[labels]
        if labels != source.without:
            yield _checked(inputs, labels, task, f"{source.path}, {split}, row {index}")


def _class_names(feature: Any) -> list[str] | None:
    """Names of labels that are stored as numbers."""
    inner = feature.feature if isinstance(feature, ListFeature) else feature
    return inner.names if isinstance(inner, ClassLabel) else None
