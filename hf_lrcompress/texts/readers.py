"""Documents of files and of data sets on the Hub. Errors are one line: where, what to do."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset, config, load_dataset
from datasets.exceptions import DatasetNotFoundError

from hf_lrcompress.messages import one_line
from hf_lrcompress.texts.lines import read_json_lines, read_lines, read_table_lines

DEMO_COMMAND = "hf-lrcompress compress --lang sk --config demo"

PARQUET_BRANCH = "refs/convert/parquet"
"""Where the Hub keeps its own parquet copy of a data set that has a loading script. It has files, but no configurations."""

_PROBE_SECONDS = 10


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
    # The branch is the Hub's own, and has no other revisions.
    return load_dataset("parquet", data_files=files, split="train", streaming=streaming)  # nosec B615


def _text_documents(file: str, column: str) -> Iterator[str]:
    return read_lines(file)


def _row_documents(
    read_rows: Callable[[str], Iterator[tuple[int, Mapping[str, Any]]]], file: str, column: str
) -> Iterator[str | None]:
    for number, row in read_rows(file):
        where = f"{file}, line {number}"
        _check_column(column, row, where)
        yield _checked(row[column], column, where)


def _parquet_documents(file: str, column: str) -> Iterator[str | None]:
    row = 0
    try:
        parquet = pq.ParquetFile(file)
        _check_column(column, parquet.schema_arrow.names, file)
        for batch in parquet.iter_batches(columns=[column]):
            for value in batch.column(0):
                row += 1
                yield _checked(value.as_py(), column, file)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"{file}, row {row}: byte 0x{byte:02x} is not UTF-8; write the file again from UTF-8 text") from None
    except (pa.ArrowException, OSError) as error:
        kind = f"damaged after row {row}" if row else "not a Parquet file, or a damaged one"
        said = " ".join(str(error).split())
        raise ValueError(f"{file} is {kind} ({said}); make or download it again, or name it after what it is") from None


_json_documents = partial(_row_documents, read_json_lines)
_table_documents = partial(_row_documents, read_table_lines)
_READERS_OF_LINES: dict[str, Callable[[str, str], Iterator[str | None]]] = {
    ".txt": _text_documents,
    ".jsonl": _json_documents,
    ".json": _json_documents,
    ".csv": _table_documents,
    ".tsv": _table_documents,
}
READERS = _READERS_OF_LINES | {f"{kind}.gz": read for kind, read in _READERS_OF_LINES.items()} | {".parquet": _parquet_documents}
"""How to read the documents of a file, by its [`kind_of`]; `column` says where in a row they are."""


def kind_of(file: str | Path) -> str:
    """How the name of a file ends: `".txt"`, `".txt.gz"`."""
    path = Path(file)
    return Path(path.stem).suffix + path.suffix if path.suffix == ".gz" else path.suffix


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
    except RuntimeError as error:  # datasets no longer runs the scripts that some data sets are read by
        raise ValueError(
            f"{where} cannot be read: {one_line(error)}; try `revision: {PARQUET_BRANCH}`, the Hub's copy"
        ) from error
    for row in rows:
        _check_column(column, row, where)
        yield _checked(row[column], column, where)


def _probe_hub() -> None:
    """Ask the Hub for a sign of life: `load_dataset` would repeat its request for half a minute."""
    try:
        question = urllib.request.Request(config.HF_ENDPOINT, method="HEAD")
        urllib.request.urlopen(question, timeout=_PROBE_SECONDS).close()  # nosec B310  # the user's own endpoint
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
