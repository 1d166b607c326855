"""Files with an example a row and columns that have names: JSON lines, CSV and TSV."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_lrcompress.evaluation.tasks import Task
from hf_lrcompress.evaluation.word_lines import split_at_spaces
from hf_lrcompress.texts.lines import read_json_lines, read_lines

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
    inputs, labels = map(str, chosen or (("tokens", "tags") if task.tokens else ("text", "label")))
    for number, row in _read_table(path) if is_table else read_json_lines(path):
        if inputs not in row or labels not in row:
            kind = "a table" if is_table else "a JSON object"
            needed = f"{task.name} needs {kind} with {inputs} and {labels}; there are: {', '.join(row)}"
            choose = f"choose others with --task_columns {task.name}=INPUTS,LABELS (in a configuration evaluate.columns)"
            raise ValueError(f"{path}, line {number}: {needed}; {choose}")
        if is_table and task.tokens:
            yield number, split_at_spaces(row[inputs]), split_at_spaces(row[labels])
        else:
            yield number, row[inputs], row[labels]


def _read_table(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a file whose first line names the columns. In TSV a quotation mark is a character like any other."""
    lines = (f"{line}\n" for line in read_lines(path))
    is_tsv = path.suffix == ".tsv"
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if is_tsv else csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        for cells in filter(None, reader):
            if len(cells) != len(header):
                raise ValueError(f"{path}, line {reader.line_num}: {len(cells)} columns, the first line has {len(header)}")
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; is a quote not closed?") from None
