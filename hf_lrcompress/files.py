"""Files: hashes of them, and writing so that a file is there whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

FileRecords = Mapping[str, Mapping[str, Any]]
"""By a file's path in its folder: `sha256`, `bytes` and `modified_ns`."""

ALWAYS_HASHED = 4_000_000_000
"""Bytes of a folder up to which all its files are hashed to compare them; above it recorded size and time are believed."""

LOCK_FILE = ".lock"


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
        FileNotFoundError, IsADirectoryError: If there is no such file.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file")
    if not Path(path).is_file():
        raise FileNotFoundError(f"file {path} does not exist")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lasting_files(folder: Path, but: Sequence[str]) -> Iterator[Path]:
    """The files in a folder and below it, but for what matches one of the patterns `but` at its top."""
    for path in sorted(folder.rglob("*")):
        top = folder / path.relative_to(folder).parts[0]
        if path.is_file() and not any(top.match(pattern) for pattern in but):
            yield path


def hash_files(folder: Path, but: Sequence[str] = ()) -> FileRecords:
    """Have the files of a folder on the disk itself, and hash them; `but` as in [`lasting_files`]."""
    records = {}
    for path in lasting_files(folder, but):
        sync(path)
        stat = path.stat()
        content = {"sha256": file_hash(path), "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}
        records[path.relative_to(folder).as_posix()] = content
    return records


def check_records(recorded: FileRecords) -> None:
    """Raise a `ValueError` if records of files are damaged."""
    kinds = {"sha256": str, "bytes": int, "modified_ns": int}
    for name, record in recorded.items():
        if not isinstance(record, Mapping) or not all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
            raise ValueError(f"the record of {name} has no {', '.join(kinds)}")


def changed_file(folder: Path, recorded: FileRecords) -> str | None:
    """The first of the recorded files that is missing or has other bytes than were recorded; `None` if there is none."""
    hash_all = sum(record["bytes"] for record in recorded.values()) <= ALWAYS_HASHED
    for name, record in recorded.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != record["bytes"]:
            return name
        same_time = path.stat().st_mtime_ns == record["modified_ns"]
        if (hash_all or not same_time) and file_hash(path) != record["sha256"]:
            return name
    return None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, a file or a folder, which is renamed to `path` once all is written and on the disk.

    What an interrupted process left there is deleted. Where several processes may write the same path, lock it.
    """
    partial = path.with_name(path.name + ".partial")
    delete(partial)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        _sync_one(path.parent)
    finally:
        delete(partial)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON object that this package has written.

    Args:
        path (`Path`): The file.
        advice (`str`): What to do if it is damaged.

    Raises:
        ValueError: If it holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged, it holds no JSON object; {advice}")
    return content


def copy_directory(source: Path, target: Path, ignore: Sequence[str], extra: Mapping[str, bytes | Path]) -> None:
    """Copy `source` and the files `extra` to the new directory `target`, which is there whole or not at all.

    Args:
        source (`Path`): A folder.
        target (`Path`): The folder to make.
        ignore (`Sequence[str]`): Patterns of what is not copied.
        extra (`Mapping[str, bytes | Path]`): Further files: by their path in `target` their content, or the file that has it.
    """
    with written_whole(target) as partial:
        shutil.copytree(source, partial, ignore=shutil.ignore_patterns(*ignore))
        for name, content in extra.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copy(content, partial / name)
            else:
                (partial / name).write_bytes(content)


def sync(path: Path) -> None:
    """Wait until a file, or a folder with all in it, is on the disk itself: it is there after a power cut too."""
    for inner in path.rglob("*") if path.is_dir() else ():
        _sync_one(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_can_be_folder(folder: Path) -> None:
    """Refuse what is a file, or lies below one.

    Raises:
        FileExistsError: If it does.
    """
    for path in (folder, *folder.parents):
        if path.is_file():
            raise FileExistsError(f"{path} is a file; give another output_dir")


def free_bytes(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    return shutil.disk_usage(nearest_existing(folder)).free


def nearest_existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def locked(folder: Path, user: str) -> AcquireReturnProxy:
    """Make a folder, and keep other processes out of it.

    Args:
        folder (`Path`): The folder; it need not exist.
        user (`str`): Who may be using it, for the message: `"another run"`.

    Returns:
        `AcquireReturnProxy`: A context manager that lets others in at its end; its `lock` can be released before.

    Raises:
        FileExistsError: If another process is using it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / LOCK_FILE, timeout=0).acquire()
    except Timeout as error:
        raise FileExistsError(f"{user} is using {folder}; wait for it or give another folder") from error


def delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
