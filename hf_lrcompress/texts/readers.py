"""Reading files and the Hub: lines, JSON objects, parquet, and documents from each. Errors are one line: where, what to do."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset, config, load_dataset
from datasets.exceptions import DatasetNotFoundError

DEMO_COMMAND = "accelerate launch recipes/compress.py --lang sk --config recipes/configs/demo.yaml"

PARQUET_BRANCH = "refs/convert/parquet"
"""Where the Hub keeps its own parquet copy of a data set that has a loading script. It has files, but no configurations."""

_PROBE_SECONDS = 10


def read_lines(file: str | Path) -> Iterator[str]:
    """Lines of a UTF-8 file, without what ends them.

    Raises:
        ValueError: If a line is not UTF-8.
    """
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise ValueError(f"{file}, line {number}: byte 0x{byte:02x} is not UTF-8; convert the file to UTF-8") from None


def read_json_lines(file: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file with a JSON object a line, each with the number of its line.

    Raises:
        ValueError: If a line that is not blank is not UTF-8 or no JSON object.
    """
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            where = f"{file}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON ({error.msg}); give one JSON object a line") from None
            if not isinstance(row, dict):
                raise ValueError(f"{where}: not a JSON object; give one JSON object a line")
            yield number, row


def load_parquet_branch(path: str, name: str | None, split: str, streaming: bool = False) -> Dataset | IterableDataset:
    """The Hub's own parquet copy of a data set that has a loading script.

    Args:
        path (`str`): The data set.
        name (`str`, *optional*): The data set's configuration, if it has any.
        split (`str`): The split.
        streaming (`bool`, *optional*, defaults to `False`): Download while reading instead of before it.
    """
    branch = PARQUET_BRANCH.replace("/", "%2F")
    files = f"hf://datasets/{path}@{branch}/{name or 'default'}/{split}/*.parquet"
    return load_dataset("parquet", data_files=files, split="train", streaming=streaming)


def _text_documents(file: str, column: str) -> Iterator[str]:
    return read_lines(file)


def _json_documents(file: str, column: str) -> Iterator[str | None]:
    for number, row in read_json_lines(file):
        where = f"{file}, line {number}"
        _check_column(column, row, where)
        yield _checked(row[column], column, where)


def _parquet_documents(file: str, column: str) -> Iterator[str | None]:
    try:
        parquet = pq.ParquetFile(file)
    except pa.ArrowInvalid:
        raise ValueError(f"{file} is not a Parquet file; give one, or name it after what it is") from None
    _check_column(column, parquet.schema_arrow.names, file)
    for batch in parquet.iter_batches(columns=[column]):
        yield from (_checked(text, column, file) for text in batch.column(0).to_pylist())


READERS = {".txt": _text_documents, ".jsonl": _json_documents, ".json": _json_documents, ".parquet": _parquet_documents}
"""How to read the documents of a file, by how its name ends; `column` says where in a row they are."""


def read_hub(path: str, name: str | None, split: str, revision: str | None, column: str) -> Iterator[str | None]:
    """Documents of a data set on the Hub, downloaded as they are read.

    Args:
        path (`str`): The data set.
        name (`str`, *optional*): The data set's configuration, if it has any.
        split (`str`): The split.
        revision (`str`, *optional*): Branch, tag or commit; [`PARQUET_BRANCH`] for the Hub's parquet copy.
        column (`str`): Where in a row the document is.

    Raises:
        FileNotFoundError: If there is no such data set.
        ConnectionError: If the Hub cannot be reached.
        ValueError: If the column is missing or holds no text.
    """
    where = f"{path} ({name})" if name else path
    try:
        if not config.HF_HUB_OFFLINE:
            _probe_hub()
        if revision == PARQUET_BRANCH:
            rows = load_parquet_branch(path, name, split, streaming=True)
        else:
            rows = load_dataset(path, name, split=split, revision=revision, streaming=True)
    except DatasetNotFoundError:
        raise FileNotFoundError(f"there is no data set {where} on the Hub, or it needs a login") from None
    except ConnectionError as error:
        reached = f"the Hugging Face Hub cannot be reached to load {where}"
        raise ConnectionError(f"{reached}; a run without it: {DEMO_COMMAND}") from error
    for row in rows:
        _check_column(column, row, where)
        yield _checked(row[column], column, where)


def _probe_hub() -> None:
    """Ask the Hub for a sign of life: `load_dataset` would repeat its request for half a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(config.HF_ENDPOINT, method="HEAD"), timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _check_column(column: str, columns: Iterable[str], where: str) -> None:
    if column not in columns:
        raise ValueError(f"{where} has no column {column!r}; there are: {', '.join(columns)}")


def _checked(text: object, column: str, where: str) -> str | None:
    if not isinstance(text, str | None):
        raise ValueError(f"{where}: column {column!r} holds {type(text).__name__}, not text; name another column")
    return text
