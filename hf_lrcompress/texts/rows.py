"""Rows of files whose columns have names: JSON lines, CSV, TSV and Parquet. Errors are one line: file, line, what to do."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features
from datasets import List as ListFeature

from hf_lrcompress.texts.lines import read_json_lines, read_table_lines

PARQUET = ".parquet"
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
KINDS_OF_ROWS = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz", PARQUET)
"""How the names of files end that [`read_rows`] reads."""


def kind_of(file: str | Path) -> str:
    """How the name of a file ends, in small letters: `".txt"`, `".txt.gz"`."""
    path = Path(Path(file).name.lower())
    return Path(path.stem).suffix + path.suffix if path.suffix == ".gz" else path.suffix


def read_rows(file: str | Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a file, each with where it is: the file and the number of its line.

    Args:
        file (`str` or `Path`): A file of one of [`KINDS_OF_ROWS`].
        columns (`Sequence[str]`): What is needed of a row. Others may be left out, a missing one is the caller's to refuse.

    Raises:
        ValueError: If the file is damaged.
    """
    kind = kind_of(file)
    if kind == PARQUET:
        yield from _read_parquet(file, columns)
        return
    read = read_table_lines if kind in TABLES else read_json_lines
    for number, row in read(file):
        yield f"{file}, line {number}", row


def check_column(column: str, columns: Iterable[str], where: str) -> None:
    """Raise a `ValueError` that names the columns there are if one is not among them."""
    if column not in columns:
        raise ValueError(f"{where} has no column {column!r}; there are: {', '.join(columns)}")


def class_names(feature: Any) -> list[str] | None:
    """Names of labels that a column of `datasets` holds as numbers, or as lists of them; `None` where it does not."""
    inner = feature.feature if isinstance(feature, ListFeature) else feature
    return inner.names if isinstance(inner, ClassLabel) else None


def named(labels: Any, names: Sequence[str], where: str, source: str) -> Any:
    """Labels by their names: a number, or a list of them. What is no number stays as it is.

    Args:
        labels (`Any`): The labels.
        names (`Sequence[str]`): The names, that of 0 first.
        where (`str`): Where the labels are, for the message.
        source (`str`): What has the names, for the message.

    Raises:
        ValueError: If a number has no name, as -1 where a data set keeps the labels of its test to itself.
    """
    if isinstance(labels, list):
        return [named(label, names, where, source) for label in labels]
    if not str(labels).removeprefix("-").isdecimal():
        return labels
    if not 0 <= int(labels) < len(names):
        raise ValueError(f"{where}: label {labels} has no name; {source} has {len(names)}, the first for 0")
    return names[int(labels)]


def _read_parquet(file: str | Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    row = 0
    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        read = [name for name in schema.names if name in columns] if set(columns) <= set(schema.names) else schema.names
        names = {name: stored for name in read if (stored := _stored_names(schema, name))}
        for batch in parquet.iter_batches(columns=read):
            for values in zip(*(batch.column(name) for name in read), strict=True):
                row += 1
                where = f"{file}, row {row}"
                cells = {name: value.as_py() for name, value in zip(read, values, strict=True)}
                yield where, cells | {name: named(cells[name], of_labels, where, "the file") for name, of_labels in names.items()}
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"{file}, row {row}: byte 0x{byte:02x} is not UTF-8; write the file again from UTF-8 text") from None
    except (pa.ArrowException, OSError) as error:
        kind = f"damaged after row {row}" if row else "not a Parquet file, or a damaged one"
        said = " ".join(str(error).split())
        raise ValueError(f"{file} is {kind} ({said}); make or download it again, or name it after what it is") from None


def _stored_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of a column's labels, where `datasets` has written the file."""
    field = schema.field(column)
    inner = field.type.value_type if pa.types.is_list(field.type) else field.type
    if not pa.types.is_integer(inner):
        return None
    return class_names(Features.from_arrow_schema(pa.schema([field], schema.metadata))[column])
