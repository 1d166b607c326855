"""Reading a task's data from local files: JSON lines, CoNLL-U and CoNLL-2003. Errors are one line: which file, which line."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.examples import Example, checked_example
from hf_lrcompress.evaluation.tasks import Task
from hf_lrcompress.texts.readers import read_json_lines, read_lines


def read_split(folder: Path, names: tuple[str, ...], task: Task) -> Iterator[Example]:
    """Read a split.

    Args:
        folder (`Path`): Where its file is.
        names (`tuple[str, ...]`): What the file may be called, without its ending.
        task ([`Task`]): The task.

    Raises:
        ValueError: If the file or a label is wrong.
        OSError: If there is no such folder, or not one such file.
    """
    path = _find(folder, names, task)
    for number, inputs, labels in READERS[path.suffix](path, task):
        yield checked_example(inputs, labels, task, f"{path}, line {number}")


def _find(folder: Path, names: tuple[str, ...], task: Task) -> Path:
    """The one file of a split."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{task.name}: there is no folder {folder}")
    found = [path for path in sorted(folder.iterdir()) if path.stem in names and path.suffix in READERS]
    if len(found) != 1:
        wanted = " or ".join(f"{name}{suffix}" for name in names for suffix in READERS)
        raise FileNotFoundError(f"{task.name}: {folder} must hold one file {wanted}; it holds {len(found)}")
    return found[0]


def _read_json(path: Path, task: Task) -> Iterator[tuple[int, Any, Any]]:
    columns = ("tokens", "tags") if task.tokens else ("text", "label")
    for number, row in read_json_lines(path):
        if not set(columns) <= set(row):
            raise ValueError(f"{path}, line {number}: {task.name} needs a JSON object with {' and '.join(columns)}")
        yield number, row[columns[0]], row[columns[1]]


def _read_conll(path: Path, task: Task) -> Iterator[tuple[int, Any, Any]]:
    """CoNLL-2003: the token first on its line, its tag last; blank lines between sentences."""
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(chain(read_lines(path), [""]), start=1):
        parts = line.split()
        if parts and parts[0] != "-DOCSTART-":
            if len(parts) < 2:
                raise ValueError(f"{path}, line {number}: a token without a tag; give both, separated by a space")
            tokens.append(parts[0])
            tags.append(parts[-1])
        elif tokens:
            yield number - 1, tokens, tags
            tokens = []
            tags = []


def _read_conllu(path: Path, task: Task) -> Iterator[tuple[int, Any, Any]]:
    """CoNLL-U: FORM and UPOS of every syntactic word; multiword ranges (1-2) and empty nodes (1.1) have none."""
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(chain(read_lines(path), [""]), start=1):
        parts = line.split("\t")
        if line.startswith("#"):
            continue
        if parts[0].isdigit():
            if len(parts) != 10:
                raise ValueError(f"{path}, line {number}: {len(parts)} columns; CoNLL-U has 10, separated by tabs")
            tokens.append(parts[1])
            tags.append(parts[3])
        elif not line.strip() and tokens:
            yield number - 1, tokens, tags
            tokens = []
            tags = []


READERS = {".jsonl": _read_json, ".conllu": _read_conllu, ".conll": _read_conll}
