"""Reading a task's data from a local folder. Errors are one line: which file, which line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.examples import LABEL_NAMES, SPLITS, Example, checked_example
from hf_lrcompress.evaluation.task_rows import read_rows
from hf_lrcompress.evaluation.tasks import Task
from hf_lrcompress.evaluation.word_lines import read_word_lines
from hf_lrcompress.texts.lines import read_lines

ROW_READERS = {".jsonl": read_rows, ".csv": read_rows, ".tsv": read_rows}
WORD_READERS = {".conllu": read_word_lines, ".conll": read_word_lines, ".iob2": read_word_lines}


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
    for number, inputs, labels in _readers(task)[path.suffix](path, task, columns):
        where = f"{path}, line {number}"
        if label_names and isinstance(labels, list):
            labels = [_named(label, label_names, where) for label in labels]
        elif label_names:
            labels = _named(labels, label_names, where)
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
    return path.stem.split("-")[-1] in names and path.suffix in _readers(task)


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
    return list(read_lines(path)) if path.exists() else []


def _named(label: Any, names: list[str], where: str) -> Any:
    """A label, by its name if it is a number."""
    if not str(label).isdecimal():
        return label
    if int(label) >= len(names):
        raise ValueError(f"{where}: label {label} has no name; {LABEL_NAMES} has {len(names)}, the first for 0")
    return names[int(label)]
