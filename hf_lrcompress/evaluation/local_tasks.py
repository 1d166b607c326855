"""Reading a task's data from a local folder. Errors are one line: which file, which line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.examples import LABEL_NAMES, SPLITS, Example, checked_example
from hf_lrcompress.evaluation.task_rows import read_task_rows
from hf_lrcompress.evaluation.tasks import Task
from hf_lrcompress.evaluation.word_lines import KINDS_OF_WORDS, read_word_lines
from hf_lrcompress.messages import shown
from hf_lrcompress.texts.lines import read_lines
from hf_lrcompress.texts.rows import KINDS_OF_ROWS, kind_of, named

ROW_READERS = dict.fromkeys(KINDS_OF_ROWS, read_task_rows)
WORD_READERS = dict.fromkeys(KINDS_OF_WORDS, read_word_lines)
SHARD = re.compile(r"-\d{5}-of-\d{5}")
"""What the Hub adds to the name of a file that is one of several."""


def read_split(folder: Path, names: tuple[str, ...], task: Task, columns: Sequence[str | int] | None = None) -> Iterator[Example]:
    """Read a split.

    Args:
        folder (`Path`): Where its file is.
        names (`tuple[str, ...]`): What the file may be called, without its ending; a `-` and what is before it do not count.
        task ([`Task`]): The task.
        columns (`Sequence[str | int]`, *optional*): The two columns, where they are not the usual ones.

    Raises:
        ValueError: If the file or a label is wrong.
        OSError: If there is no such folder, or not one such file.
    """
    if columns is not None and (not isinstance(columns, list | tuple) or len(set(map(str, columns))) != 2):
        raise ValueError(f"columns of {task.name}: give two, that of the inputs and that of the labels, got {columns!r}")
    path = _find(folder, names, task)
    label_names = _read_label_names(folder)
    for where, inputs, labels in _readers(task)[kind_of(path)](path, task, columns):
        if label_names:
            labels = named(labels, label_names, where, LABEL_NAMES)
        yield checked_example(inputs, labels, task, where)


def files_of(folder: Path, task: Task) -> list[Path]:
    """The files of a folder that a task is read from: of all splits, and the names of labels.

    Args:
        folder (`Path`): The folder; where there is none there are no files.
        task ([`Task`]): The task.
    """
    names = tuple(name for of_split in SPLITS.values() for name in of_split)
    files = [path for path in sorted(folder.glob("*")) if path.is_file()]
    return [path for path in files if path.name == LABEL_NAMES or _is_of(path, names, task)]


def _readers(task: Task) -> dict[str, Any]:
    """What reads a task's files, by their endings."""
    return ROW_READERS | WORD_READERS if task.tokens else ROW_READERS


def _is_of(path: Path, names: tuple[str, ...], task: Task) -> bool:
    """Whether a file is one of a split's, by its name."""
    kind = kind_of(path)
    name = SHARD.sub("", path.name.lower().removesuffix(kind))
    return name.split("-")[-1] in names and kind in _readers(task)


def _find(folder: Path, names: tuple[str, ...], task: Task) -> Path:
    """The one file of a split."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{task.name}: there is no folder {folder}")
    found = [path for path in sorted(folder.iterdir()) if _is_of(path, names, task)]
    if len(found) != 1:
        wanted = f"{' or '.join(names)} ({', '.join(_readers(task))})"
        raise FileNotFoundError(f"{task.name}: {folder} must hold one file {wanted}; it holds {len(found)}")
    return found[0]


def _read_label_names(folder: Path) -> list[str]:
    """Names of labels that are numbers: on the first line that of 0. None where there is no such file."""
    path = folder / LABEL_NAMES
    names = [line.strip() for line in read_lines(path)] if path.exists() else []
    twice = [name for index, name in enumerate(names) if name and name in names[:index]]
    if twice:
        raise ValueError(f"{path} has {shown(twice[0])} twice; give each label a name of its own")
    return names
