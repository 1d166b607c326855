"""Files with an example a row and columns that have names: JSON lines, CSV and TSV."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.tasks import Task
from hf_lrcompress.evaluation.word_lines import split_at_spaces
from hf_lrcompress.texts.lines import read_json_lines, read_table_lines

TABLES = (".csv", ".tsv")


def read_rows(path: Path, task: Task, chosen: Sequence[str | int] | None) -> Iterator[tuple[int, Any, Any]]:
    """Read examples: of each the number of its line, its text or tokens, and its label or tags.

    Args:
        path (`Path`): The file. In CSV and TSV tokens, and their tags, are separated by spaces.
        task ([`Task`]): The task.
        chosen (`Sequence[str | int]`, *optional*): Other columns than `text` and `label`, or `tokens` and `tags`.

    Raises:
        ValueError: If the file is damaged, or a row lacks a column.
    """
    is_table = path.suffix in TABLES
    read: Callable[[Path], Iterator[tuple[int, dict[str, Any]]]] = read_table_lines if is_table else read_json_lines
    inputs, labels = map(str, chosen or (("tokens", "tags") if task.tokens else ("text", "label")))
    for number, row in read(path):
        if inputs not in row or labels not in row:
            kind = "a table" if is_table else "a JSON object"
            needed = f"{task.name} needs {kind} with {inputs} and {labels}; there are: {', '.join(row)}"
            choose = f"choose others with --task_columns {task.name}=INPUTS,LABELS (in a configuration evaluate.columns)"
            raise ValueError(f"{path}, line {number}: {needed}; {choose}")
        if is_table and task.tokens:
            yield number, split_at_spaces(row[inputs]), split_at_spaces(row[labels])
        else:
            yield number, row[inputs], row[labels]
