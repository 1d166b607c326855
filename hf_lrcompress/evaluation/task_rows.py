"""Files with an example a row and columns that have names: JSON lines, CSV, TSV and Parquet."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.tasks import Task
from hf_lrcompress.evaluation.word_lines import split_at_spaces
from hf_lrcompress.texts.rows import TABLES, kind_of, read_rows


def read_task_rows(path: Path, task: Task, chosen: Sequence[str | int] | None) -> Iterator[tuple[str, Any, Any]]:
    """Read examples: of each where it is, its text or tokens, and its label or tags.

    Args:
        path (`Path`): The file. In CSV and TSV tokens, and their tags, are separated by spaces.
        task ([`Task`]): The task.
        chosen (`Sequence[str | int]`, *optional*): Other columns than `text` and `label`, or `tokens` and `tags`.

    Raises:
        ValueError: If the file is damaged, or a row lacks a column.
    """
    inputs, labels = map(str, chosen or (("tokens", "tags") if task.tokens else ("text", "label")))
    separated = task.tokens and kind_of(path) in TABLES
    for where, row in read_rows(path, [inputs, labels]):
        if inputs not in row or labels not in row:
            needed = f"{task.name} needs columns {inputs} and {labels}; there are: {', '.join(row)}"
            choose = f"choose others with --task_columns {task.name}=INPUTS,LABELS (in a configuration evaluate.columns)"
            raise ValueError(f"{where}: {needed}; {choose}")
        tags = row[labels]
        if separated and tags.strip().startswith("[") and tags.strip().endswith("]"):
            raise ValueError(f"{where}: a list as pandas or JSON writes it; give words with spaces between, or lists in .jsonl")
        if separated:
            yield where, split_at_spaces(row[inputs]), split_at_spaces(tags)
        else:
            yield where, row[inputs], tags
