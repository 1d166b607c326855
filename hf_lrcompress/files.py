"""Files: hashes of them, and writing so that a file is there whole or not at all."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def text_hash(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def json_hash(value: Any) -> str:
    """SHA-256 of a JSON-like value, whatever the order of its keys."""
    return text_hash(json.dumps(value, sort_keys=True, default=str))


def fingerprint(*parts: Any) -> str:
    """A short hash of JSON-like values."""
    return json_hash(parts)[:16]


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"file {path} does not exist")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, a file or a folder, which is renamed to `path` once all is written.

    What an interrupted process left there is deleted. Where several processes may write the same path, lock it.
    """
    partial = path.with_name(path.name + ".partial")
    _delete(partial)
    try:
        yield partial
        partial.replace(path)
    finally:
        _delete(partial)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def copy_directory(source: Path, target: Path, ignore: Sequence[str], extra: Mapping[str, bytes]) -> None:
    """Copy `source` and the files `extra` (name → content) to the new directory `target`, which is there whole or not at all."""
    with written_whole(target) as partial:
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*ignore))
        for name, content in extra.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)


def _delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
