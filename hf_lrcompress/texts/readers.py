"""Documents of files and of data sets on the Hub. Errors are one line: where, what to do."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

from datasets import Dataset, IterableDataset, config, load_dataset
from datasets.exceptions import DatasetNotFoundError

from hf_lrcompress.messages import one_line
from hf_lrcompress.texts.lines import read_lines
from hf_lrcompress.texts.rows import KINDS_OF_ROWS, check_column, read_rows

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


def _line_documents(file: str, column: str) -> Iterator[str]:
    return read_lines(file)


def _row_documents(file: str, column: str) -> Iterator[str | None]:
    for where, row in read_rows(file, [column]):
        check_column(column, row, where)
        yield _checked(row[column], column, where)


READERS: dict[str, Callable[[str, str], Iterator[str | None]]] = {
    ".txt": _line_documents,
    ".txt.gz": _line_documents,
    **dict.fromkeys(KINDS_OF_ROWS, _row_documents),
}
"""How to read the documents of a file, by its [`kind_of`]; `column` says where in a row they are."""


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
        check_column(column, row, where)
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


def _checked(text: object, column: str, where: str) -> str | None:
    if not isinstance(text, str | None):
        raise ValueError(f"{where}: column {column!r} holds {type(text).__name__}, not text; name another column")
    return text
